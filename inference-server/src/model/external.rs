//! Files beside the model that hold its weights: plain files of the model's own folder, as long as the model says, reached by no link.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use tidewright_contract::exit::Reason;

use super::source::LoadError;
use super::tensors::External;

/// Longest name of a file on Linux.
const NAME_BYTES_MAX: usize = 255;

/// Checks every file that the model refers to; answers their bytes.
///
/// Links are refused because they lead out of the folder without showing it: a symbolic link by its target, a hard link to any file of the
/// volume that its maker could not read himself.
///
/// # Errors
/// `UnsafeExternalData`, with the tensor and the file.
pub fn check(folder: &Path, externals: &[External]) -> Result<u64, LoadError> {
    let mut lengths: BTreeMap<&str, u64> = BTreeMap::new();
    for external in externals {
        let refused = |what: String| {
            LoadError::new(
                Reason::UnsafeExternalData,
                format!("tensor {} keeps its data in another file: {what}", external.tensor),
            )
        };
        let name = external.location.as_str();
        if !is_plain(name) {
            let shown: String = name.chars().take(100).collect();
            return Err(refused(format!(
                "{shown:?} is not the plain name of a file in the model's folder"
            )));
        }
        let length = match lengths.get(name) {
            Some(length) => *length,
            None => length_of(&folder.join(name)).map_err(|what| refused(format!("{name:?} {what}")))?,
        };
        lengths.insert(name, length);
        let end = external.offset.checked_add(external.bytes);
        if end.is_none_or(|end| end > length) {
            return Err(refused(format!(
                "{name:?} has {length} bytes, {} at {} are needed",
                external.bytes, external.offset
            )));
        }
    }
    Ok(lengths.values().sum())
}

/// One component, and none of those with a meaning of their own.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name != "."
        && name != ".."
        && !name
            .chars()
            .any(|character| matches!(character, '/' | '\\') || character.is_control())
}

fn length_of(file: &Path) -> Result<u64, String> {
    let facts = fs::symlink_metadata(file).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "is not in the model's folder".to_owned(),
        _ => format!("cannot be looked at: {error}"),
    })?;
    if facts.file_type().is_symlink() {
        return Err("is a symbolic link; copy the file itself into the model's folder".to_owned());
    }
    if !facts.is_file() {
        return Err("is not a regular file".to_owned());
    }
    if facts.nlink() != 1 {
        return Err("is a hard link; copy the file itself into the model's folder".to_owned());
    }
    Ok(facts.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(location: &str, offset: u64, bytes: u64) -> External {
        External {
            tensor: "\"w\"".to_owned(),
            location: location.to_owned(),
            offset,
            bytes,
        }
    }

    #[test]
    fn only_a_plain_file_of_the_folder_that_is_long_enough() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("model");
        fs::create_dir(&folder).unwrap();
        fs::create_dir(folder.join("inner")).unwrap();
        fs::write(folder.join("w.bin"), [0; 100]).unwrap();
        fs::write(folder.join("inner/w.bin"), [0; 100]).unwrap();
        fs::write(outer.path().join("secret"), [0; 100]).unwrap();
        std::os::unix::fs::symlink("../secret", folder.join("soft")).unwrap();
        fs::hard_link(outer.path().join("secret"), folder.join("hard")).unwrap();
        let check = |external| check(&folder, &[external]).map_err(|error| (error.reason, error.message));

        assert_eq!(check(at("w.bin", 60, 40)), Ok(100));
        let long = "x".repeat(256);
        for (external, what) in [
            (at("w.bin", 61, 40), "has 100 bytes, 40 at 61 are needed"),
            (at("w.bin", u64::MAX, 40), "has 100 bytes"),
            (at("../secret", 0, 1), "not the plain name"),
            (at("inner/w.bin", 0, 1), "not the plain name"),
            (at("/etc/hostname", 0, 1), "not the plain name"),
            // The name by which ONNX Runtime itself means "at this address of the process".
            (at("*/_ORT_MEM_ADDR_/*", 4096, 1), "not the plain name"),
            (at("..", 0, 0), "not the plain name"),
            (at("", 0, 0), "not the plain name"),
            (at("w.bin\0", 0, 1), "not the plain name"),
            (at(&long, 0, 1), "not the plain name"),
            (at("inner", 0, 0), "not a regular file"),
            (at("soft", 0, 1), "is a symbolic link"),
            (at("hard", 0, 1), "is a hard link"),
            (at("none", 0, 1), "not in the model's folder"),
        ] {
            let location = external.location.clone();
            let (reason, message) = check(external).unwrap_err();
            assert_eq!(reason, Reason::UnsafeExternalData);
            assert!(
                message.starts_with("tensor \"w\"") && message.contains(what),
                "{location:?}: {message}"
            );
        }
    }
}
