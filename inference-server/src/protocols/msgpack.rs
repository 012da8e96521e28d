//! A msgpack reader with the same bounds as the one of JSON. Numbers keep their own kind, so that floats may be NaN and infinite.

use std::borrow::Cow;

use rmp::Marker;

use super::document::{DEPTH_MAX, Document, Format, KEYS_MAX, Kind, Malformed, Result};
use super::number::Number;

/// Where we are in the document.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    /// At the start of the document.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, depth: 0 }
    }

    /// The next marker; not consumed.
    fn marker(&self) -> Option<Marker> {
        self.bytes.get(self.at).map(|byte| Marker::from_u8(*byte))
    }

    /// The next bytes, consumed.
    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        match rest.first_chunk() {
            Some(bytes) => {
                self.at += N;
                Ok(*bytes)
            }
            None => self.malformed("the document ends within a value"),
        }
    }

    fn slice(&mut self, length: usize) -> Result<&'a [u8]> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        match rest.get(..length) {
            Some(bytes) => {
                self.at += length;
                Ok(bytes)
            }
            None => self.malformed("the document ends within a value"),
        }
    }

    fn length_1(&mut self) -> Result<usize> {
        Ok(u8::from_be_bytes(self.take()?).into())
    }

    fn length_2(&mut self) -> Result<usize> {
        Ok(u16::from_be_bytes(self.take()?).into())
    }

    fn length_4(&mut self) -> Result<usize> {
        Ok(usize::try_from(u32::from_be_bytes(self.take()?)).unwrap_or(usize::MAX))
    }

    fn enter(&mut self) -> Result<()> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            self.malformed(format!("nested deeper than {DEPTH_MAX}"))
        } else {
            Ok(())
        }
    }

    /// Consumes the marker of an object; its number of keys.
    fn object_length(&mut self, what: &str) -> Result<usize> {
        let marker = self.marker();
        self.at += usize::from(self.kind() == Kind::Object);
        match marker {
            Some(Marker::FixMap(count)) => Ok(count.into()),
            Some(Marker::Map16) => self.length_2(),
            Some(Marker::Map32) => self.length_4(),
            _ => self.malformed(format!("expected an object ({what})")),
        }
    }

    fn array_length(&mut self, what: &str) -> Result<usize> {
        let marker = self.marker();
        self.at += usize::from(self.kind() == Kind::Array);
        match marker {
            Some(Marker::FixArray(count)) => Ok(count.into()),
            Some(Marker::Array16) => self.length_2(),
            Some(Marker::Array32) => self.length_4(),
            _ => self.malformed(format!("expected an array ({what})")),
        }
    }
}

impl<'a> Document<'a> for Reader<'a> {
    const VALUE_BYTES_MIN: usize = 1;

    fn kind(&mut self) -> Kind {
        match self.marker() {
            Some(Marker::FixMap(_) | Marker::Map16 | Marker::Map32) => Kind::Object,
            Some(Marker::FixArray(_) | Marker::Array16 | Marker::Array32) => Kind::Array,
            // Some clients know only one of the two for a text.
            Some(
                Marker::FixStr(_)
                | Marker::Str8
                | Marker::Str16
                | Marker::Str32
                | Marker::Bin8
                | Marker::Bin16
                | Marker::Bin32,
            ) => Kind::String,
            Some(Marker::True | Marker::False) => Kind::Boolean,
            Some(Marker::Null) => Kind::Null,
            Some(
                Marker::FixPos(_)
                | Marker::FixNeg(_)
                | Marker::U8
                | Marker::U16
                | Marker::U32
                | Marker::U64
                | Marker::I8
                | Marker::I16
                | Marker::I32
                | Marker::I64
                | Marker::F32
                | Marker::F64,
            ) => Kind::Number,
            _ => Kind::Nothing,
        }
    }

    fn remaining(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    fn malformed<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(Malformed {
            format: Format::Msgpack,
            message: message.into(),
            at: self.at,
        }
        .into())
    }

    fn end(&mut self) -> Result<()> {
        if self.remaining() == 0 {
            Ok(())
        } else {
            self.malformed("bytes after the end of the document")
        }
    }

    fn object(&mut self, what: &str, mut field: impl FnMut(&mut Self, &str) -> Result<()>) -> Result<()> {
        let count = self.object_length(what)?;
        if count > KEYS_MAX {
            return self.malformed(format!("more than {KEYS_MAX} keys in one object"));
        }
        self.enter()?;
        let mut keys: Vec<Cow<'a, str>> = Vec::new();
        for _ in 0..count {
            let key = self.string("a key")?;
            if keys.contains(&key) {
                return self.malformed(format!("the key {key:?} stands twice"));
            }
            field(self, &key)?;
            keys.push(key);
        }
        self.depth -= 1;
        Ok(())
    }

    fn array(&mut self, what: &str, mut element: impl FnMut(&mut Self, usize) -> Result<()>) -> Result<usize> {
        let count = self.array_length(what)?;
        self.enter()?;
        // Each element takes a byte at least: a made-up length ends with the document.
        for index in 0..count {
            element(self, index)?;
        }
        self.depth -= 1;
        Ok(count)
    }

    fn string(&mut self, what: &str) -> Result<Cow<'a, str>> {
        let marker = self.marker();
        self.at += usize::from(self.kind() == Kind::String);
        let length = match marker {
            Some(Marker::FixStr(length)) => length.into(),
            Some(Marker::Str8 | Marker::Bin8) => self.length_1()?,
            Some(Marker::Str16 | Marker::Bin16) => self.length_2()?,
            Some(Marker::Str32 | Marker::Bin32) => self.length_4()?,
            _ => return self.malformed(format!("expected a string ({what})")),
        };
        match std::str::from_utf8(self.slice(length)?) {
            Ok(text) => Ok(Cow::Borrowed(text)),
            Err(_) => self.malformed("a string that is not UTF-8"),
        }
    }

    fn boolean(&mut self) -> Result<bool> {
        let value = match self.marker() {
            Some(Marker::True) => true,
            Some(Marker::False) => false,
            _ => return self.malformed("expected true or false"),
        };
        self.at += 1;
        Ok(value)
    }

    fn number(&mut self) -> Result<Number<'a>> {
        let marker = self.marker();
        self.at += usize::from(self.kind() == Kind::Number);
        Ok(match marker {
            Some(Marker::FixPos(value)) => Number::Integer(value.into()),
            Some(Marker::FixNeg(value)) => Number::Integer(value.into()),
            Some(Marker::U8) => Number::Integer(u8::from_be_bytes(self.take()?).into()),
            Some(Marker::U16) => Number::Integer(u16::from_be_bytes(self.take()?).into()),
            Some(Marker::U32) => Number::Integer(u32::from_be_bytes(self.take()?).into()),
            Some(Marker::U64) => Number::Integer(u64::from_be_bytes(self.take()?).into()),
            Some(Marker::I8) => Number::Integer(i8::from_be_bytes(self.take()?).into()),
            Some(Marker::I16) => Number::Integer(i16::from_be_bytes(self.take()?).into()),
            Some(Marker::I32) => Number::Integer(i32::from_be_bytes(self.take()?).into()),
            Some(Marker::I64) => Number::Integer(i64::from_be_bytes(self.take()?).into()),
            Some(Marker::F32) => Number::Single(f32::from_be_bytes(self.take()?)),
            Some(Marker::F64) => Number::Double(f64::from_be_bytes(self.take()?)),
            _ => return self.malformed("expected a number"),
        })
    }

    fn skip(&mut self) -> Result<()> {
        match self.kind() {
            Kind::Object => {
                // Keys of what is not understood may be of any kind and are not compared: the object is dropped as a whole.
                let count = self.object_length("a value")?;
                self.enter()?;
                for _ in 0..count {
                    self.skip()?;
                    self.skip()?;
                }
                self.depth -= 1;
                Ok(())
            }
            Kind::Array => self.array("a value", |reader, _| reader.skip()).map(|_| ()),
            // What is skipped need not be UTF-8.
            Kind::String => self.skip_bytes(0),
            Kind::Boolean | Kind::Null => {
                self.at += 1;
                Ok(())
            }
            Kind::Number => self.number().map(|_| ()),
            Kind::Nothing => self.skip_bytes(1),
        }
    }
}

impl Reader<'_> {
    /// Skips a string, or an extension with `kind_bytes` of type before its data.
    fn skip_bytes(&mut self, kind_bytes: usize) -> Result<()> {
        let Some(marker) = self.marker() else {
            return self.malformed("expected a value");
        };
        self.at += 1;
        let length = match marker {
            Marker::FixStr(length) => length.into(),
            Marker::Str8 | Marker::Bin8 | Marker::Ext8 => self.length_1()?,
            Marker::Str16 | Marker::Bin16 | Marker::Ext16 => self.length_2()?,
            Marker::Str32 | Marker::Bin32 | Marker::Ext32 => self.length_4()?,
            Marker::FixExt1 => 1,
            Marker::FixExt2 => 2,
            Marker::FixExt4 => 4,
            Marker::FixExt8 => 8,
            Marker::FixExt16 => 16,
            _ => {
                self.at -= 1;
                return self.malformed("expected a value");
            }
        };
        self.slice(length.saturating_add(kind_bytes)).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::tensor_lists;
    use super::*;
    use crate::tensor::{DataType, Values};

    fn read(bytes: &[u8], datatype: DataType) -> std::result::Result<(Vec<usize>, Values), String> {
        let mut values = Values::empty(datatype, 0);
        let mut reader = Reader::new(bytes);
        let shape = tensor_lists::read(&mut reader, &mut values, "x").map_err(|error| error.to_string())?;
        reader.end().map_err(|error| error.to_string())?;
        Ok((shape, values))
    }

    #[test]
    fn values_of_every_kind() {
        let text = rmp_serde::to_vec(&json!([[0, -1], [200, -200]])).unwrap();
        assert_eq!(
            read(&text, DataType::Int16),
            Ok((vec![2, 2], Values::Int16(vec![0, -1, 200, -200])))
        );
        let text = rmp_serde::to_vec(&(1, 70_000u32, u64::MAX)).unwrap();
        assert_eq!(
            read(&text, DataType::Uint64),
            Ok((vec![3], Values::Uint64(vec![1, 70_000, u64::MAX])))
        );
        let text = rmp_serde::to_vec(&(1.5f32, -2.5f64, f32::INFINITY, 3)).unwrap();
        assert_eq!(
            read(&text, DataType::Fp32),
            Ok((vec![4], Values::Fp32(vec![1.5, -2.5, f32::INFINITY, 3.0])))
        );
        let text = rmp_serde::to_vec(&(true, false)).unwrap();
        assert_eq!(
            read(&text, DataType::Bool),
            Ok((vec![2], Values::Bool(vec![true, false])))
        );
        // A text, and the same as bytes.
        assert_eq!(
            read(b"\x92\xa1a\xc4\x02\xc3\xa9", DataType::Bytes),
            Ok((vec![2], Values::Bytes(vec!["a".into(), "é".into()])))
        );
    }

    #[test]
    fn what_is_wrong_and_where() {
        let mut deep = vec![0x91; 100_000];
        deep.push(0);
        for (bytes, error) in [
            (&b""[..], "invalid msgpack at byte 0: expected a value of x"),
            (b"\x92\x01", "invalid msgpack at byte 2: expected a value of x"),
            (
                b"\xdd\xff\xff\xff\xff",
                "invalid msgpack at byte 5: expected a value of x",
            ),
            (
                b"\xdd\xff",
                "invalid msgpack at byte 1: the document ends within a value",
            ),
            (
                b"\x91\xca\0",
                "invalid msgpack at byte 2: the document ends within a value",
            ),
            (b"\x91\xa1a", "x: value 0 is a string, expected FP32"),
            (b"\x91\xc0", "x: value 0 is null, expected FP32"),
            (
                b"\x01\x01",
                "invalid msgpack at byte 1: bytes after the end of the document",
            ),
            (b"\xc1", "invalid msgpack at byte 0: expected a value of x"),
            (
                b"\xcb\x7f\xef\xff\xff\xff\xff\xff\xff",
                "x: value 0 (1.7976931348623157e308) does not fit FP32",
            ),
            (&deep, "invalid msgpack at byte 65: nested deeper than 64"),
        ] {
            assert_eq!(read(bytes, DataType::Fp32), Err(error.to_owned()), "{bytes:x?}");
        }
        assert_eq!(
            read(b"\x91\xa2\xff\xff", DataType::Bytes),
            Err("invalid msgpack at byte 4: a string that is not UTF-8".to_owned())
        );
        let twice = Reader::new(b"\x82\xa1a\x01\xa1a\x02").object("x", |reader, _| reader.skip());
        assert_eq!(
            twice.unwrap_err().to_string(),
            "invalid msgpack at byte 6: the key \"a\" stands twice"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_skipped_or_refused_as_a_known_reader_does(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut reader = Reader::new(&bytes);
            let ours = reader.skip().is_ok();
            let mut rest = &bytes[..];
            let theirs = rmp_serde::from_read::<_, serde::de::IgnoredAny>(&mut rest).is_ok();
            prop_assert_eq!(ours, theirs);
            if ours {
                prop_assert_eq!(reader.remaining(), rest.len());
            }
        }

        #[test]
        fn documents_of_a_known_writer_are_read(rows in proptest::collection::vec(proptest::collection::vec(any::<f32>(), 3), 1..9)) {
            let flat: Vec<u32> = rows.iter().flatten().map(|value| value.to_bits()).collect();
            let (shape, values) = read(&rmp_serde::to_vec(&rows).unwrap(), DataType::Fp32).unwrap();
            let Values::Fp32(read) = values else { panic!("{values:?}") };
            prop_assert_eq!(shape, [rows.len(), 3]);
            prop_assert_eq!(read.iter().map(|value| value.to_bits()).collect::<Vec<_>>(), flat);
            let whole: Value = rmp_serde::from_slice(&rmp_serde::to_vec(&rows).unwrap()).unwrap();
            prop_assert_eq!(whole.as_array().map(Vec::len), Some(rows.len()));
        }
    }
}
