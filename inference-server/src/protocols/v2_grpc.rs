//! Open Inference Protocol v2 over gRPC: the infer request and its answer, with typed or raw contents.

use bytes::Bytes;

use super::pb::infer_parameter::ParameterChoice;
use super::pb::model_infer_request::InferInputTensor;
use super::pb::model_infer_response::InferOutputTensor;
use super::pb::{InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse};
use super::v2_inputs::{self, Infer, Inputs, Outputs, RANK_MAX, Wanted};
use super::{raw, v2_rest};
use crate::error::Error;
use crate::model::signature::{Signature, Slot};
use crate::tensor::{DataType, Tensor, Values};

/// Reads an infer request. Outputs are answered in the form in which the inputs came, and raw where there is no other form.
pub fn parse(request: ModelInferRequest, signature: &Signature) -> Result<Infer, Error> {
    let given = request.raw_input_contents.len();
    let is_raw = given > 0;
    if is_raw && given != request.inputs.len() {
        return Err(Error::invalid(format!(
            "raw_input_contents has {given} entries, there are {} inputs",
            request.inputs.len()
        )));
    }
    let mut inputs = Inputs::new(signature);
    let mut contents = request.raw_input_contents.into_iter();
    for input in request.inputs {
        let (position, slot) = v2_inputs::find(signature, &input.name)?;
        let tensor = read_input(slot, input, contents.next())?;
        inputs.put(position, slot, tensor)?;
    }
    let mut outputs = Outputs::default();
    for output in &request.outputs {
        outputs.put(signature, &output.name, None)?;
    }
    let mut outputs = if request.outputs.is_empty() {
        v2_inputs::all_outputs(signature, is_raw)
    } else {
        outputs.finish(is_raw)
    };
    // All outputs or none are raw: the protocol has no mixture.
    let datatype = |wanted: &Wanted| signature.outputs.get(wanted.position).map(|slot| slot.datatype);
    if outputs.iter().any(|wanted| datatype(wanted).is_some_and(is_only_raw)) {
        for wanted in &mut outputs {
            wanted.binary = true;
        }
    }
    let mut inputs = inputs.finish()?;
    if let Some(parameter) = request.parameters.get(v2_inputs::PRIORITY) {
        inputs.priority = v2_inputs::priority(integer(parameter))?;
    }
    if let Some(parameter) = request.parameters.get(v2_inputs::TIMEOUT) {
        inputs.timeout = v2_inputs::timeout(integer(parameter))?;
    }
    Ok(Infer {
        id: (!request.id.is_empty()).then_some(request.id),
        request: inputs,
        outputs,
    })
}

/// A whole number; clients differ in which of the two kinds they send.
fn integer(parameter: &InferParameter) -> Option<i128> {
    match parameter.parameter_choice {
        Some(ParameterChoice::Int64Param(number)) => Some(number.into()),
        Some(ParameterChoice::Uint64Param(number)) => Some(number.into()),
        _ => None,
    }
}

const fn is_only_raw(datatype: DataType) -> bool {
    matches!(datatype, DataType::Fp16 | DataType::Bf16)
}

fn read_input(slot: &Slot, input: InferInputTensor, raw: Option<Bytes>) -> Result<Tensor, Error> {
    let name = &slot.name;
    v2_inputs::check_datatype(slot, &input.datatype)?;
    let shape = read_shape(name, &input.shape)?;
    match (input.contents, raw) {
        (None, Some(bytes)) => v2_rest::binary_tensor(slot, shape, &bytes),
        // Python's clients cannot leave the message out once they have looked at it.
        (Some(contents), Some(bytes)) if contents == InferTensorContents::default() => {
            v2_rest::binary_tensor(slot, shape, &bytes)
        }
        (Some(_), Some(_)) => Err(Error::invalid(format!(
            "input \"{name}\" has both contents and raw_input_contents"
        ))),
        (contents, None) => {
            v2_inputs::check_shape(slot, &shape)?;
            v2_inputs::tensor(slot, shape, read_values(slot, contents.unwrap_or_default())?)
        }
    }
}

fn read_shape(name: &str, shape: &[i64]) -> Result<Vec<usize>, Error> {
    if shape.len() > RANK_MAX {
        return Err(Error::invalid(format!(
            "input \"{name}\": shape has more than {RANK_MAX} dimensions"
        )));
    }
    let size = |size: &i64| {
        usize::try_from(*size).map_err(|_| Error::invalid(format!("input \"{name}\": shape: {size} is no dimension")))
    };
    shape.iter().map(size).collect()
}

/// The values in the field of the model's datatype; a value in another one is a mistake that the number of values shows.
fn read_values(slot: &Slot, contents: InferTensorContents) -> Result<Values, Error> {
    Ok(match slot.datatype {
        DataType::Bool => Values::Bool(contents.bool_contents),
        DataType::Uint8 => Values::Uint8(narrow(slot, contents.uint_contents)?),
        DataType::Uint16 => Values::Uint16(narrow(slot, contents.uint_contents)?),
        DataType::Uint32 => Values::Uint32(contents.uint_contents),
        DataType::Uint64 => Values::Uint64(contents.uint64_contents),
        DataType::Int8 => Values::Int8(narrow(slot, contents.int_contents)?),
        DataType::Int16 => Values::Int16(narrow(slot, contents.int_contents)?),
        DataType::Int32 => Values::Int32(contents.int_contents),
        DataType::Int64 => Values::Int64(contents.int64_contents),
        DataType::Fp32 => Values::Fp32(contents.fp32_contents),
        DataType::Fp64 => Values::Fp64(contents.fp64_contents),
        DataType::Bytes => Values::Bytes(strings(slot, &contents.bytes_contents)?),
        DataType::Fp16 | DataType::Bf16 => {
            return Err(Error::invalid(format!(
                "input \"{}\": {} is sent in raw_input_contents",
                slot.name,
                slot.datatype.name()
            )));
        }
    })
}

fn narrow<W: Copy + std::fmt::Display, N: TryFrom<W>>(slot: &Slot, values: Vec<W>) -> Result<Vec<N>, Error> {
    let value = |(index, value): (usize, W)| {
        N::try_from(value).map_err(|_| {
            Error::invalid(format!(
                "input \"{}\": value {index} ({value}) does not fit {}",
                slot.name,
                slot.datatype.name()
            ))
        })
    };
    values.into_iter().enumerate().map(value).collect()
}

fn strings(slot: &Slot, values: &[Bytes]) -> Result<Vec<String>, Error> {
    let text = |(index, bytes): (usize, &Bytes)| {
        std::str::from_utf8(bytes)
            .map(str::to_owned)
            .map_err(|_| Error::invalid(format!("input \"{}\": value {index} is not UTF-8", slot.name)))
    };
    values.iter().enumerate().map(text).collect()
}

/// The answer to an infer request.
pub fn answer(
    model: &str,
    version: &str,
    id: Option<String>,
    wanted: &[Wanted],
    signature: &Signature,
    outputs: &[Tensor],
) -> ModelInferResponse {
    let mut response = ModelInferResponse {
        model_name: model.to_owned(),
        model_version: version.to_owned(),
        id: id.unwrap_or_default(),
        ..ModelInferResponse::default()
    };
    for wanted in wanted {
        let (Some(slot), Some(tensor)) = (signature.outputs.get(wanted.position), outputs.get(wanted.position)) else {
            continue;
        };
        let values = tensor.values();
        response.outputs.push(InferOutputTensor {
            name: slot.name.to_string(),
            datatype: values.datatype().name().to_owned(),
            shape: tensor
                .shape()
                .iter()
                .map(|size| i64::try_from(*size).unwrap_or(i64::MAX))
                .collect(),
            contents: (!wanted.binary).then(|| contents(values)),
            ..InferOutputTensor::default()
        });
        if wanted.binary {
            let mut bytes = Vec::with_capacity(raw::length(values));
            raw::write(&mut bytes, values);
            response.raw_output_contents.push(bytes.into());
        }
    }
    response
}

fn contents(values: &Values) -> InferTensorContents {
    let mut contents = InferTensorContents::default();
    match values {
        Values::Bool(values) => contents.bool_contents.clone_from(values),
        Values::Uint8(values) => contents.uint_contents = values.iter().map(|value| (*value).into()).collect(),
        Values::Uint16(values) => contents.uint_contents = values.iter().map(|value| (*value).into()).collect(),
        Values::Uint32(values) => contents.uint_contents.clone_from(values),
        Values::Uint64(values) => contents.uint64_contents.clone_from(values),
        Values::Int8(values) => contents.int_contents = values.iter().map(|value| (*value).into()).collect(),
        Values::Int16(values) => contents.int_contents = values.iter().map(|value| (*value).into()).collect(),
        Values::Int32(values) => contents.int_contents.clone_from(values),
        Values::Int64(values) => contents.int64_contents.clone_from(values),
        Values::Fp32(values) => contents.fp32_contents.clone_from(values),
        Values::Fp64(values) => contents.fp64_contents.clone_from(values),
        Values::Bytes(values) => {
            contents.bytes_contents = values
                .iter()
                .map(|text| Bytes::copy_from_slice(text.as_bytes()))
                .collect();
        }
        // Such outputs are always raw.
        Values::Fp16(_) | Values::Bf16(_) => {}
    }
    contents
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::request::{Priority, Request};

    /// What becomes of a request with this parameter.
    fn with(name: &str, choice: ParameterChoice) -> Result<Request, Error> {
        let slot = Slot {
            name: "x".into(),
            datatype: DataType::Fp32,
            shape: vec![None],
            first_symbol: "N".to_owned(),
        };
        let signature = Signature::new(vec![slot.clone()], vec![slot]);
        let input = InferInputTensor {
            name: "x".to_owned(),
            datatype: "FP32".to_owned(),
            shape: vec![1],
            contents: Some(InferTensorContents {
                fp32_contents: vec![1.0],
                ..InferTensorContents::default()
            }),
            ..InferInputTensor::default()
        };
        let parameter = InferParameter {
            parameter_choice: Some(choice),
        };
        let request = ModelInferRequest {
            inputs: vec![input],
            parameters: [(name.to_owned(), parameter)].into(),
            ..ModelInferRequest::default()
        };
        parse(request, &signature).map(|infer| infer.request)
    }

    fn refusals(name: &str, choices: impl IntoIterator<Item = ParameterChoice>) {
        for choice in choices {
            let refused = with(name, choice.clone());
            assert!(
                matches!(&refused, Err(Error::Invalid(message)) if message.starts_with(name)),
                "{choice:?}: {refused:?}"
            );
        }
    }

    #[test]
    fn a_priority_is_taken_as_either_kind_of_number_and_one_that_is_not_there_is_refused() {
        let priority = |choice| with("priority", choice).map(|request| request.priority);
        for (number, expected) in [
            (0_u8, Priority::Normal),
            (1, Priority::High),
            (2, Priority::Normal),
            (3, Priority::Low),
        ] {
            assert_eq!(priority(ParameterChoice::Int64Param(number.into())), Ok(expected));
            assert_eq!(priority(ParameterChoice::Uint64Param(number.into())), Ok(expected));
        }
        refusals(
            "priority",
            [
                ParameterChoice::Int64Param(4),
                ParameterChoice::Int64Param(-1),
                ParameterChoice::Uint64Param(4),
                ParameterChoice::Uint64Param(u64::MAX),
                ParameterChoice::BoolParam(true),
            ],
        );
    }

    #[test]
    fn a_timeout_is_taken_as_either_kind_of_number_and_zero_is_none() {
        let timeout = |choice| with("timeout", choice).map(|request| request.timeout);
        let milli = Ok(Some(Duration::from_millis(1)));
        assert_eq!(timeout(ParameterChoice::Int64Param(1000)), milli);
        assert_eq!(timeout(ParameterChoice::Uint64Param(1000)), milli);
        assert_eq!(timeout(ParameterChoice::Int64Param(0)), Ok(None));
        assert_eq!(timeout(ParameterChoice::Uint64Param(0)), Ok(None));
        refusals(
            "timeout",
            [
                ParameterChoice::Int64Param(-1),
                ParameterChoice::DoubleParam(1000.0),
                ParameterChoice::StringParam("1000".to_owned()),
            ],
        );
    }
}
