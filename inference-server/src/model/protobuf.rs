//! Protobuf's wire format: the fields of a message in order, borrowed from its bytes. Nothing is allocated and nothing recurses here.

/// Bytes that are no protobuf message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// The value of one field, as far as the wire knows its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(&'a [u8]),
    Fixed32([u8; 4]),
}

/// One field of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    pub number: u32,
    pub value: Value<'a>,
}

/// The fields that are left in a message.
#[derive(Debug)]
pub struct Fields<'a>(&'a [u8]);

/// The fields of a message.
pub fn fields(message: &[u8]) -> Fields<'_> {
    Fields(message)
}

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self
            .0
            .split_at_checked(count)
            .ok_or(Malformed("a field is longer than its message"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// At most ten bytes of seven bits each; bits beyond the 64th are dropped, as protobuf's own parsers do.
    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let (byte, rest) = self
                .0
                .split_first()
                .ok_or(Malformed("a number is cut off at the end of its message"))?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed("a number is longer than ten bytes"))
    }

    fn field(&mut self) -> Result<Field<'a>, Malformed> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| Malformed("a field's number is too large"))?;
        if number == 0 {
            return Err(Malformed("a field has number 0"));
        }
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(self.array()?),
            2 => {
                let length = self.varint()?;
                let length = usize::try_from(length).map_err(|_| Malformed("a field is longer than its message"))?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Fixed32(self.array()?),
            // Groups are what a parser recurses into even when it skips; ONNX has none.
            _ => return Err(Malformed("a field has a wire type that ONNX does not use")),
        };
        Ok(Field { number, value })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

/// Calls `visit` for the submessages with one of these numbers.
pub fn each<'a, E: From<Malformed>>(
    message: &'a [u8],
    numbers: &[u32],
    mut visit: impl FnMut(&'a [u8]) -> Result<(), E>,
) -> Result<(), E> {
    for field in fields(message) {
        let field = field?;
        if let (true, Value::Bytes(inner)) = (numbers.contains(&field.number), field.value) {
            visit(inner)?;
        }
    }
    Ok(())
}

/// The numbers of a repeated integer field: packed into one value, or one of many.
pub fn integers(value: Value<'_>) -> impl Iterator<Item = Result<u64, Malformed>> + '_ {
    let (single, packed) = match value {
        Value::Varint(number) => (Some(Ok(number)), &[][..]),
        Value::Bytes(bytes) => (None, bytes),
        Value::Fixed64(_) | Value::Fixed32(_) => {
            (Some(Err(Malformed("an integer has the wire type of a float"))), &[][..])
        }
    };
    let mut rest = Fields(packed);
    single.into_iter().chain(std::iter::from_fn(move || {
        if rest.0.is_empty() {
            return None;
        }
        let number = rest.varint();
        if number.is_err() {
            rest.0 = &[];
        }
        Some(number)
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_wire_type_and_every_way_to_be_cut_off() {
        let message = [
            0x08, 0x96, 0x01, // 1: varint 150
            0x12, 0x02, b'h', b'i', // 2: bytes
            0x19, 1, 2, 3, 4, 5, 6, 7, 8, // 3: fixed64
            0x25, 1, 2, 3, 4, // 4: fixed32
        ];
        let read: Result<Vec<Field<'_>>, Malformed> = fields(&message).collect();
        let field = |number, value| Field { number, value };
        assert_eq!(
            read.unwrap(),
            [
                field(1, Value::Varint(150)),
                field(2, Value::Bytes(b"hi")),
                field(3, Value::Fixed64([1, 2, 3, 4, 5, 6, 7, 8])),
                field(4, Value::Fixed32([1, 2, 3, 4])),
            ]
        );
        let ends = [0, 3, 7, 16, 21];
        for length in 0..message.len() {
            let whole = fields(&message[..length]).all(|field| field.is_ok());
            assert_eq!(whole, ends.contains(&length), "cut after {length} bytes");
        }
        // Field 0, a group, an endless number, a length beyond the address space.
        for bytes in [
            &[0x00, 0x01][..],
            &[0x0b, 0x0c],
            &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        ] {
            assert!(fields(bytes).any(|field| field.is_err()), "{bytes:?}");
        }
    }

    #[test]
    fn repeated_numbers_are_read_packed_and_single() {
        let read = |value| integers(value).collect::<Result<Vec<u64>, Malformed>>();
        assert_eq!(read(Value::Varint(7)), Ok(vec![7]));
        assert_eq!(read(Value::Bytes(&[7, 0x96, 0x01])), Ok(vec![7, 150]));
        assert_eq!(read(Value::Bytes(&[])), Ok(vec![]));
        assert!(read(Value::Bytes(&[0x96])).is_err());
        assert!(read(Value::Fixed32([0; 4])).is_err());
    }

    proptest! {
        /// Each field takes at least one byte: the walk ends, and an error is the last item.
        #[test]
        fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let read: Vec<_> = fields(&bytes).collect();
            prop_assert!(read.len() <= bytes.len());
            prop_assert!(read.iter().rev().skip(1).all(Result::is_ok));
            prop_assert!(integers(Value::Bytes(&bytes)).count() <= bytes.len());
        }
    }
}
