//! Arrays of a document into buffers of the model's own datatype, nested or flat.

use half::{bf16, f16};

use super::document::{Document, Kind, Result};
use super::number::{Number, single};
use super::v2_inputs::STRINGS_MAX;
use crate::error::Error;
use crate::tensor::{DataType, Values};

/// Extent of each nesting level, found while reading.
#[derive(Debug, Default)]
struct Extents {
    sizes: Vec<Option<usize>>,
    /// Nesting at which values stand.
    leaf: Option<usize>,
}

/// Appends the values at the reader to `values` and answers the shape that the nesting shows (`[]` for a bare value).
///
/// `what` names the place in messages: `input "x"`.
pub fn read<'a, D: Document<'a>>(reader: &mut D, values: &mut Values, what: &str) -> Result<Vec<usize>> {
    let mut extents = Extents::default();
    match values {
        Values::Bool(out) => nested(reader, out, &mut extents, 0, what, &boolean),
        Values::Uint8(out) => nested(reader, out, &mut extents, 0, what, &integer),
        Values::Uint16(out) => nested(reader, out, &mut extents, 0, what, &integer),
        Values::Uint32(out) => nested(reader, out, &mut extents, 0, what, &integer),
        Values::Uint64(out) => nested(reader, out, &mut extents, 0, what, &integer),
        Values::Int8(out) => nested(reader, out, &mut extents, 0, what, &integer),
        Values::Int16(out) => nested(reader, out, &mut extents, 0, what, &integer),
        Values::Int32(out) => nested(reader, out, &mut extents, 0, what, &integer),
        Values::Int64(out) => nested(reader, out, &mut extents, 0, what, &integer),
        Values::Fp16(out) => nested(reader, out, &mut extents, 0, what, &float),
        Values::Bf16(out) => nested(reader, out, &mut extents, 0, what, &float),
        Values::Fp32(out) => nested(reader, out, &mut extents, 0, what, &float),
        Values::Fp64(out) => nested(reader, out, &mut extents, 0, what, &float),
        Values::Bytes(out) => nested(reader, out, &mut extents, 0, what, &string),
    }?;
    let rank = extents.leaf.unwrap_or(extents.sizes.len());
    Ok(extents.sizes.iter().take(rank).map(|size| size.unwrap_or(0)).collect())
}

/// Where a value stands, for messages.
struct Place<'a> {
    what: &'a str,
    /// Index among all values of the tensor.
    index: usize,
}

type ReadValue<'f, D, T> = &'f dyn Fn(&mut D, &Place<'_>) -> Result<T>;

fn nested<'a, D: Document<'a>, T>(
    reader: &mut D,
    out: &mut Vec<T>,
    extents: &mut Extents,
    depth: usize,
    what: &str,
    read_value: ReadValue<'_, D, T>,
) -> Result<()> {
    if reader.kind() != Kind::Array {
        if extents.leaf.is_some_and(|leaf| leaf != depth) || extents.sizes.len() > depth {
            return Err(Error::Invalid(format!("{what}: values stand at different depths")));
        }
        extents.leaf = Some(depth);
        out.push(read_value(reader, &Place { what, index: out.len() })?);
        return Ok(());
    }
    if extents.leaf.is_some_and(|leaf| leaf <= depth) {
        return Err(Error::Invalid(format!("{what}: values stand at different depths")));
    }
    if extents.sizes.len() == depth {
        extents.sizes.push(None);
    }
    let count = reader.array(what, |reader, _| {
        // The common case, a value in the innermost array, is decided here without a further call.
        if extents.leaf == Some(depth + 1) && reader.kind() != Kind::Array {
            out.push(read_value(reader, &Place { what, index: out.len() })?);
            Ok(())
        } else {
            nested(reader, out, extents, depth + 1, what, read_value)
        }
    })?;
    match extents.sizes.get_mut(depth) {
        Some(Some(size)) if *size != count => Err(Error::Invalid(format!(
            "{what}: ragged nesting, an array of {count} elements stands where the others have {size}"
        ))),
        Some(size) => {
            *size = Some(count);
            Ok(())
        }
        None => Ok(()),
    }
}

fn wrong<'a, T>(reader: &mut impl Document<'a>, place: &Place<'_>, datatype: DataType) -> Result<T> {
    let kind = match reader.kind() {
        Kind::String => "a string",
        Kind::Boolean => "a boolean",
        Kind::Null => "null",
        Kind::Object => "an object",
        Kind::Number => "a number",
        Kind::Array | Kind::Nothing => return reader.malformed(format!("expected a value of {}", place.what)),
    };
    Err(Error::Invalid(format!(
        "{}: value {} is {kind}, expected {}",
        place.what,
        place.index,
        datatype.name()
    )))
}

fn does_not_fit<T>(number: Number<'_>, place: &Place<'_>, datatype: DataType) -> Result<T> {
    Err(Error::Invalid(format!(
        "{}: value {} ({number}) does not fit {}",
        place.what,
        place.index,
        datatype.name()
    )))
}

trait Float: Sized {
    const DATATYPE: DataType;
    fn of(number: Number<'_>) -> Option<Self>;
    /// From the double nearest to the number; nothing where that does not tell enough of it.
    fn of_short(value: f64) -> Option<Self>;
}

macro_rules! floats {
    ($($kind:ty => $datatype:ident by $convert:ident, $convert_short:expr),*) => { $(impl Float for $kind {
        const DATATYPE: DataType = DataType::$datatype;
        fn of(number: Number<'_>) -> Option<Self> {
            number.$convert()
        }
        fn of_short(value: f64) -> Option<Self> {
            $convert_short(value)
        }
    })* };
}
floats!(
    f16 => Fp16 by to_f16, |value| Number::Double(value).to_f16(),
    bf16 => Bf16 by to_bf16, |value| Number::Double(value).to_bf16(),
    f32 => Fp32 by to_f32, single,
    f64 => Fp64 by to_f64, Some
);

/// Reads a short number if it makes a value, and nothing otherwise.
fn short<'a, D: Document<'a>, T>(reader: &mut D, of: impl FnOnce(f64) -> Option<T>) -> Option<T> {
    let mut quick = reader.clone();
    let value = quick.short_number().and_then(of)?;
    *reader = quick;
    Some(value)
}

fn float<'a, T: Float>(reader: &mut impl Document<'a>, place: &Place<'_>) -> Result<T> {
    if let Some(value) = short(reader, T::of_short) {
        return Ok(value);
    }
    if reader.kind() != Kind::Number {
        return wrong(reader, place, T::DATATYPE);
    }
    let number = reader.number()?;
    T::of(number).map_or_else(|| does_not_fit(number, place, T::DATATYPE), Ok)
}

trait Integer: TryFrom<i128> {
    const DATATYPE: DataType;
}

macro_rules! integers {
    ($($kind:ty => $datatype:ident),*) => { $(impl Integer for $kind { const DATATYPE: DataType = DataType::$datatype; })* };
}
integers!(u8 => Uint8, u16 => Uint16, u32 => Uint32, u64 => Uint64, i8 => Int8, i16 => Int16, i32 => Int32, i64 => Int64);

fn integer<'a, T: Integer>(reader: &mut impl Document<'a>, place: &Place<'_>) -> Result<T> {
    let whole = |value: f64| (value.fract() == 0.0).then(|| T::try_from(value as i128).ok())?;
    if let Some(value) = short(reader, whole) {
        return Ok(value);
    }
    if reader.kind() != Kind::Number {
        return wrong(reader, place, T::DATATYPE);
    }
    let number = reader.number()?;
    number
        .to_integer()
        .and_then(|value| T::try_from(value).ok())
        .map_or_else(|| does_not_fit(number, place, T::DATATYPE), Ok)
}

/// `true` and `false`, and 1 and 0 as many clients send them.
fn boolean<'a>(reader: &mut impl Document<'a>, place: &Place<'_>) -> Result<bool> {
    if reader.kind() == Kind::Number {
        let number = reader.number()?;
        return match number.to_integer() {
            Some(0) => Ok(false),
            Some(1) => Ok(true),
            _ => does_not_fit(number, place, DataType::Bool),
        };
    }
    if reader.kind() == Kind::Boolean {
        reader.boolean()
    } else {
        wrong(reader, place, DataType::Bool)
    }
}

fn string<'a>(reader: &mut impl Document<'a>, place: &Place<'_>) -> Result<String> {
    if place.index >= STRINGS_MAX {
        return Err(Error::Invalid(format!("{}: more than {STRINGS_MAX} texts", place.what)));
    }
    if reader.kind() == Kind::String {
        reader.string("a value").map(std::borrow::Cow::into_owned)
    } else {
        wrong(reader, place, DataType::Bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::json::{self, Reader};
    use super::*;

    fn check(datatype: DataType, text: &str) -> std::result::Result<(Vec<usize>, Values), String> {
        let mut values = Values::empty(datatype, 0);
        let mut reader = Reader::new(text);
        let shape = read(&mut reader, &mut values, "input \"x\"").map_err(|error| error.to_string())?;
        reader.end().map_err(|error| error.to_string())?;
        Ok((shape, values))
    }

    #[test]
    fn nested_and_flat_arrays_of_each_datatype() {
        assert_eq!(
            check(DataType::Fp32, "[[1, 2.5],[3,-4e0]]"),
            Ok((vec![2, 2], Values::Fp32(vec![1.0, 2.5, 3.0, -4.0])))
        );
        assert_eq!(check(DataType::Fp32, "7"), Ok((vec![], Values::Fp32(vec![7.0]))));
        assert_eq!(
            check(DataType::Int8, "[-128,127]"),
            Ok((vec![2], Values::Int8(vec![-128, 127])))
        );
        assert_eq!(
            check(DataType::Bool, "[true,false,1,0]"),
            Ok((vec![4], Values::Bool(vec![true, false, true, false])))
        );
        assert_eq!(
            check(DataType::Bytes, r#"["a","\u00e9\ud83d\ude00"]"#),
            Ok((vec![2], Values::Bytes(vec!["a".to_owned(), "é😀".to_owned()])))
        );
        assert_eq!(check(DataType::Fp32, "[]"), Ok((vec![0], Values::Fp32(vec![]))));
        assert_eq!(check(DataType::Fp32, "[[],[]]"), Ok((vec![2, 0], Values::Fp32(vec![]))));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let error = |datatype, text| check(datatype, text).unwrap_err();
        assert_eq!(
            error(DataType::Fp32, "[1, 1e400]"),
            "input \"x\": value 1 (1e400) does not fit FP32"
        );
        assert_eq!(
            error(DataType::Uint8, "[256]"),
            "input \"x\": value 0 (256) does not fit UINT8"
        );
        assert_eq!(
            error(DataType::Uint8, "[-1]"),
            "input \"x\": value 0 (-1) does not fit UINT8"
        );
        assert_eq!(
            error(DataType::Int64, "[1.5]"),
            "input \"x\": value 0 (1.5) does not fit INT64"
        );
        assert_eq!(
            error(DataType::Fp32, "[\"1\"]"),
            "input \"x\": value 0 is a string, expected FP32"
        );
        assert_eq!(
            error(DataType::Fp32, "[null]"),
            "input \"x\": value 0 is null, expected FP32"
        );
        assert_eq!(
            error(DataType::Fp32, "[NaN]"),
            "invalid JSON at byte 1: expected a value of input \"x\""
        );
        assert_eq!(
            error(DataType::Bytes, "[1]"),
            "input \"x\": value 0 is a number, expected BYTES"
        );
        assert_eq!(
            error(DataType::Fp32, "[[1,2],[3]]"),
            "input \"x\": ragged nesting, an array of 1 elements stands where the others have 2"
        );
        assert_eq!(
            error(DataType::Fp32, "[1,[2]]"),
            "input \"x\": values stand at different depths"
        );
        assert_eq!(
            error(DataType::Fp32, "[[1],2]"),
            "input \"x\": values stand at different depths"
        );
        assert_eq!(
            error(DataType::Fp32, "[[],2]"),
            "input \"x\": values stand at different depths"
        );
        let texts = |count: usize| format!("[\"\"{}]", ",\"\"".repeat(count - 1));
        assert!(check(DataType::Bytes, &texts(STRINGS_MAX)).is_ok());
        let too_many = texts(STRINGS_MAX + 1);
        assert_eq!(
            error(DataType::Bytes, &too_many),
            "input \"x\": more than 1048576 texts"
        );
        assert!(error(DataType::Fp32, &"[".repeat(100_000)).contains("nested deeper than 64"));
    }

    proptest! {
        #[test]
        fn short_numbers_are_those_that_are_read_in_full(text in "-?[0-9]{0,17}(\\.[0-9]{0,17})?([eE][0-9]?)?[,. ]?") {
            let mut quick = Reader::new(&text);
            let mut full = Reader::new(&text);
            match (quick.short_number(), full.number()) {
                (Some(value), Ok(number)) => {
                    prop_assert_eq!(Some(value.to_bits()), number.to_f64().map(f64::to_bits));
                    prop_assert_eq!(quick.remaining(), full.remaining());
                }
                (Some(value), Err(error)) => prop_assert!(false, "{} is read as {}: {}", text, value, error),
                // White space is.
                (None, _) => prop_assert_eq!(quick.remaining(), text.trim_start().len()),
            }
        }

        #[test]
        fn any_text_is_read_or_refused_as_serde_does(text in "[\\[\\]{},:\"0-9a-z.eE+ -]{0,40}") {
            let mut reader = Reader::new(&text);
            let ours = reader.skip().and_then(|()| reader.end()).is_ok();
            let theirs = match serde_json::from_str::<serde_json::Value>(&text) {
                Ok(_) => true,
                // Numbers are only skipped here: whether they fit a datatype is asked later.
                Err(error) if error.to_string().starts_with("number out of range") => ours,
                Err(_) => false,
            };
            prop_assert_eq!(ours, theirs);
        }

        #[test]
        fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(text) = json::text(&bytes) {
                let _ = Reader::new(text).skip();
            }
        }

        #[test]
        fn matrices_round_trip(rows in proptest::collection::vec(proptest::collection::vec(-1e30f32..1e30, 3), 1..20)) {
            let text = serde_json::to_string(&rows).unwrap();
            let flat: Vec<f32> = rows.iter().flatten().copied().collect();
            prop_assert_eq!(check(DataType::Fp32, &text), Ok((vec![rows.len(), 3], Values::Fp32(flat))));
        }
    }
}
