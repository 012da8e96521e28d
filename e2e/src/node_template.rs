//! containerd's data with the images in it, prepared once per set of images: a node that starts from it has them at once.
//!
//! A clone shares the files of layers and blobs by hard links, which is safe because containerd never writes to those; its databases are copied.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest as _, Sha256};

use crate::access::checked;
use crate::binaries::{Binaries, short_hex};
use crate::clock::Stopwatch;
use crate::console::progress;
use crate::control_plane::ControlPlane;
use crate::images::{self, Built};
use crate::options::ClusterOptions;
use crate::supervisor::Request;
use crate::wait::{Seen, await_condition};
use crate::{node, paths};

/// Sets of images that are kept. Each has a size of about a gigabyte.
const KEPT: usize = 4;

/// Prepares the data for a set of images, unless the cache has it, and puts a clone of it into `target`. Returns how long the clone took: every start of
/// a node needs that, and what is prepared once is prepared ahead of time.
pub async fn clone_into(target: &Path, built: &[Built], binaries: &Binaries) -> Result<Duration> {
    let folder = paths::cache_dir()?.join("nodes");
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let lock = fs::File::create(folder.join(".lock")).context("creating the lock of the node templates")?;
    let locked = tokio::task::spawn_blocking(|| Flock::lock(lock, FlockArg::LockExclusive)).await?;
    let _lock = locked
        .map_err(|(_, errno)| errno)
        .context("locking the node templates")?;

    let snapshotter = node::snapshotter(&folder);
    let key = key(built, binaries, snapshotter)?;
    let template = folder.join(&key);
    if !template.is_dir() {
        make(&template, &key, built, binaries, snapshotter).await?;
        forget_oldest(&folder)?;
    }
    let watch = Stopwatch::start();
    let output = Command::new("cp")
        .args(["--archive", "--link"])
        .arg(&template)
        .arg(target)
        .output()
        .context("running cp")?;
    checked(&output, "cp")?;
    unshare_databases(target)?;
    Ok(watch.elapsed())
}

fn key(built: &[Built], binaries: &Binaries, snapshotter: &str) -> Result<String> {
    let mut lines: Vec<String> = built
        .iter()
        .map(|image| {
            format!(
                "{} {}",
                image.reference,
                image.layout.file_name().unwrap_or_default().display()
            )
        })
        .collect();
    lines.sort();
    lines.push(format!("{} {snapshotter}", binaries.dir_of("containerd")?.display()));
    Ok(short_hex(&Sha256::digest(lines.join("\n"))))
}

/// Imports into the containerd of a box that has nothing else, and takes its data away.
async fn make(template: &Path, key: &str, built: &[Built], binaries: &Binaries, snapshotter: &str) -> Result<()> {
    progress(format_args!("preparing a node with {} image(s) …", built.len()));
    let watch = Stopwatch::start();
    let options = ClusterOptions::named(format!("images-{key}"));
    let workshop = ControlPlane::create(&options, binaries.clone()).await?;
    workshop.run("containerd", node::containerd(&workshop, snapshotter)?, &options)?;
    await_condition("containerd", Duration::from_mins(1), || {
        std::future::ready(images::ctr(&workshop, &["version"]).map(|_| Seen::Done(())))
    })
    .await
    .with_context(|| workshop.log_tail("containerd"))?;
    images::import(&workshop, built)?;
    // In good order: its databases must be complete.
    workshop.sandbox().ask(&Request::Stop("containerd".to_owned()))?;
    fs::rename(workshop.dir().join("containerd"), template)
        .with_context(|| format!("renaming to {}", template.display()))?;
    tokio::task::spawn_blocking(move || workshop.down()).await??;
    progress(format_args!("prepared it in {:.1} s", watch.seconds()));
    Ok(())
}

/// Gives every database below `folder` a file of its own.
fn unshare_databases(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if !path.is_dir() {
            continue;
        }
        for file in fs::read_dir(&path)? {
            let file = file?.path();
            if file.extension().is_some_and(|extension| extension == "db") {
                let copy = file.with_extension("copy");
                fs::copy(&file, &copy)?;
                fs::rename(&copy, &file)?;
            }
        }
    }
    Ok(())
}

fn forget_oldest(folder: &Path) -> Result<()> {
    let mut templates: Vec<(SystemTime, PathBuf)> = fs::read_dir(folder)?
        .filter_map(Result::ok)
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    templates.sort();
    for (_, path) in templates.iter().rev().skip(KEPT) {
        fs::remove_dir_all(path).with_context(|| format!("removing {}", path.display()))?;
    }
    Ok(())
}
