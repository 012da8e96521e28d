//! Tensors as raw little-endian bytes, as the binary extension of REST and the raw contents of gRPC carry them. Sizes are checked before anything is allocated.

use half::{bf16, f16};

use super::v2_inputs::STRINGS_MAX;
use crate::error::Error;
use crate::model::signature::Slot;
use crate::tensor::{DataType, Values, elements};

/// Bytes before each string of a BYTES tensor: its length.
const LENGTH_BYTES: usize = 4;

/// Bytes of one value; for BYTES the least that one takes.
const fn value_bytes(datatype: DataType) -> usize {
    match datatype {
        DataType::Bool | DataType::Uint8 | DataType::Int8 => 1,
        DataType::Uint16 | DataType::Int16 | DataType::Fp16 | DataType::Bf16 => 2,
        DataType::Uint32 | DataType::Int32 | DataType::Fp32 => 4,
        DataType::Uint64 | DataType::Int64 | DataType::Fp64 => 8,
        DataType::Bytes => LENGTH_BYTES,
    }
}

/// Reads the values of an input whose shape has been announced.
///
/// BOOL is one byte, 0 or 1. BYTES is a row of strings, each after its length in four bytes, and each UTF-8, because ONNX knows no other strings.
pub fn read(slot: &Slot, shape: &[usize], bytes: &[u8]) -> Result<Values, Error> {
    let datatype = slot.datatype;
    let count = elements(shape);
    let least = count.and_then(|count| count.checked_mul(value_bytes(datatype)));
    let fits = match datatype {
        DataType::Bytes => least.is_some_and(|least| least <= bytes.len()),
        _ => least == Some(bytes.len()),
    };
    let (Some(count), true) = (count, fits) else {
        let takes = match (least, datatype) {
            (None, _) => "more bytes than memory can hold".to_owned(),
            (Some(least), DataType::Bytes) => format!("at least {least} bytes"),
            (Some(least), _) => format!("{least} bytes"),
        };
        return Err(Error::invalid(format!(
            "input \"{}\": shape {shape:?} of {} takes {takes}, its binary data has {}",
            slot.name,
            datatype.name(),
            bytes.len()
        )));
    };
    Ok(match datatype {
        DataType::Bool => Values::Bool(booleans(slot, bytes)?),
        DataType::Uint8 => Values::Uint8(bytes.to_vec()),
        DataType::Uint16 => Values::Uint16(numbers(bytes, u16::from_le_bytes)),
        DataType::Uint32 => Values::Uint32(numbers(bytes, u32::from_le_bytes)),
        DataType::Uint64 => Values::Uint64(numbers(bytes, u64::from_le_bytes)),
        DataType::Int8 => Values::Int8(numbers(bytes, i8::from_le_bytes)),
        DataType::Int16 => Values::Int16(numbers(bytes, i16::from_le_bytes)),
        DataType::Int32 => Values::Int32(numbers(bytes, i32::from_le_bytes)),
        DataType::Int64 => Values::Int64(numbers(bytes, i64::from_le_bytes)),
        DataType::Fp16 => Values::Fp16(numbers(bytes, f16::from_le_bytes)),
        DataType::Bf16 => Values::Bf16(numbers(bytes, bf16::from_le_bytes)),
        DataType::Fp32 => Values::Fp32(numbers(bytes, f32::from_le_bytes)),
        DataType::Fp64 => Values::Fp64(numbers(bytes, f64::from_le_bytes)),
        DataType::Bytes => Values::Bytes(strings(slot, bytes, count)?),
    })
}

/// One pass over chunks of a constant size, which the compiler turns into a copy.
fn numbers<T, const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks().0.iter().map(|chunk| number(*chunk)).collect()
}

fn booleans(slot: &Slot, bytes: &[u8]) -> Result<Vec<bool>, Error> {
    let boolean = |(index, byte): (usize, &u8)| match byte {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(Error::invalid(format!(
            "input \"{}\": value {index} ({other}) does not fit BOOL",
            slot.name
        ))),
    };
    bytes.iter().enumerate().map(boolean).collect()
}

fn strings(slot: &Slot, bytes: &[u8], count: usize) -> Result<Vec<String>, Error> {
    let wrong = |index: usize, what: String| Error::invalid(format!("input \"{}\": value {index} {what}", slot.name));
    if count > STRINGS_MAX {
        return Err(Error::invalid(format!(
            "input \"{}\": more than {STRINGS_MAX} texts",
            slot.name
        )));
    }
    let mut strings = Vec::with_capacity(count);
    let mut rest = bytes;
    for index in 0..count {
        let Some((head, tail)) = rest.split_first_chunk::<LENGTH_BYTES>() else {
            let left = rest.len();
            return Err(wrong(
                index,
                format!("needs {LENGTH_BYTES} bytes for its length, its binary data has {left} left"),
            ));
        };
        let length = usize::try_from(u32::from_le_bytes(*head)).unwrap_or(usize::MAX);
        let Some((content, tail)) = tail.split_at_checked(length) else {
            let left = tail.len();
            return Err(wrong(
                index,
                format!("is announced with {length} bytes, its binary data has {left} left"),
            ));
        };
        let text = std::str::from_utf8(content).map_err(|_| wrong(index, "is not UTF-8".to_owned()))?;
        strings.push(text.to_owned());
        rest = tail;
    }
    if rest.is_empty() {
        Ok(strings)
    } else {
        Err(Error::invalid(format!(
            "input \"{}\": {} bytes are left after {count} values",
            slot.name,
            rest.len()
        )))
    }
}

/// Bytes that [`write`] appends.
pub fn length(values: &Values) -> usize {
    match values {
        Values::Bytes(strings) => strings.iter().map(|text| LENGTH_BYTES + text.len()).sum(),
        other => other.len() * value_bytes(other.datatype()),
    }
}

/// Appends the values.
pub fn write(out: &mut Vec<u8>, values: &Values) {
    match values {
        Values::Bool(values) => out.extend(values.iter().map(|value| u8::from(*value))),
        Values::Uint8(values) => out.extend_from_slice(values),
        Values::Uint16(values) => append(out, values, u16::to_le_bytes),
        Values::Uint32(values) => append(out, values, u32::to_le_bytes),
        Values::Uint64(values) => append(out, values, u64::to_le_bytes),
        Values::Int8(values) => append(out, values, i8::to_le_bytes),
        Values::Int16(values) => append(out, values, i16::to_le_bytes),
        Values::Int32(values) => append(out, values, i32::to_le_bytes),
        Values::Int64(values) => append(out, values, i64::to_le_bytes),
        Values::Fp16(values) => append(out, values, f16::to_le_bytes),
        Values::Bf16(values) => append(out, values, bf16::to_le_bytes),
        Values::Fp32(values) => append(out, values, f32::to_le_bytes),
        Values::Fp64(values) => append(out, values, f64::to_le_bytes),
        Values::Bytes(strings) => {
            for text in strings {
                // A longer string cannot have come out of a tensor that fits memory twice.
                let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
                out.extend_from_slice(&length.to_le_bytes());
                out.extend_from_slice(text.as_bytes());
            }
        }
    }
}

fn append<T: Copy, const N: usize>(out: &mut Vec<u8>, values: &[T], bytes: impl Fn(T) -> [u8; N]) {
    let start = out.len();
    out.resize(start + values.len() * N, 0);
    let places = out.get_mut(start..).unwrap_or_default().as_chunks_mut().0;
    for (place, value) in places.iter_mut().zip(values) {
        *place = bytes(*value);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tensor::DATATYPES;

    fn slot(datatype: DataType) -> Slot {
        Slot {
            name: "x".into(),
            datatype,
            shape: vec![None],
            first_symbol: String::new(),
        }
    }

    fn check(datatype: DataType, shape: &[usize], bytes: &[u8]) -> Result<Values, String> {
        read(&slot(datatype), shape, bytes).map_err(|error| error.to_string())
    }

    #[test]
    fn the_bytes_of_each_datatype_on_the_wire() {
        for (values, bytes) in [
            (Values::Bool(vec![true, false]), &[1, 0][..]),
            (Values::Uint8(vec![1, 255]), &[1, 255]),
            (Values::Uint16(vec![0x0102]), &[2, 1]),
            (Values::Uint32(vec![0x0102_0304]), &[4, 3, 2, 1]),
            (Values::Uint64(vec![1]), &[1, 0, 0, 0, 0, 0, 0, 0]),
            (Values::Int8(vec![-1]), &[255]),
            (Values::Int16(vec![-2]), &[0xfe, 0xff]),
            (Values::Int32(vec![-2]), &[0xfe, 0xff, 0xff, 0xff]),
            (Values::Int64(vec![-1]), &[255; 8]),
            (Values::Fp16(vec![f16::from_f32(1.0)]), &[0, 0x3c]),
            (Values::Bf16(vec![bf16::from_f32(1.0)]), &[0x80, 0x3f]),
            (Values::Fp32(vec![1.0]), &[0, 0, 0x80, 0x3f]),
            (Values::Fp64(vec![1.0]), &[0, 0, 0, 0, 0, 0, 0xf0, 0x3f]),
            (
                Values::Bytes(vec!["é".into(), String::new()]),
                &[2, 0, 0, 0, 0xc3, 0xa9, 0, 0, 0, 0],
            ),
        ] {
            let mut written = Vec::new();
            write(&mut written, &values);
            assert_eq!(written, bytes, "{values:?}");
            assert_eq!(length(&values), bytes.len(), "{values:?}");
            assert_eq!(check(values.datatype(), &[values.len()], bytes), Ok(values));
        }
    }

    #[test]
    fn sizes_that_lie_are_refused_before_anything_is_allocated() {
        for (datatype, shape, bytes, error) in [
            (
                DataType::Fp32,
                &[2][..],
                &[0u8; 7][..],
                "shape [2] of FP32 takes 8 bytes, its binary data has 7",
            ),
            (
                DataType::Fp32,
                &[1],
                &[0; 8],
                "shape [1] of FP32 takes 4 bytes, its binary data has 8",
            ),
            (
                DataType::Fp64,
                &[usize::MAX],
                &[0; 8],
                "shape [18446744073709551615] of FP64 takes more bytes than memory can hold, its binary data has 8",
            ),
            (
                DataType::Bytes,
                &[1 << 40],
                &[0; 8],
                "shape [1099511627776] of BYTES takes at least 4398046511104 bytes, its binary data has 8",
            ),
            (DataType::Bool, &[1], &[2], "value 0 (2) does not fit BOOL"),
            (
                DataType::Bytes,
                &[1],
                &[255, 255, 255, 255, 1],
                "value 0 is announced with 4294967295 bytes, its binary data has 1 left",
            ),
            (
                DataType::Bytes,
                &[2],
                &[1, 0, 0, 0, b'a', 1, 0, 0],
                "value 1 needs 4 bytes for its length, its binary data has 3 left",
            ),
            (
                DataType::Bytes,
                &[1],
                &[0, 0, 0, 0, 1],
                "1 bytes are left after 1 values",
            ),
            (DataType::Bytes, &[1], &[1, 0, 0, 0, 0xff], "value 0 is not UTF-8"),
        ] {
            assert_eq!(check(datatype, shape, bytes), Err(format!("input \"x\": {error}")));
        }
    }

    proptest! {
        #[test]
        fn whatever_is_sent_is_read_back_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64), count in 0..16usize) {
            for datatype in DATATYPES {
                if let Ok(values) = check(datatype, &[count], &bytes) {
                    let mut written = Vec::new();
                    write(&mut written, &values);
                    prop_assert_eq!(&written, &bytes);
                }
            }
        }
    }
}
