//! The part of the config file that says what runs the models.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What runs the models.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ExecutionConfig {
    /// In order of preference: the first that works is used. A list without `cpu` makes a missing accelerator an error.
    pub providers: Vec<ExecutionProvider>,
    /// Threads inside one run of the model. 1: all cores serve different requests.
    pub intra_op_threads: u32,
    /// Whether the threads inside a run wait for work by spinning: faster where the cores are nobody else's, and much slower where they are not.
    #[serde(skip_serializing_if = "is_false")]
    pub spinning: bool,
    /// How far ONNX Runtime rewrites a graph before it runs.
    #[serde(skip_serializing_if = "is_default_graph_optimization")]
    pub graph_optimization: GraphOptimization,
    /// Sessions per model, each on its own thread. 0: one per available core (`cpu`), one (`cuda`, `tensorrt`).
    pub workers: u32,
    /// Whether a model is first loaded and run once in a child process, under limits on memory and time: a model that crashes ONNX Runtime
    /// is then a reason in the server's last words, and not a dead server.
    #[serde(skip_serializing_if = "is_true")]
    pub load_in_child: bool,
    /// A folder for optimised models, which load faster and without a trial: the server's own, since what lies there is not checked as a model is.
    /// By default nothing is kept. CPU only; models with weights in other files are not kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optimized_model_cache: Option<PathBuf>,
    /// Bytes of that folder; the least recently used goes first.
    #[serde(skip_serializing_if = "is_default_optimized_model_cache_bytes")]
    pub optimized_model_cache_bytes_max: u64,
}

/// An execution provider of ONNX Runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExecutionProvider {
    /// Any CPU; always works.
    Cpu,
    /// NVIDIA CUDA.
    Cuda,
    /// NVIDIA TensorRT.
    Tensorrt,
}

impl ExecutionProvider {
    /// The word in config, metadata and labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Tensorrt => "tensorrt",
        }
    }
}

impl fmt::Display for ExecutionProvider {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A level of ONNX Runtime's graph optimisations; each does what those before it do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GraphOptimization {
    /// The graph runs as it is.
    Disabled,
    /// What changes no result: constants are folded, what does nothing is left out.
    Basic,
    /// Nodes are fused into larger ones.
    Extended,
    /// Memory layouts are chosen for the processor as well.
    #[default]
    All,
}

impl GraphOptimization {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Disabled, Self::Basic, Self::Extended, Self::All];

    /// The word in config and flags.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Basic => "basic",
            Self::Extended => "extended",
            Self::All => "all",
        }
    }
}

impl Default for ExecutionConfig {
    fn default() -> Self {
        Self {
            providers: vec![ExecutionProvider::Cpu],
            intra_op_threads: 1,
            spinning: false,
            graph_optimization: GraphOptimization::All,
            workers: 0,
            load_in_child: true,
            optimized_model_cache: None,
            optimized_model_cache_bytes_max: OPTIMIZED_MODEL_CACHE_BYTES,
        }
    }
}

/// The largest model that one file can hold, twice.
const OPTIMIZED_MODEL_CACHE_BYTES: u64 = 4 * 1024 * 1024 * 1024;

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde asks for
fn is_default_optimized_model_cache_bytes(bytes: &u64) -> bool {
    *bytes == OPTIMIZED_MODEL_CACHE_BYTES
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde asks for
fn is_default_graph_optimization(level: &GraphOptimization) -> bool {
    *level == GraphOptimization::default()
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde asks for
fn is_false(value: &bool) -> bool {
    !*value
}

/// What is so by default is not written.
#[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde asks for
fn is_true(value: &bool) -> bool {
    *value
}
