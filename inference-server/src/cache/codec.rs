//! Outputs as bytes for Redis, and back. Whatever does not decode to outputs of the expected datatypes is a miss.

use half::{bf16, f16};

use crate::tensor::{DATATYPES, DataType, Tensor, Values, elements};

/// First byte: the version of this form.
const VERSION: u8 = 1;

/// Version, count, and for each tensor: datatype, rank, dimensions, values.
pub fn encode(outputs: &[Tensor]) -> Vec<u8> {
    let mut out = vec![VERSION];
    length(&mut out, outputs.len());
    for tensor in outputs {
        let datatype = tensor.values().datatype();
        out.push(
            DATATYPES
                .iter()
                .position(|other| *other == datatype)
                .map_or(u8::MAX, |code| code as u8),
        );
        length(&mut out, tensor.shape().len());
        tensor.shape().iter().for_each(|size| length(&mut out, *size));
        macro_rules! numbers {
            ($vector:expr) => {
                $vector
                    .iter()
                    .for_each(|value| out.extend_from_slice(&value.to_le_bytes()))
            };
        }
        match tensor.values() {
            Values::Bool(vector) => vector.iter().for_each(|value| out.push(u8::from(*value))),
            Values::Uint8(vector) => out.extend_from_slice(vector),
            Values::Uint16(vector) => numbers!(vector),
            Values::Uint32(vector) => numbers!(vector),
            Values::Uint64(vector) => numbers!(vector),
            Values::Int8(vector) => numbers!(vector),
            Values::Int16(vector) => numbers!(vector),
            Values::Int32(vector) => numbers!(vector),
            Values::Int64(vector) => numbers!(vector),
            Values::Fp16(vector) => numbers!(vector),
            Values::Bf16(vector) => numbers!(vector),
            Values::Fp32(vector) => numbers!(vector),
            Values::Fp64(vector) => numbers!(vector),
            Values::Bytes(vector) => vector.iter().for_each(|text| {
                length(&mut out, text.len());
                out.extend_from_slice(text.as_bytes());
            }),
        }
    }
    out
}

fn length(out: &mut Vec<u8>, length: usize) {
    out.extend_from_slice(&(length as u64).to_le_bytes());
}

/// Outputs with exactly these datatypes; `None` for anything else.
pub fn decode(bytes: &[u8], datatypes: &[DataType]) -> Option<Vec<Tensor>> {
    let mut bytes = bytes;
    if take(&mut bytes, 1)? != [VERSION] || read_length(&mut bytes)? != datatypes.len() {
        return None;
    }
    let mut outputs = Vec::with_capacity(datatypes.len());
    for expected in datatypes {
        let code = *take(&mut bytes, 1)?.first()?;
        if DATATYPES.get(usize::from(code)) != Some(expected) {
            return None;
        }
        let rank = read_length(&mut bytes)?;
        if rank > 64 {
            return None;
        }
        let shape: Vec<usize> = (0..rank).map(|_| read_length(&mut bytes)).collect::<Option<_>>()?;
        let values = read_values(&mut bytes, *expected, elements(&shape)?)?;
        outputs.push(Tensor::new(shape, values)?);
    }
    bytes.is_empty().then_some(outputs)
}

fn read_values(bytes: &mut &[u8], datatype: DataType, count: usize) -> Option<Values> {
    macro_rules! numbers {
        ($kind:ty, $variant:ident) => {{
            const SIZE: usize = size_of::<$kind>();
            let raw = take(bytes, count.checked_mul(SIZE)?)?;
            let parse = |chunk: &[u8]| chunk.try_into().map(<$kind>::from_le_bytes).ok();
            Values::$variant(raw.chunks_exact(SIZE).map(parse).collect::<Option<_>>()?)
        }};
    }
    Some(match datatype {
        DataType::Bool => Values::Bool(take(bytes, count)?.iter().map(|byte| *byte != 0).collect()),
        DataType::Uint8 => numbers!(u8, Uint8),
        DataType::Uint16 => numbers!(u16, Uint16),
        DataType::Uint32 => numbers!(u32, Uint32),
        DataType::Uint64 => numbers!(u64, Uint64),
        DataType::Int8 => numbers!(i8, Int8),
        DataType::Int16 => numbers!(i16, Int16),
        DataType::Int32 => numbers!(i32, Int32),
        DataType::Int64 => numbers!(i64, Int64),
        DataType::Fp16 => numbers!(f16, Fp16),
        DataType::Bf16 => numbers!(bf16, Bf16),
        DataType::Fp32 => numbers!(f32, Fp32),
        DataType::Fp64 => numbers!(f64, Fp64),
        DataType::Bytes => {
            // No capacity from a count that came from outside: the bytes left bound it.
            let mut texts = Vec::new();
            for _ in 0..count {
                let size = read_length(bytes)?;
                texts.push(String::from_utf8(take(bytes, size)?.to_vec()).ok()?);
            }
            Values::Bytes(texts)
        }
    })
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (head, tail) = bytes.split_at_checked(count)?;
    *bytes = tail;
    Some(head)
}

fn read_length(bytes: &mut &[u8]) -> Option<usize> {
    let raw = take(bytes, 8)?;
    usize::try_from(u64::from_le_bytes(raw.try_into().ok()?)).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_datatype_round_trips_and_others_are_misses() {
        let outputs: Vec<Tensor> = DATATYPES
            .iter()
            .map(|datatype| Tensor::new(vec![2, 3], Values::zeros(*datatype, 6)).unwrap())
            .collect();
        let bytes = encode(&outputs);
        assert_eq!(decode(&bytes, &DATATYPES), Some(outputs));
        let mut reversed = DATATYPES;
        reversed.reverse();
        assert_eq!(decode(&bytes, &reversed), None);
        assert_eq!(decode(&bytes[..bytes.len() - 1], &DATATYPES), None);
        assert_eq!(decode(b"", &DATATYPES), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_outputs_or_a_miss(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode(&bytes, &[DataType::Fp32]);
            let mut framed = vec![VERSION];
            length(&mut framed, 1);
            framed.extend(bytes);
            let _ = decode(&framed, &[DataType::Bytes]);
        }

        #[test]
        fn texts_round_trip(texts in proptest::collection::vec(".*", 0..10)) {
            let outputs = vec![Tensor::new(vec![texts.len()], Values::Bytes(texts)).unwrap()];
            prop_assert_eq!(decode(&encode(&outputs), &[DataType::Bytes]), Some(outputs));
        }
    }
}
