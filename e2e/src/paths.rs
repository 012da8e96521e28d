//! Where things are kept: the cache that stays, and the state of a box that does not.
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Records and sockets of the boxes that are up. Short, because the path of a Unix socket has at most 107 bytes.
pub const REGISTRY_DIR: &str = "/run/tidewright";

/// What is expensive to make and never changes: `$TIDEWRIGHT_CACHE`, else `$XDG_CACHE_HOME/tidewright`, else `~/.cache/tidewright`.
pub fn cache_dir() -> Result<PathBuf> {
    if let Some(dir) = non_empty("TIDEWRIGHT_CACHE") {
        return std::path::absolute(dir).context("TIDEWRIGHT_CACHE is not a usable path");
    }
    if let Some(dir) = non_empty("XDG_CACHE_HOME") {
        return Ok(PathBuf::from(dir).join("tidewright"));
    }
    let home = non_empty("HOME").context("neither TIDEWRIGHT_CACHE nor XDG_CACHE_HOME nor HOME is set")?;
    Ok(PathBuf::from(home).join(".cache/tidewright"))
}

fn non_empty(variable: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(variable).filter(|value| !value.is_empty())
}

/// The files of one box: logs, certificates, etcd's and containerd's data. Removed with the box.
pub fn box_dir(name: &str) -> Result<PathBuf> {
    Ok(cache_dir()?.join("boxes").join(name))
}

/// The folder of this crate's sources: pins, Dockerfiles, manifests.
pub fn source_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The root of the repository.
pub fn repository_dir() -> &'static Path {
    source_dir().parent().unwrap_or(source_dir())
}

/// Where cargo puts what it makes, and we what is measured: `$CARGO_TARGET_DIR`, else `target`.
pub fn target_dir() -> PathBuf {
    non_empty("CARGO_TARGET_DIR").map_or_else(|| repository_dir().join("target"), PathBuf::from)
}

/// How a person calls `tidewright-box` from here, for hints: by its path, because nothing puts it on the PATH.
pub fn box_call() -> String {
    box_program().map_or_else(|_| "tidewright-box".to_owned(), |path| path.display().to_string())
}

/// The program that keeps a box. Its own path when it is running, else beside the test binary that cargo built.
pub fn box_program() -> Result<PathBuf> {
    for variable in ["TIDEWRIGHT_BOX_PROGRAM", "CARGO_BIN_EXE_tidewright-box"] {
        if let Some(path) = non_empty(variable) {
            return Ok(path.into());
        }
    }
    let here = std::env::current_exe().context("the path of this program")?;
    for dir in here.ancestors().skip(1).take(3) {
        let candidate = dir.join("tidewright-box");
        if candidate.is_file() {
            return Ok(candidate);
        }
    }
    anyhow::bail!(
        "tidewright-box was not found near {}: run `cargo build -p tidewright-e2e`",
        here.display()
    )
}
