//! From a configured path to a file and its digest.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tidewright_contract::exit::Reason;

use super::onnx::Limits;

/// Why a model cannot be served: a public word and a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct LoadError {
    pub reason: Reason,
    pub message: String,
}

impl LoadError {
    /// A reason with its sentence.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

/// The ONNX file at a path: the file itself, or in a directory `model.onnx` or the only `*.onnx`.
pub fn find(path: &Path) -> Result<PathBuf, LoadError> {
    let missing = |error: io::Error| {
        LoadError::new(
            Reason::ModelNotFound,
            format!("no model at {}: {error}", path.display()),
        )
    };
    if fs::metadata(path).map_err(missing)?.is_file() {
        return Ok(path.to_owned());
    }
    let conventional = path.join("model.onnx");
    if conventional.is_file() {
        return Ok(conventional);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(missing)? {
        let candidate = entry.map_err(missing)?.path();
        if candidate.extension().is_some_and(|extension| extension == "onnx") && candidate.is_file() {
            found.push(candidate);
        }
    }
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(LoadError::new(
            Reason::ModelNotFound,
            format!("no *.onnx file in {}", path.display()),
        )),
        count => Err(LoadError::new(
            Reason::ModelNotFound,
            format!(
                "{} holds {count} *.onnx files and none is named model.onnx; name the file",
                path.display()
            ),
        )),
    }
}

/// The whole file, if it is not longer than the limit.
pub fn read(file: &Path, bytes_max: u64) -> Result<Vec<u8>, LoadError> {
    let read_failed = |error: io::Error| {
        LoadError::new(
            Reason::ModelLoadFailed,
            format!("cannot read {}: {error}", file.display()),
        )
    };
    let source = File::open(file).map_err(read_failed)?;
    let length = source.metadata().map_err(read_failed)?.len();
    let mut bytes = Vec::new();
    if length <= bytes_max {
        bytes.reserve_exact(usize::try_from(length).unwrap_or(0));
        // The file may grow while it is read.
        source
            .take(bytes_max + 1)
            .read_to_end(&mut bytes)
            .map_err(read_failed)?;
    }
    if length > bytes_max || bytes.len() as u64 > bytes_max {
        return Err(LoadError::new(
            Reason::ModelTooLarge,
            format!(
                "{} has {} bytes, at most {bytes_max} can be read; keep the weights in a file beside it (ONNX external data)",
                file.display(),
                length.max(bytes.len() as u64)
            ),
        ));
    }
    Ok(bytes)
}

/// `sha256:` and the hex digits of the model's digest; an error when it is not the expected one.
pub fn digest(bytes: &[u8], expected: Option<&str>) -> Result<String, LoadError> {
    let digest = format!("sha256:{}", hex(&Sha256::digest(bytes)));
    match expected {
        Some(expected) if expected != digest => Err(LoadError::new(
            Reason::DigestMismatch,
            format!("the model's digest is {digest}, expected {expected}"),
        )),
        _ => Ok(digest),
    }
}

/// A model's file, and the digest that it had when it was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pinned {
    pub file: PathBuf,
    /// `sha256:` and hex digits.
    pub digest: String,
}

impl Pinned {
    /// The bytes that were checked, read anew: whoever loads these, and not the file, loads nothing else, whatever becomes of the file.
    ///
    /// # Errors
    /// `DigestMismatch` when the file holds other bytes by now.
    pub fn read(&self) -> Result<Vec<u8>, LoadError> {
        let bytes = read(&self.file, Limits::default().file_bytes)?;
        digest(&bytes, Some(&self.digest))?;
        Ok(bytes)
    }
}

/// Lower-case hex digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_resolved_to_its_only_model() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(find(folder.path()).unwrap_err().reason, Reason::ModelNotFound);
        fs::write(folder.path().join("a.onnx"), b"a").unwrap();
        fs::write(folder.path().join("README"), b"").unwrap();
        assert_eq!(find(folder.path()).unwrap(), folder.path().join("a.onnx"));
        fs::write(folder.path().join("b.onnx"), b"b").unwrap();
        assert!(
            find(folder.path())
                .unwrap_err()
                .message
                .contains("holds 2 *.onnx files")
        );
        fs::write(folder.path().join("model.onnx"), b"m").unwrap();
        assert_eq!(find(folder.path()).unwrap(), folder.path().join("model.onnx"));
        assert_eq!(
            find(&folder.path().join("none")).unwrap_err().reason,
            Reason::ModelNotFound
        );
    }

    #[test]
    fn a_wrong_digest_is_named() {
        let right = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest(b"abc", Some(right)).unwrap(), right);
        assert_eq!(
            digest(b"abc", Some("sha256:0")).unwrap_err().reason,
            Reason::DigestMismatch
        );
    }

    #[test]
    fn no_more_is_read_than_allowed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model.onnx");
        fs::write(&file, b"abc").unwrap();
        assert_eq!(read(&file, 3).unwrap(), b"abc");
        assert_eq!(read(&file, 2).unwrap_err().reason, Reason::ModelTooLarge);
        // A file without a length that is right.
        assert_eq!(
            read(Path::new("/dev/zero"), 2).unwrap_err().reason,
            Reason::ModelTooLarge
        );
    }
}
