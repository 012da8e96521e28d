//! One inference request and its answer, free of any protocol.

use std::sync::Arc;
use std::time::Duration;

use crate::tensor::Tensor;

/// How urgent a request is: the parameter `priority` of the v2 protocol, where 1 is the most urgent and 0 stands for what is usual.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    High,
    #[default]
    Normal,
    Low,
}

impl Priority {
    /// All of them, the most urgent first.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// By its number in the protocol; `None` for one that is not there.
    pub fn from_number(number: i128) -> Option<Self> {
        match number {
            1 => Some(Self::High),
            0 | 2 => Some(Self::Normal),
            3 => Some(Self::Low),
            _ => None,
        }
    }
}

/// Inputs in the order of the model's signature, with `rows` items where the model takes batches.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// One tensor per input of the signature.
    pub inputs: Vec<Tensor>,
    /// Items along the first dimension; 1 for a model without one.
    pub rows: usize,
    pub priority: Priority,
    /// How long after its arrival the caller still wants the answer, where that is less than the server would take.
    pub timeout: Option<Duration>,
}

impl Request {
    /// What its tensors take, in bytes.
    pub fn heap_bytes(&self) -> u64 {
        self.inputs
            .iter()
            .map(|tensor| tensor.values().heap_bytes() as u64)
            .sum()
    }
}

/// Outputs in the order of the model's signature. Shared, because the cache and several callers may hold the same answer.
pub type Outputs = Arc<Vec<Tensor>>;
