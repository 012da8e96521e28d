//! Which models lie in a directory, and what their files take.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use tidewright_contract::config::{ModelConfig, is_name};
use tidewright_contract::exit::Reason;

use super::source::{self, LoadError};

/// More models than this in a directory are a mistake: they are all listed, named in messages, and looked at for each order.
const MODELS_MAX: usize = 10_000;

/// What a model needs at least: its file.
pub fn file_bytes(path: &Path) -> Result<u64, LoadError> {
    let file = source::find(path)?;
    let metadata = fs::metadata(&file);
    metadata.map(|metadata| metadata.len()).map_err(|error| {
        LoadError::new(
            Reason::ModelNotFound,
            format!("cannot look at {}: {error}", file.display()),
        )
    })
}

/// The models in a directory: `NAME.onnx`, `NAME/…` with a model in it, `NAME/VERSION/…`. What has no name that can be one is passed over.
///
/// # Errors
/// A sentence when the directory cannot be read or holds too many.
pub fn scan(directory: &Path) -> Result<Vec<ModelConfig>, String> {
    let unreadable =
        |error: std::io::Error| format!("cannot read {} (repository.directory): {error}", directory.display());
    // In the order of names: whoever lists twice sees the same.
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.is_dir() {
            let Some(name) = word(path.file_name()) else { continue };
            let mut versions = Vec::new();
            // One that cannot be read, or has just gone, takes no other along.
            let Ok(inside) = fs::read_dir(&path) else {
                tracing::warn!(folder = %path.display(), "a folder of the repository cannot be read");
                continue;
            };
            for below in inside.take(MODELS_MAX) {
                let Ok(below) = below else { continue };
                let below = below.path();
                if let (true, Some(version)) = (below.is_dir(), word(below.file_name())) {
                    versions.push((version, below));
                }
            }
            if versions.is_empty() || path.join("model.onnx").is_file() {
                found.insert((name.clone(), "1".to_owned()), path.clone());
            }
            found.extend(
                versions
                    .into_iter()
                    .map(|(version, path)| ((name.clone(), version), path)),
            );
        } else if path.extension().is_some_and(|extension| extension == "onnx")
            && let Some(name) = word(path.file_stem())
        {
            found.insert((name, "1".to_owned()), path);
        }
        if found.len() > MODELS_MAX {
            return Err(format!("{} holds more than {MODELS_MAX} models", directory.display()));
        }
    }
    let model = |((name, version), path)| ModelConfig {
        version,
        ..ModelConfig::new(name, path)
    };
    Ok(found.into_iter().map(model).collect())
}

fn word(name: Option<&OsStr>) -> Option<String> {
    let name = name?.to_str()?;
    is_name(name).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_folders_and_versions_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for path in ["one", "two/1", "two/10", "-bad", "empty"] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        for path in [
            "flat.onnx",
            "one/any.onnx",
            "two/1/model.onnx",
            "two/10/model.onnx",
            "README",
            ".hidden.onnx",
        ] {
            fs::write(root.join(path), b"").unwrap();
        }
        let found: Vec<(String, String)> = scan(root)
            .unwrap()
            .into_iter()
            .map(|model| (model.name, model.version))
            .collect();
        let expected = [("empty", "1"), ("flat", "1"), ("one", "1"), ("two", "1"), ("two", "10")];
        assert_eq!(
            found,
            expected.map(|(name, version)| (name.to_owned(), version.to_owned()))
        );
        assert!(scan(&root.join("none")).unwrap_err().contains("repository.directory"));
    }
}
