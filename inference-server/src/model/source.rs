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
    let source = Source::open(file, bytes_max)?;
    let mut bytes = Vec::new();
    bytes.reserve_exact(usize::try_from(source.length).unwrap_or(0));
    // The file may grow while it is read.
    let reading = (&source.file).take(bytes_max + 1).read_to_end(&mut bytes);
    reading.map_err(|error| unreadable(file, &error))?;
    source.check_length(bytes.len() as u64)?;
    Ok(bytes)
}

/// A file that is not longer than the limit, as far as is known before it has been read.
struct Source<'f> {
    path: &'f Path,
    file: File,
    length: u64,
    bytes_max: u64,
}

impl<'f> Source<'f> {
    fn open(path: &'f Path, bytes_max: u64) -> Result<Self, LoadError> {
        let opened = File::open(path).and_then(|file| file.metadata().map(|facts| (file, facts.len())));
        let (file, length) = opened.map_err(|error| unreadable(path, &error))?;
        let source = Self {
            path,
            file,
            length,
            bytes_max,
        };
        source.check_length(length)?;
        Ok(source)
    }

    fn check_length(&self, length: u64) -> Result<(), LoadError> {
        if length <= self.bytes_max {
            return Ok(());
        }
        Err(LoadError::new(
            Reason::ModelTooLarge,
            format!(
                "{} has {} bytes, at most {} can be read; keep the weights in a file beside it (ONNX external data)",
                self.path.display(),
                self.length.max(length),
                self.bytes_max
            ),
        ))
    }
}

fn unreadable(file: &Path, error: &io::Error) -> LoadError {
    LoadError::new(
        Reason::ModelLoadFailed,
        format!("cannot read {}: {error}", file.display()),
    )
}

/// `sha256:` and the hex digits of the model's digest; an error when it is not the expected one.
pub fn digest(bytes: &[u8], expected: Option<&str>) -> Result<String, LoadError> {
    as_expected(&Sha256::digest(bytes), expected)
}

fn as_expected(digest: &[u8], expected: Option<&str>) -> Result<String, LoadError> {
    let digest = format!("sha256:{}", hex(digest));
    match expected {
        Some(expected) if expected != digest => Err(LoadError::new(
            Reason::DigestMismatch,
            format!("the model's digest is {digest}, expected {expected}"),
        )),
        _ => Ok(digest),
    }
}

/// Of a file that is read only for its digest: what fits into the processor's cache.
const PIECE_BYTES: usize = 256 << 10;

/// A model's file, and the digest that it had when it was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pinned {
    pub file: PathBuf,
    /// `sha256:` and hex digits.
    pub digest: String,
}

impl Pinned {
    /// The model at a path, of which nothing is kept: for whoever needs the digest alone.
    ///
    /// # Errors
    /// As finding, reading and comparing the digest.
    pub fn of(path: &Path, expected: Option<&str>) -> Result<Self, LoadError> {
        let file = find(path)?;
        let source = Source::open(&file, Limits::default().file_bytes)?;
        let mut hasher = Sha256::new();
        let mut piece = vec![0; PIECE_BYTES];
        let mut length = 0;
        loop {
            let count = match (&source.file).read(&mut piece) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(unreadable(&file, &error)),
            };
            length += count as u64;
            source.check_length(length)?;
            hasher.update(piece.get(..count).unwrap_or_default());
        }
        let digest = as_expected(&hasher.finalize(), expected)?;
        Ok(Self { file, digest })
    }

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
    fn the_digest_of_a_file_is_that_of_its_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model.onnx");
        for length in [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES - 1] {
            let bytes: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
            fs::write(&file, &bytes).unwrap();
            let pinned = Pinned::of(folder.path(), None).unwrap();
            assert_eq!(pinned.digest, digest(&bytes, None).unwrap());
            assert_eq!(pinned.file, file);
            assert_eq!(pinned.read().unwrap(), bytes);
            let error = Pinned::of(folder.path(), Some("sha256:0")).unwrap_err();
            assert_eq!(error.reason, Reason::DigestMismatch);
        }
        let missing = Pinned::of(&folder.path().join("none"), None).unwrap_err();
        assert_eq!(missing.reason, Reason::ModelNotFound);
        File::options()
            .write(true)
            .open(&file)
            .and_then(|file| file.set_len(Limits::default().file_bytes + 1))
            .unwrap();
        assert_eq!(Pinned::of(&file, None).unwrap_err().reason, Reason::ModelTooLarge);
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
