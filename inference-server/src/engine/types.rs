//! ONNX Runtime's element types and ours.

use ort::value::{Outlet, TensorElementType, ValueType};
use tidewright_contract::exit::Reason;

use crate::model::signature::{Signature, Slot};
use crate::model::source::LoadError;
use crate::tensor::DataType;

/// Our datatype for the runtime's; `None` for what the protocols have no name for.
pub fn datatype(element: TensorElementType) -> Option<DataType> {
    Some(match element {
        TensorElementType::Bool => DataType::Bool,
        TensorElementType::Uint8 => DataType::Uint8,
        TensorElementType::Uint16 => DataType::Uint16,
        TensorElementType::Uint32 => DataType::Uint32,
        TensorElementType::Uint64 => DataType::Uint64,
        TensorElementType::Int8 => DataType::Int8,
        TensorElementType::Int16 => DataType::Int16,
        TensorElementType::Int32 => DataType::Int32,
        TensorElementType::Int64 => DataType::Int64,
        TensorElementType::Float16 => DataType::Fp16,
        TensorElementType::Bfloat16 => DataType::Bf16,
        TensorElementType::Float32 => DataType::Fp32,
        TensorElementType::Float64 => DataType::Fp64,
        TensorElementType::String => DataType::Bytes,
        _ => return None,
    })
}

/// The signature of a session.
pub fn signature(inputs: &[Outlet], outputs: &[Outlet]) -> Result<Signature, LoadError> {
    let inputs = inputs
        .iter()
        .map(|outlet| slot("input", outlet))
        .collect::<Result<Vec<_>, _>>()?;
    let outputs = outputs
        .iter()
        .map(|outlet| slot("output", outlet))
        .collect::<Result<Vec<_>, _>>()?;
    if inputs.is_empty() || outputs.is_empty() {
        return Err(LoadError::new(
            Reason::UnsupportedModel,
            "the model has no inputs or no outputs",
        ));
    }
    Ok(Signature::new(inputs, outputs))
}

fn slot(kind: &str, outlet: &Outlet) -> Result<Slot, LoadError> {
    let unsupported = |what: &dyn std::fmt::Display| {
        LoadError::new(
            Reason::UnsupportedModel,
            format!("{kind} \"{}\" is {what}, only tensors can be served", outlet.name()),
        )
    };
    let ValueType::Tensor {
        ty,
        shape,
        dimension_symbols,
    } = outlet.dtype()
    else {
        return Err(unsupported(&outlet.dtype()));
    };
    let Some(datatype) = datatype(*ty) else {
        return Err(unsupported(&format!("a tensor of {ty}")));
    };
    let first_symbol = dimension_symbols.first().map(ToString::to_string).unwrap_or_default();
    let shape = shape.iter().map(|size| usize::try_from(*size).ok()).collect();
    Ok(Slot {
        name: outlet.name().into(),
        datatype,
        shape,
        first_symbol,
    })
}
