//! Answers, written straight into their buffer, as JSON or as msgpack.

use half::{bf16, f16};
use rmp::encode;

use super::document::Format;
use crate::for_each_values;
use crate::tensor::{Tensor, Values};

/// A writer of one document.
pub trait Writer {
    /// Begins an object of as many fields.
    fn object(&mut self, fields: usize);
    /// The key of the value that is written next.
    fn key(&mut self, name: &str);
    /// Ends the object.
    fn end_object(&mut self);
    /// An array with what the callback writes for each element.
    fn list<T>(&mut self, elements: &[T], write: impl FnMut(&mut Self, &T));
    /// A string.
    fn string(&mut self, text: &str);
    /// A number, a boolean or a string of a tensor.
    fn value(&mut self, value: &impl Value);
}

/// A value that can stand in a document.
pub trait Value {
    fn json(&self, out: &mut Vec<u8>);
    fn msgpack(&self, out: &mut Vec<u8>);
}

// Writing into memory cannot fail. JSON has no NaN and no infinity: both become null, as in JavaScript.
macro_rules! values {
    ($($kind:ty => $write:expr),*) => { $(impl Value for $kind {
        fn json(&self, out: &mut Vec<u8>) {
            let _ = serde_json::to_writer(out, self);
        }
        fn msgpack(&self, out: &mut Vec<u8>) {
            let write: fn(&mut Vec<u8>, &$kind) = $write;
            write(out, self);
        }
    })* };
}
values!(
    bool => |out, value| { let _ = encode::write_bool(out, *value); },
    u8 => |out, value| { let _ = encode::write_uint(out, u64::from(*value)); },
    u16 => |out, value| { let _ = encode::write_uint(out, u64::from(*value)); },
    u32 => |out, value| { let _ = encode::write_uint(out, u64::from(*value)); },
    u64 => |out, value| { let _ = encode::write_uint(out, *value); },
    usize => |out, value| { let _ = encode::write_uint(out, *value as u64); },
    i8 => |out, value| { let _ = encode::write_sint(out, i64::from(*value)); },
    i16 => |out, value| { let _ = encode::write_sint(out, i64::from(*value)); },
    i32 => |out, value| { let _ = encode::write_sint(out, i64::from(*value)); },
    i64 => |out, value| { let _ = encode::write_sint(out, *value); },
    f32 => |out, value| { let _ = encode::write_f32(out, *value); },
    f64 => |out, value| { let _ = encode::write_f64(out, *value); },
    String => |out, value| { let _ = encode::write_str(out, value); }
);

impl Value for f16 {
    fn json(&self, out: &mut Vec<u8>) {
        self.to_f32().json(out);
    }
    fn msgpack(&self, out: &mut Vec<u8>) {
        self.to_f32().msgpack(out);
    }
}

impl Value for bf16 {
    fn json(&self, out: &mut Vec<u8>) {
        self.to_f32().json(out);
    }
    fn msgpack(&self, out: &mut Vec<u8>) {
        self.to_f32().msgpack(out);
    }
}

/// Writes JSON.
#[derive(Debug, Default)]
pub struct Json(pub Vec<u8>);

impl Writer for Json {
    fn object(&mut self, _: usize) {
        self.0.push(b'{');
    }

    fn key(&mut self, name: &str) {
        if self.0.last() != Some(&b'{') {
            self.0.push(b',');
        }
        self.string(name);
        self.0.push(b':');
    }

    fn end_object(&mut self) {
        self.0.push(b'}');
    }

    fn list<T>(&mut self, elements: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.0.push(b'[');
        for (index, element) in elements.iter().enumerate() {
            if index > 0 {
                self.0.push(b',');
            }
            write(self, element);
        }
        self.0.push(b']');
    }

    fn string(&mut self, text: &str) {
        let _ = serde_json::to_writer(&mut self.0, text);
    }

    fn value(&mut self, value: &impl Value) {
        value.json(&mut self.0);
    }
}

/// Writes msgpack.
#[derive(Debug, Default)]
pub struct Msgpack(pub Vec<u8>);

impl Writer for Msgpack {
    fn object(&mut self, fields: usize) {
        let _ = encode::write_map_len(&mut self.0, length(fields));
    }

    fn key(&mut self, name: &str) {
        self.string(name);
    }

    fn end_object(&mut self) {}

    fn list<T>(&mut self, elements: &[T], mut write: impl FnMut(&mut Self, &T)) {
        let _ = encode::write_array_len(&mut self.0, length(elements.len()));
        for element in elements {
            write(self, element);
        }
    }

    fn string(&mut self, text: &str) {
        let _ = encode::write_str(&mut self.0, text);
    }

    fn value(&mut self, value: &impl Value) {
        value.msgpack(&mut self.0);
    }
}

/// Nothing that comes out of a model of a few gigabytes has more elements.
fn length(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// What can be written in any format.
pub trait WriteDocument {
    /// About how many bytes it takes, so that the buffer is allocated once.
    fn size_hint(&self) -> usize;
    /// Writes it.
    fn write(self, out: &mut impl Writer);
}

/// A document of that format.
pub fn document(format: Format, document: impl WriteDocument) -> Vec<u8> {
    let buffer = Vec::with_capacity(document.size_hint());
    match format {
        Format::Json => {
            let mut out = Json(buffer);
            document.write(&mut out);
            out.0
        }
        Format::Msgpack => {
            let mut out = Msgpack(buffer);
            document.write(&mut out);
            out.0
        }
    }
}

/// A serialisable value; `None` when it cannot be written.
pub fn serialise(format: Format, value: &impl serde::Serialize) -> Option<Vec<u8>> {
    match format {
        Format::Json => serde_json::to_vec(value).ok(),
        Format::Msgpack => rmp_serde::to_vec_named(value).ok(),
    }
}

/// All values in one flat array.
pub fn flat(out: &mut impl Writer, values: &Values) {
    for_each_values!(values, vector => out.list(vector, Writer::value));
}

/// Row `row` of the first dimension, nested by the inner dimensions; a bare value when there are none.
pub fn row(out: &mut impl Writer, tensor: &Tensor, row: usize) {
    let inner = tensor.shape().get(1..).unwrap_or_default();
    let stride = tensor.row_elements();
    for_each_values!(tensor.values(), vector => {
        if let Some(values) = vector.get(row * stride..(row + 1) * stride) {
            nested(out, inner, values);
        }
    });
}

/// The whole tensor, nested by its dimensions.
pub fn whole(out: &mut impl Writer, tensor: &Tensor) {
    for_each_values!(tensor.values(), vector => nested(out, tensor.shape(), vector));
}

fn nested<T: Value>(out: &mut impl Writer, shape: &[usize], values: &[T]) {
    match shape {
        [] => {
            if let Some(value) = values.first() {
                out.value(value);
            }
        }
        [_] => out.list(values, Writer::value),
        [count, inner @ ..] => {
            let stride: usize = inner.iter().product();
            let rows: Vec<usize> = (0..*count).collect();
            out.list(&rows, |out, row| {
                nested(
                    out,
                    inner,
                    values.get(row * stride..(row + 1) * stride).unwrap_or_default(),
                );
            });
        }
    }
}

/// About how many bytes the values take as text, so that the buffer is allocated once.
pub fn size_hint(tensors: &[Tensor]) -> usize {
    tensors.iter().map(|tensor| 64 + tensor.values().len() * 12).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Json)) -> String {
        let mut out = Json::default();
        write(&mut out);
        String::from_utf8(out.0).unwrap()
    }

    #[test]
    fn rows_and_tensors_are_nested_by_their_shape() {
        let tensor = Tensor::new(vec![2, 1, 2], Values::Fp32(vec![1.0, f32::NAN, f32::INFINITY, 0.1])).unwrap();
        assert_eq!(text(|out| whole(out, &tensor)), "[[[1.0,null]],[[null,0.1]]]");
        assert_eq!(text(|out| row(out, &tensor, 1)), "[[null,0.1]]");
        assert_eq!(text(|out| flat(out, tensor.values())), "[1.0,null,null,0.1]");
        let labels = Tensor::new(vec![2], Values::Bytes(vec!["a\"b".to_owned(), "é".to_owned()])).unwrap();
        assert_eq!(text(|out| row(out, &labels, 0)), "\"a\\\"b\"");
        let scalar = Tensor::new(vec![], Values::Int64(vec![5])).unwrap();
        assert_eq!(text(|out| whole(out, &scalar)), "5");
        let empty = Tensor::new(vec![2, 0], Values::Int64(vec![])).unwrap();
        assert_eq!(text(|out| whole(out, &empty)), "[[],[]]");
    }

    #[test]
    fn msgpack_is_what_a_known_reader_reads() {
        let tensor = Tensor::new(vec![2, 2], Values::Fp32(vec![1.0, f32::NAN, f32::INFINITY, 0.1])).unwrap();
        let mut out = Msgpack::default();
        whole(&mut out, &tensor);
        let rows: Vec<Vec<f32>> = rmp_serde::from_slice(&out.0).unwrap();
        assert!(rows[0][1].is_nan() && rows[1][0].is_infinite());
        assert_eq!((rows[0][0], rows[1][1]), (1.0, 0.1));
        let mut out = Msgpack::default();
        out.object(2);
        out.key("a");
        out.list(&[i64::MIN, -1, 0, 200, i64::MAX], Writer::value);
        out.key("b");
        out.value(&String::from("é"));
        out.end_object();
        let read: serde_json::Value = rmp_serde::from_slice(&out.0).unwrap();
        assert_eq!(
            read,
            serde_json::json!({"a": [i64::MIN, -1, 0, 200, i64::MAX], "b": "é"})
        );
    }
}
