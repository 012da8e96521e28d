//! How the server ends: exit codes, and the message it leaves for whoever asks why the container stopped.

use serde::{Deserialize, Serialize};

/// Ended as asked: a signal, and everything accepted was answered.
pub const OK: u8 = 0;
/// An unexpected failure of the process (a port is taken, a thread could not start).
pub const FAILURE: u8 = 1;
/// The command line is wrong (clap's own code for it).
pub const USAGE: u8 = 2;
/// The config file cannot be read, does not parse or does not validate.
pub const CONFIG: u8 = 3;
/// A model could not be loaded or warmed up; the termination message says which and why.
pub const MODEL: u8 = 4;
/// ONNX Runtime's library is missing or too old, or no execution provider of the list works here.
pub const RUNTIME: u8 = 5;
/// The drain timeout passed with requests still unanswered; the log says how many.
pub const DRAIN_TIMEOUT: u8 = 6;

/// Where Kubernetes reads a container's last words from (`terminationMessagePath`'s default).
pub const TERMINATION_LOG_PATH: &str = "/dev/termination-log";
/// Kubernetes keeps 4096 bytes of the message; ours is cut well before that.
pub const TERMINATION_MESSAGE_BYTES_MAX: usize = 2048;

/// Why the server stopped, as a closed set of words; they are public and also appear in the InferenceService's conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// The config file cannot be used.
    InvalidConfig,
    /// No file at the model's path.
    ModelNotFound,
    /// The file's digest is not the one that was asked for.
    DigestMismatch,
    /// The file is no model, ONNX Runtime refused it, or it crashed the runtime.
    ModelLoadFailed,
    /// The model needs an operator that ONNX Runtime does not have.
    UnsupportedOperator,
    /// The model is over a limit: bytes, depth, nodes, dimensions.
    ModelTooLarge,
    /// The model refers to other files in a way that is not allowed: outside its folder, by a link, beyond their end.
    UnsafeExternalData,
    /// The model loaded, but its inputs or outputs cannot be served (sequences, maps, strings in odd places).
    UnsupportedModel,
    /// The model loaded, but a run with made-up input failed.
    WarmupFailed,
    /// No execution provider of the list works here.
    ProviderUnavailable,
    /// ONNX Runtime's shared library is missing or too old.
    RuntimeUnavailable,
    /// The drain timeout passed with requests still unanswered.
    DrainTimeout,
    /// Anything else.
    Failure,
}

impl Reason {
    /// The word itself, as it is written in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidConfig => "InvalidConfig",
            Self::ModelNotFound => "ModelNotFound",
            Self::DigestMismatch => "DigestMismatch",
            Self::ModelLoadFailed => "ModelLoadFailed",
            Self::UnsupportedOperator => "UnsupportedOperator",
            Self::ModelTooLarge => "ModelTooLarge",
            Self::UnsafeExternalData => "UnsafeExternalData",
            Self::UnsupportedModel => "UnsupportedModel",
            Self::WarmupFailed => "WarmupFailed",
            Self::ProviderUnavailable => "ProviderUnavailable",
            Self::RuntimeUnavailable => "RuntimeUnavailable",
            Self::DrainTimeout => "DrainTimeout",
            Self::Failure => "Failure",
        }
    }

    /// The exit code that goes with the reason.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::InvalidConfig => CONFIG,
            Self::ModelNotFound
            | Self::DigestMismatch
            | Self::ModelLoadFailed
            | Self::UnsupportedOperator
            | Self::ModelTooLarge
            | Self::UnsafeExternalData
            | Self::UnsupportedModel
            | Self::WarmupFailed => MODEL,
            Self::ProviderUnavailable | Self::RuntimeUnavailable => RUNTIME,
            Self::DrainTimeout => DRAIN_TIMEOUT,
            Self::Failure => FAILURE,
        }
    }
}

/// The container's last words: one line of JSON at [`TERMINATION_LOG_PATH`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TerminationMessage {
    /// Why, as one word.
    pub reason: Reason,
    /// Why, as one sentence for people.
    pub message: String,
    /// The model it is about, if one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}
