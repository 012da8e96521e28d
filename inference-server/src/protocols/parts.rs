//! How many parts a message of gRPC holds, counted before it is taken apart: two bytes can stand for a part that takes hundreds in memory.

use super::v2_inputs::STRINGS_MAX;
use crate::error::Error;

/// Inputs, outputs, raw contents and parameters of a request, all together.
const PARTS_MAX: usize = 4096;

// Numbers of the fields that are counted: they never change.
const OF_REQUEST: [u64; 4] = [4, 5, 6, 7];
const INPUT: u64 = 5;
const OUTPUT: u64 = 6;
const PARAMETERS_OF_INPUT: u64 = 4;
const CONTENTS_OF_INPUT: u64 = 5;
const PARAMETERS_OF_OUTPUT: u64 = 2;
const TEXTS_OF_CONTENTS: u64 = 8;

/// What was counted.
#[derive(Debug, Default)]
struct Counts {
    parts: usize,
    texts: usize,
}

/// Refuses a `ModelInferRequest` with too many parts. What is no message at all is left to the decoder, which gets no further than this did.
///
/// # Errors
/// `Invalid` with the limit that is exceeded.
pub fn check(message: &[u8]) -> Result<(), Error> {
    let mut counts = Counts::default();
    for_each(message, |field, value| {
        if !OF_REQUEST.contains(&field) {
            return Ok(());
        }
        counts.part()?;
        match field {
            INPUT => for_each(value, |field, value| match field {
                PARAMETERS_OF_INPUT => counts.part(),
                CONTENTS_OF_INPUT => for_each(value, |field, _| match field {
                    TEXTS_OF_CONTENTS => counts.text(),
                    _ => Ok(()),
                }),
                _ => Ok(()),
            }),
            OUTPUT => for_each(value, |field, _| match field {
                PARAMETERS_OF_OUTPUT => counts.part(),
                _ => Ok(()),
            }),
            _ => Ok(()),
        }
    })
}

impl Counts {
    fn part(&mut self) -> Result<(), Error> {
        self.parts += 1;
        if self.parts <= PARTS_MAX {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "the request has more than {PARTS_MAX} inputs, outputs, raw contents and parameters"
        )))
    }

    fn text(&mut self) -> Result<(), Error> {
        self.texts += 1;
        if self.texts <= STRINGS_MAX {
            return Ok(());
        }
        Err(Error::invalid(format!("the request has more than {STRINGS_MAX} texts")))
    }
}

/// Calls `each` with number and bytes of every field that has a length of its own; stops at the first that cannot be read.
fn for_each(mut bytes: &[u8], mut each: impl FnMut(u64, &[u8]) -> Result<(), Error>) -> Result<(), Error> {
    while !bytes.is_empty() {
        let Some(key) = varint(&mut bytes) else { return Ok(()) };
        let length = match key & 7 {
            0 => {
                if varint(&mut bytes).is_none() {
                    return Ok(());
                }
                continue;
            }
            1 => 8,
            5 => 4,
            2 => match varint(&mut bytes).and_then(|length| usize::try_from(length).ok()) {
                Some(length) => length,
                None => return Ok(()),
            },
            // Groups, which nobody sends: what is in them would not be counted.
            _ => {
                return Err(Error::invalid(
                    "the request has a field of a type that the protocol does not use",
                ));
            }
        };
        let Some((value, rest)) = bytes.split_at_checked(length) else {
            return Ok(());
        };
        if key & 7 == 2 {
            each(key >> 3, value)?;
        }
        bytes = rest;
    }
    Ok(())
}

/// The next number of variable length.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::super::pb::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
    use super::super::pb::{InferParameter, InferTensorContents, ModelInferRequest};
    use super::*;

    fn said(request: &ModelInferRequest) -> Result<(), String> {
        check(&request.encode_to_vec()).map_err(|error| error.to_string())
    }

    fn input(texts: usize) -> InferInputTensor {
        InferInputTensor {
            name: "x".to_owned(),
            shape: vec![1, -1],
            contents: Some(InferTensorContents {
                bytes_contents: vec![bytes::Bytes::new(); texts],
                int_contents: vec![1; 3],
                ..InferTensorContents::default()
            }),
            ..InferInputTensor::default()
        }
    }

    #[test]
    fn parts_are_counted_wherever_they_stand() {
        let parameters = |count: usize| (0..count).map(|n| (n.to_string(), InferParameter::default())).collect();
        let request = |more: usize| ModelInferRequest {
            model_name: "m".to_owned(),
            parameters: parameters(1000),
            inputs: vec![InferInputTensor {
                parameters: parameters(1000 + more),
                ..input(3)
            }],
            outputs: vec![
                InferRequestedOutputTensor {
                    parameters: parameters(1000),
                    ..InferRequestedOutputTensor::default()
                };
                1
            ],
            raw_input_contents: vec![bytes::Bytes::new(); 1094],
            ..ModelInferRequest::default()
        };
        assert_eq!(said(&request(0)), Ok(()));
        let refused = said(&request(1)).unwrap_err();
        assert_eq!(
            refused,
            "the request has more than 4096 inputs, outputs, raw contents and parameters"
        );
    }

    #[test]
    fn texts_of_all_inputs_are_counted() {
        let request = |texts: usize| ModelInferRequest {
            inputs: vec![input(1), input(texts)],
            ..ModelInferRequest::default()
        };
        assert_eq!(said(&request(STRINGS_MAX - 1)), Ok(()));
        assert_eq!(
            said(&request(STRINGS_MAX)).unwrap_err(),
            "the request has more than 1048576 texts"
        );
    }

    #[test]
    fn nothing_hides_in_a_group() {
        // Start of group 9, five thousand empty inputs.
        let hidden = [&[0x4b][..], &[0x2a, 0].repeat(5000)].concat();
        assert!(check(&hidden).is_err());
    }

    proptest! {
        #[test]
        fn whatever_is_decoded_was_counted(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let counted = check(&bytes);
            if let Ok(request) = ModelInferRequest::decode(&bytes[..]) {
                prop_assert!(request.inputs.len() <= 100);
                prop_assert!(counted.is_ok() || bytes.iter().any(|byte| matches!(byte & 7, 3 | 4 | 6 | 7)));
            }
        }
    }
}
