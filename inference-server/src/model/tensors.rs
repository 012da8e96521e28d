//! One tensor inside a model file: what its shape promises, and whether the bytes that are there keep it.

use super::protobuf::{Malformed, Value, fields, integers};
use super::source::LoadError;
use tidewright_contract::exit::Reason;

/// Data of a tensor that lies in another file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct External {
    /// Name of the tensor, for messages.
    pub tensor: String,
    pub location: String,
    pub offset: u64,
    /// Bytes that the tensor's shape and datatype need.
    pub bytes: u64,
}

/// A tensor's outline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor<'a> {
    pub name: &'a [u8],
    pub element: u64,
    pub dims: Vec<u64>,
    /// Bytes of the data; 0 for strings.
    pub bytes: u64,
    /// The data as it is computed with, when it stands so in the file.
    pub raw: Option<&'a [u8]>,
    pub external: Option<External>,
}

/// A dimension list longer than this is no tensor that any operator takes (ONNX Runtime's own kernels stop far below).
pub const RANK_MAX: usize = 64;
/// A location, an offset, a length, a checksum; nobody writes more.
const EXTERNAL_ENTRIES_MAX: usize = 16;

/// Bits of one element by the number in `TensorProto.DataType`; `None` for strings; an error for what ONNX does not define.
pub fn element_bits(element: u64) -> Result<Option<u64>, LoadError> {
    Ok(Some(match element {
        2 | 3 | 9 | 17..=20 | 24 => 8,
        4 | 5 | 10 | 16 => 16,
        1 | 6 | 12 => 32,
        7 | 11 | 13 | 14 => 64,
        15 => 128,
        21..=23 => 4,
        25 | 26 => 2,
        8 => return Ok(None),
        _ => return Err(refused(format!("a tensor has the unknown element type {element}"))),
    }))
}

/// Elements of a shape; `None` when they cannot be counted in 64 bits.
pub fn elements(dims: &[u64]) -> Option<u64> {
    if dims.contains(&0) {
        return Some(0);
    }
    dims.iter().try_fold(1u64, |product, size| product.checked_mul(*size))
}

/// Bytes of a dense tensor; `None` when they cannot be counted in 64 bits.
pub fn dense_bytes(dims: &[u64], bits: u64) -> Option<u64> {
    Some(elements(dims)?.checked_mul(bits)?.div_ceil(8))
}

/// A name from the file as it may stand in a message: quoted, escaped, cut.
pub fn shown(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(&name[..name.len().min(400)]);
    let cut: String = text.chars().take(100).collect();
    format!("{cut:?}")
}

/// A refusal of the file itself.
pub fn refused(message: impl Into<String>) -> LoadError {
    LoadError::new(Reason::ModelLoadFailed, message)
}

impl From<Malformed> for LoadError {
    fn from(malformed: Malformed) -> Self {
        refused(format!("the file is not an ONNX model: {malformed}"))
    }
}

/// Reads a `TensorProto` and checks that its data is as long as its shape says.
pub fn tensor(message: &[u8]) -> Result<Tensor<'_>, LoadError> {
    let mut name: &[u8] = &[];
    let mut dims = Vec::new();
    let mut element = 0;
    let mut raw = None;
    let mut is_external = false;
    let mut entries = Vec::new();
    // Elements written in the typed fields: every one of them takes a place in the file.
    let mut typed = 0u64;
    for field in fields(message) {
        let field = field?;
        match (field.number, field.value) {
            (1, value) => {
                for size in integers(value) {
                    if dims.len() == RANK_MAX {
                        return Err(refused(format!("a tensor has more than {RANK_MAX} dimensions")));
                    }
                    dims.push(size?);
                }
            }
            (2, Value::Varint(number)) => element = number,
            (4, Value::Bytes(packed)) => typed += packed.len() as u64 / 4,
            (10, Value::Bytes(packed)) => typed += packed.len() as u64 / 8,
            (5 | 7 | 11, value @ (Value::Varint(_) | Value::Bytes(_))) => typed += integers(value).count() as u64,
            (4 | 6 | 10, _) => typed += 1,
            (8, Value::Bytes(bytes)) => name = bytes,
            (9, Value::Bytes(bytes)) => raw = Some(bytes),
            (13, Value::Bytes(entry)) if entries.len() < EXTERNAL_ENTRIES_MAX => entries.push(entry),
            (13, Value::Bytes(_)) => return Err(refused("a tensor says too much about where its data is")),
            (14, Value::Varint(location)) => is_external = location == 1,
            _ => {}
        }
    }
    let too_large = || {
        LoadError::new(
            Reason::ModelTooLarge,
            format!("tensor {} has more elements than can be counted", shown(name)),
        )
    };
    // A negative dimension is a huge one here, and never fits the data.
    let count = elements(&dims).ok_or_else(too_large)?;
    let bits = element_bits(element)?;
    let bytes = bits
        .map_or(Some(0), |bits| dense_bytes(&dims, bits))
        .ok_or_else(too_large)?;
    let external = if is_external || !entries.is_empty() {
        Some(external(name, bits, bytes, &entries)?)
    } else {
        let lacking = |given: String| {
            refused(format!(
                "tensor {} declares {count} elements of {bytes} bytes, and the file holds {given}",
                shown(name)
            ))
        };
        match raw {
            Some(raw) if raw.len() as u64 != bytes => return Err(lacking(format!("{} bytes", raw.len()))),
            // Up to four elements of two bits stand in one number.
            None if count > typed.saturating_mul(if bits.is_some_and(|bits| bits < 8) { 4 } else { 1 }) => {
                return Err(lacking(format!("{typed} values")));
            }
            _ => None,
        }
    };
    Ok(Tensor {
        name,
        element,
        dims,
        bytes,
        raw,
        external,
    })
}

fn external(name: &[u8], bits: Option<u64>, bytes: u64, entries: &[&[u8]]) -> Result<External, LoadError> {
    let unsafe_data = |what: String| {
        LoadError::new(
            Reason::UnsafeExternalData,
            format!("tensor {} keeps its data in another file: {what}", shown(name)),
        )
    };
    if bits.is_none() {
        return Err(unsafe_data("strings cannot lie outside the model".to_owned()));
    }
    let (mut location, mut offset) = (None, 0);
    for entry in entries {
        let (mut key, mut value): (&[u8], &[u8]) = (&[], &[]);
        for field in fields(entry) {
            match field? {
                super::protobuf::Field {
                    number: 1,
                    value: Value::Bytes(bytes),
                } => key = bytes,
                super::protobuf::Field {
                    number: 2,
                    value: Value::Bytes(bytes),
                } => value = bytes,
                _ => {}
            }
        }
        let text = std::str::from_utf8(value).map_err(|_| unsafe_data("a value is not UTF-8".to_owned()))?;
        let number = || {
            text.parse::<u64>()
                .map_err(|_| unsafe_data(format!("{} is not a number of bytes", shown(value))))
        };
        match key {
            b"location" if location.replace(text).is_some() => {
                return Err(unsafe_data("its location is given twice".to_owned()));
            }
            b"offset" => offset = number()?,
            b"length" => {
                let length = number()?;
                if length != bytes {
                    return Err(unsafe_data(format!(
                        "{length} bytes are given, its shape needs {bytes}"
                    )));
                }
            }
            // A checksum, and whatever else a writer noted: the runtime does not act on it.
            _ => {}
        }
    }
    let location = location.ok_or_else(|| unsafe_data("its location is not given".to_owned()))?;
    Ok(External {
        tensor: shown(name),
        location: location.to_owned(),
        offset,
        bytes,
    })
}
