//! The part of the config file that says which models are served.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModelConfig {
    /// Name in URLs and labels: 1 to 253 of `A-Z a-z 0-9 . _ -`, starting with a letter or digit.
    pub name: String,
    /// The ONNX file, or a directory that holds `model.onnx` or exactly one `*.onnx`.
    pub path: PathBuf,
    /// Version in URLs, metadata and labels; same characters as the name.
    #[serde(default = "default_model_version")]
    pub version: String,
    /// `sha256:` and 64 hex digits; when given, the file must have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Sizes that the dimensions which the model leaves free besides the first will have (tokens of a text, width of an image): it is warmed up with
    /// each of them, and what such runs cost is measured before the first request. Without them they are 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warmup_sizes: Vec<u32>,
}

/// Models that come and go while the server runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RepositoryConfig {
    /// Whether models can be loaded and unloaded through the admin port, by whoever reaches it.
    pub enabled: bool,
    /// A folder of further models: `NAME.onnx`, `NAME/…` with one ONNX file, or `NAME/VERSION/…`. Each is loaded at its first request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// Bytes of models that may be loaded at once; of the idle ones the least recently used goes first, and comes back at its next request. 0: no
    /// bound.
    pub loaded_bytes_max: u64,
}

impl ModelConfig {
    /// Most sizes in `warmup_sizes`: each takes time of the start.
    pub const WARMUP_SIZES_MAX: usize = 16;
    /// The largest of them.
    pub const WARMUP_SIZE_MAX: u32 = 65_536;

    /// A model at a path, without version, digest and sizes.
    pub fn new(name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            path: path.into(),
            version: default_model_version(),
            digest: None,
            warmup_sizes: Vec::new(),
        }
    }
}

/// Whether the text may be the name or the version of a model.
pub fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    text.len() <= 253
        && bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

fn default_model_version() -> String {
    "1".to_owned()
}
