//! Takes the weights out of a model file, so that one copy of them can serve many sessions: the rest of the file, and the weights by name.

use super::protobuf::{Field, Value, fields};
use super::source::LoadError;
use super::tensors::{Tensor, tensor};

/// One tensor that was taken out.
pub type Weight<'a> = Tensor<'a>;

/// A model without its large weights.
#[derive(Debug)]
pub struct Separated<'a> {
    /// The same model, in which each weight is marked as lying in a file that does not exist: whoever loads it must give the weights.
    pub skeleton: Vec<u8>,
    /// Initializers of the main graph with their data, in the order of the file.
    pub weights: Vec<Weight<'a>>,
}

/// Takes out the initializers of the main graph that have at least so many bytes and that `takes` accepts (by element type).
///
/// Those inside branches and loop bodies stay: a session does not look for them outside.
pub fn separate(model: &[u8], bytes_min: u64, takes: impl Fn(u64) -> bool) -> Result<Separated<'_>, LoadError> {
    let mut skeleton = Vec::new();
    let mut weights = Vec::new();
    for field in fields(model) {
        match field? {
            Field {
                number: GRAPH,
                value: Value::Bytes(graph),
            } => {
                let mut rest = Vec::new();
                for field in fields(graph) {
                    let field = field?;
                    if let (INITIALIZER, Value::Bytes(message)) = (field.number, field.value) {
                        let found = tensor(message)?;
                        if found.raw.is_some() && found.bytes >= bytes_min && takes(found.element) {
                            bytes_field(&mut rest, INITIALIZER, &outside(&found));
                            weights.push(found);
                            continue;
                        }
                    }
                    copy(&mut rest, field);
                }
                bytes_field(&mut skeleton, GRAPH, &rest);
            }
            field => copy(&mut skeleton, field),
        }
    }
    Ok(Separated { skeleton, weights })
}

/// `ModelProto.graph` and `GraphProto.initializer`.
const GRAPH: u32 = 7;
const INITIALIZER: u32 = 5;
/// Never opened: the weights are given before it would be.
const NO_FILE: &str = "weights";

/// The tensor's name, shape and type, and where its data is said to be.
fn outside(found: &Tensor<'_>) -> Vec<u8> {
    let mut message = Vec::new();
    for size in &found.dims {
        number_field(&mut message, 1, *size);
    }
    number_field(&mut message, 2, found.element);
    bytes_field(&mut message, 8, found.name);
    for (key, value) in [
        ("location", NO_FILE),
        ("offset", "0"),
        ("length", &found.bytes.to_string()),
    ] {
        let mut entry = Vec::new();
        bytes_field(&mut entry, 1, key.as_bytes());
        bytes_field(&mut entry, 2, value.as_bytes());
        bytes_field(&mut message, 13, &entry);
    }
    number_field(&mut message, 14, 1);
    message
}

fn copy(to: &mut Vec<u8>, field: Field<'_>) {
    match field.value {
        Value::Varint(number) => number_field(to, field.number, number),
        Value::Bytes(bytes) => bytes_field(to, field.number, bytes),
        Value::Fixed64(bytes) => {
            varint(to, u64::from(field.number) << 3 | 1);
            to.extend_from_slice(&bytes);
        }
        Value::Fixed32(bytes) => {
            varint(to, u64::from(field.number) << 3 | 5);
            to.extend_from_slice(&bytes);
        }
    }
}

fn number_field(to: &mut Vec<u8>, number: u32, value: u64) {
    varint(to, u64::from(number) << 3);
    varint(to, value);
}

fn bytes_field(to: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    varint(to, u64::from(number) << 3 | 2);
    varint(to, bytes.len() as u64);
    to.extend_from_slice(bytes);
}

fn varint(to: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        to.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::onnx::{Limits, outline};

    fn read(name: &str) -> Vec<u8> {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/models/{name}.onnx"));
        std::fs::read(path).unwrap()
    }

    #[test]
    fn what_stays_and_what_is_taken() {
        let bytes = read("affine");
        let whole = outline(&bytes, Limits::default()).unwrap();
        // The matrix has 48 bytes, the bias 12.
        let separated = separate(&bytes, 13, |element| element == 1).unwrap();
        let [matrix] = separated.weights.as_slice() else {
            panic!("{:?}", separated.weights)
        };
        assert_eq!((matrix.name, matrix.dims.as_slice()), (&b"w"[..], &[4, 3][..]));
        let first: Vec<u8> = [1f32, 1.0, 10.0].into_iter().flat_map(f32::to_le_bytes).collect();
        assert_eq!(matrix.raw.unwrap()[..12], first);

        let rest = outline(&separated.skeleton, Limits::default()).unwrap();
        assert_eq!(rest.external.len(), 1);
        assert_eq!(
            (rest.external[0].location.as_str(), rest.external[0].bytes),
            (NO_FILE, 48)
        );
        // Everything else is as it was.
        assert_eq!(
            (
                &rest.inputs,
                &rest.outputs,
                &rest.uses,
                &rest.opsets,
                rest.initializer_bytes
            ),
            (
                &whole.inputs,
                &whole.outputs,
                &whole.uses,
                &whole.opsets,
                whole.initializer_bytes
            )
        );
    }

    #[test]
    fn nothing_to_take_leaves_the_model_byte_for_byte() {
        for name in ["affine", "echo", "slow", "tokens", "picky", "fixed"] {
            let bytes = read(name);
            let separated = separate(&bytes, u64::MAX, |_| true).unwrap();
            assert_eq!(separated.skeleton, bytes, "{name}");
            assert!(separated.weights.is_empty());
            assert!(separate(&bytes, 0, |_| false).unwrap().weights.is_empty());
        }
        assert!(separate(b"no model", 0, |_| true).is_err());
    }
}
