//! One inference request and its answer, free of any protocol.

use std::sync::Arc;

use crate::tensor::Tensor;

/// Inputs in the order of the model's signature, with `rows` items where the model takes batches.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// One tensor per input of the signature.
    pub inputs: Vec<Tensor>,
    /// Items along the first dimension; 1 for a model without one.
    pub rows: usize,
}

/// Outputs in the order of the model's signature. Shared, because the cache and several callers may hold the same answer.
pub type Outputs = Arc<Vec<Tensor>>;
