//! One copy of a model's weights for all its sessions: the optimised graph without its weights, the weights as tensors, and one container for
//! the forms into which kernels repack them.
//!
//! The weights are given to a session twice over: as the external data that the graph asks for, so that nothing is read or copied, and as shared
//! initializers, because only for those does ONNX Runtime use the container.

use std::sync::Arc;

use ort::session::builder::{PrepackedWeights, SessionBuilder};
use ort::value::{DynValue, Tensor as OrtTensor};
use tidewright_contract::exit::Reason;

use crate::model::source::LoadError;
use crate::model::weights::{Weight, separate};

/// Smaller tensors stay in the graph: a name costs more than it saves, and shapes and axes must be there when the graph is read.
const SHARED_BYTES_MIN: u64 = 1024;

/// An optimised model, ready to be opened any number of times.
pub struct SharedModel {
    skeleton: Vec<u8>,
    weights: Vec<(String, Arc<DynValue>)>,
    prepacked: PrepackedWeights,
    bytes: u64,
}

impl SharedModel {
    /// Copies the weights out of an optimised model.
    ///
    /// # Errors
    /// When the bytes are no model, or the runtime does not take a weight.
    pub fn new(optimized: &[u8]) -> Result<Self, LoadError> {
        let separated = separate(optimized, SHARED_BYTES_MIN, |element| ELEMENTS.contains(&element))?;
        let mut weights = Vec::with_capacity(separated.weights.len());
        let mut bytes = 0;
        for weight in &separated.weights {
            let name = String::from_utf8_lossy(weight.name).into_owned();
            let value = value(weight).ok_or_else(|| {
                LoadError::new(
                    Reason::ModelLoadFailed,
                    format!("ONNX Runtime does not take the weight {name:?}"),
                )
            })?;
            bytes += weight.bytes;
            weights.push((name, Arc::new(value)));
        }
        Ok(Self {
            skeleton: separated.skeleton,
            weights,
            prepacked: PrepackedWeights::new(),
            bytes,
        })
    }

    /// Bytes that all sessions share.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The graph that a session is made of.
    pub fn skeleton(&self) -> &[u8] {
        &self.skeleton
    }

    /// A builder that knows the weights.
    pub fn give_weights(&self, mut builder: SessionBuilder) -> Result<SessionBuilder, LoadError> {
        let refused = |error: ort::Error<SessionBuilder>| {
            LoadError::new(
                Reason::ModelLoadFailed,
                format!("ONNX Runtime does not take a weight: {}", error.message()),
            )
        };
        for (name, value) in &self.weights {
            builder = builder
                .with_external_initializer(name, Arc::clone(value))
                .map_err(refused)?
                .with_initializer(name, Arc::clone(value))
                .map_err(refused)?;
        }
        builder.with_prepacked_weights(&self.prepacked).map_err(refused)
    }
}

/// Element types that are taken out, by their number in `TensorProto.DataType`: those that weights have.
const ELEMENTS: [u64; 8] = [1, 2, 3, 6, 7, 10, 11, 16];

/// The weight as a tensor of the runtime. ONNX's raw data is little-endian, as are the machines that we build for.
fn value(weight: &Weight<'_>) -> Option<DynValue> {
    let raw = weight.raw?;
    let shape: Vec<i64> = weight
        .dims
        .iter()
        .map(|size| i64::try_from(*size).ok())
        .collect::<Option<_>>()?;
    macro_rules! tensor {
        ($kind:ty, $read:expr) => {{
            let values: Vec<$kind> = raw.as_chunks().0.iter().copied().map($read).collect();
            OrtTensor::from_array((shape, values)).ok()?.into_dyn()
        }};
    }
    Some(match weight.element {
        1 => tensor!(f32, f32::from_le_bytes),
        2 => tensor!(u8, u8::from_le_bytes),
        3 => tensor!(i8, i8::from_le_bytes),
        6 => tensor!(i32, i32::from_le_bytes),
        7 => tensor!(i64, i64::from_le_bytes),
        10 => tensor!(half::f16, half::f16::from_le_bytes),
        11 => tensor!(f64, f64::from_le_bytes),
        16 => tensor!(half::bf16, half::bf16::from_le_bytes),
        _ => return None,
    })
}

impl std::fmt::Debug for SharedModel {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("SharedModel")
            .field("weights", &self.weights.len())
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}
