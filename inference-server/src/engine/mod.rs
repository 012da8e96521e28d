//! What runs a model: a synchronous trait, ONNX Runtime behind it, threads that own one engine each. It knows tensors, no requests and no HTTP.

pub mod child;
pub mod cost;
pub mod optimized_cache;
pub mod ort;
pub mod pool;
pub mod probe;
pub mod provider;
mod scheduling;
pub mod served_sizes;
pub mod shared;
pub mod types;
pub mod warmup;
pub mod worker;

use crate::model::source::LoadError;
use crate::tensor::Tensor;

/// Runs a model. Each worker owns one, so that no lock stands round a run.
pub trait Engine: Send {
    /// Outputs in the order of the signature, for inputs in the order of the signature.
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError>;
}

/// Makes engines: once per worker, and again after one was lost.
pub type Factory = std::sync::Arc<dyn Fn() -> Result<Box<dyn Engine>, LoadError> + Send + Sync>;

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunError {
    /// The model refuses these values (an index out of range, sizes that do not go together).
    Input(String),
    /// The engine failed.
    Failed(String),
}
