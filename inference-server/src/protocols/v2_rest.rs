//! Open Inference Protocol v2 over REST: the infer request, with tensors in the document or as bytes behind it.

use std::borrow::Cow;

use super::document::Document;
use super::v2_inputs::{self, Infer, Inputs, Outputs, RANK_MAX};
use super::{raw, tensor_lists};
use crate::error::Error;
use crate::model::signature::{Signature, Slot};
use crate::request::Priority;
use crate::tensor::{Tensor, Values, elements};

/// The header that says where the document ends and the tensors' bytes begin.
pub const HEADER_LENGTH: &str = "inference-header-content-length";
/// Of an input: its bytes behind the document.
pub const BINARY_DATA_SIZE: &str = "binary_data_size";
/// Of an output: whether it is wanted as bytes.
const BINARY_DATA: &str = "binary_data";
/// Of a request: the same for all outputs that do not say it themselves.
const BINARY_DATA_OUTPUT: &str = "binary_data_output";

/// Reads an infer request; `tail` are the bytes behind the document, when the request has such. Keys and parameters that we do not know are skipped,
/// as the protocol wants it.
pub fn parse<'a>(mut reader: impl Document<'a>, tail: Option<&[u8]>, signature: &Signature) -> Result<Infer, Error> {
    let mut id = None;
    let mut inputs = Inputs::new(signature);
    let mut tail = Tail(tail);
    let mut seen_inputs = false;
    let mut outputs = None;
    let mut binary = false;
    let mut priority = Priority::default();
    let mut timeout = None;
    reader.object("infer request", |reader, key| match key {
        "id" => {
            id = Some(reader.string("id")?.into_owned());
            Ok(())
        }
        "inputs" => {
            seen_inputs = true;
            reader
                .array("inputs", |reader, index| {
                    read_input(reader, index, signature, &mut inputs, &mut tail)
                })
                .map(|_| ())
        }
        "outputs" => {
            outputs = Some(read_outputs(reader, signature)?);
            Ok(())
        }
        "parameters" => reader.object("parameters", |reader, key| match key {
            BINARY_DATA_OUTPUT => {
                binary = reader.boolean()?;
                Ok(())
            }
            v2_inputs::PRIORITY => {
                priority = v2_inputs::priority(reader.number()?.to_integer())?;
                Ok(())
            }
            v2_inputs::TIMEOUT => {
                timeout = v2_inputs::timeout(reader.number()?.to_integer())?;
                Ok(())
            }
            _ => reader.skip(),
        }),
        _ => reader.skip(),
    })?;
    reader.end()?;
    if !seen_inputs {
        return Err(Error::invalid(format!(
            "\"inputs\" is missing; {}",
            v2_inputs::expected(signature)
        )));
    }
    let mut request = inputs.finish()?;
    request.priority = priority;
    request.timeout = timeout;
    tail.end()?;
    let outputs = match outputs {
        Some(outputs) => outputs.finish(binary),
        None => v2_inputs::all_outputs(signature, binary),
    };
    Ok(Infer { id, request, outputs })
}

/// The bytes behind the document that no input has taken yet; `None` when the request is a document and nothing else.
struct Tail<'b>(Option<&'b [u8]>);

impl<'b> Tail<'b> {
    fn take(&mut self, name: &str, size: usize) -> Result<&'b [u8], Error> {
        let Some(rest) = self.0 else {
            return Err(Error::invalid(format!(
                "input \"{name}\" has a {BINARY_DATA_SIZE}, the request has no header {HEADER_LENGTH}"
            )));
        };
        let Some((bytes, rest)) = rest.split_at_checked(size) else {
            let left = rest.len();
            return Err(Error::invalid(format!(
                "input \"{name}\": {BINARY_DATA_SIZE} is {size}, the body has {left} bytes left"
            )));
        };
        self.0 = Some(rest);
        Ok(bytes)
    }

    fn end(&self) -> Result<(), Error> {
        match self.0 {
            Some(rest) if !rest.is_empty() => Err(Error::invalid(format!(
                "the body has {} bytes that belong to no input",
                rest.len()
            ))),
            _ => Ok(()),
        }
    }
}

/// The parts of one element of `inputs`, in whatever order they came.
struct Parts<'a, D> {
    name: Option<Cow<'a, str>>,
    datatype: Option<Cow<'a, str>>,
    shape: Option<Vec<usize>>,
    /// The reader at the start of `data`.
    data: Option<D>,
    /// The values with their nesting, as those of the input at this place of the signature.
    early: Option<(usize, (Vec<usize>, Values))>,
    binary_size: Option<usize>,
}

/// Reads the element of `inputs` with this index.
fn read_input<'a, D: Document<'a>>(
    reader: &mut D,
    index: usize,
    signature: &Signature,
    inputs: &mut Inputs<'_>,
    tail: &mut Tail<'_>,
) -> Result<(), Error> {
    let mut parts = Parts {
        name: None,
        datatype: None,
        shape: None,
        data: None,
        early: None,
        binary_size: None,
    };
    reader.object("input", |reader, key| match key {
        "name" => {
            parts.name = Some(reader.string("name")?);
            Ok(())
        }
        "datatype" => {
            parts.datatype = Some(reader.string("datatype")?);
            Ok(())
        }
        "shape" => {
            parts.shape = Some(read_shape(reader, parts.name.as_deref())?);
            Ok(())
        }
        "data" => {
            parts.data = Some(reader.clone());
            if let (Some(name), Some(datatype)) = (&parts.name, &parts.datatype) {
                let (position, slot) = v2_inputs::find(signature, name)?;
                v2_inputs::check_datatype(slot, datatype)?;
                parts.early = Some((position, read_data(reader, slot, parts.shape.as_deref())?));
                return Ok(());
            }
            // Many clients sort the keys. Then it is likely the input that stands at this place in the signature, too, and one pass is enough.
            let mut ahead = reader.clone();
            let slot = signature.inputs.get(index);
            match slot.map(|slot| read_data(&mut ahead, slot, parts.shape.as_deref())) {
                Some(Ok(read)) => {
                    parts.early = Some((index, read));
                    *reader = ahead;
                    Ok(())
                }
                // What is wrong is told when it is known what it should have been.
                _ => reader.skip(),
            }
        }
        "parameters" => {
            parts.binary_size = read_size(reader)?;
            Ok(())
        }
        _ => reader.skip(),
    })?;
    let Some(name) = parts.name else {
        return Err(Error::invalid("an input has no \"name\""));
    };
    let (position, slot) = v2_inputs::find(signature, &name)?;
    let absent = |field: &str| Error::invalid(format!("input \"{name}\" has no \"{field}\""));
    v2_inputs::check_datatype(slot, &parts.datatype.ok_or_else(|| absent("datatype"))?)?;
    let shape = parts.shape.ok_or_else(|| absent("shape"))?;
    let (nesting, values) = match (parts.data, parts.early, parts.binary_size) {
        (None, _, Some(size)) => {
            let bytes = tail.take(&name, size)?;
            return inputs.put(position, slot, binary_tensor(slot, shape, bytes)?);
        }
        (Some(_), _, Some(_)) => {
            return Err(Error::invalid(format!(
                "input \"{name}\" has both \"data\" and a {BINARY_DATA_SIZE}"
            )));
        }
        (Some(_), Some((place, read)), None) if place == position => read,
        (Some(mut at), _, None) => read_data(&mut at, slot, Some(&shape))?,
        (None, _, None) => return Err(absent("data")),
    };
    let nested = (nesting.len() > 1 && nesting != shape).then(|| {
        Error::invalid(format!(
            "input \"{name}\": shape is {shape:?}, data is nested as {nesting:?}"
        ))
    });
    let tensor = v2_inputs::tensor(slot, shape, values)?;
    match nested {
        Some(error) => Err(error),
        None => inputs.put(position, slot, tensor),
    }
}

/// A tensor from the bytes that belong to it.
pub fn binary_tensor(slot: &Slot, shape: Vec<usize>, bytes: &[u8]) -> Result<Tensor, Error> {
    v2_inputs::check_shape(slot, &shape)?;
    let values = raw::read(slot, &shape, bytes)?;
    v2_inputs::tensor(slot, shape, values)
}

fn read_shape<'a>(reader: &mut impl Document<'a>, name: Option<&str>) -> Result<Vec<usize>, Error> {
    let mut shape = Vec::new();
    let place = || name.map_or_else(String::new, |name| format!("input \"{name}\": "));
    reader.array("shape", |reader, _| {
        if shape.len() == RANK_MAX {
            return Err(Error::invalid(format!(
                "{}shape has more than {RANK_MAX} dimensions",
                place()
            )));
        }
        let number = reader.number()?;
        let size = number.to_integer().and_then(|size| usize::try_from(size).ok());
        shape.push(size.ok_or_else(|| Error::invalid(format!("{}shape: {number} is no dimension", place())))?);
        Ok(())
    })?;
    Ok(shape)
}

fn read_data<'a, D: Document<'a>>(
    reader: &mut D,
    slot: &Slot,
    shape: Option<&[usize]>,
) -> Result<(Vec<usize>, Values), Error> {
    // A made-up shape cannot make us allocate room for more values than the body can hold.
    let most = reader.remaining() / D::VALUE_BYTES_MIN + 1;
    let one_item = || -> Vec<usize> { slot.shape.iter().map(|size| size.unwrap_or(1)).collect() };
    let expected = shape.map_or_else(|| elements(&one_item()), elements);
    let capacity = expected.unwrap_or(0).min(most);
    let mut values = Values::empty(slot.datatype, capacity);
    let nesting = tensor_lists::read(reader, &mut values, &format!("input \"{}\"", slot.name))?;
    Ok((nesting, values))
}

/// `binary_data_size` among the parameters of an input.
fn read_size<'a>(reader: &mut impl Document<'a>) -> Result<Option<usize>, Error> {
    let mut size = None;
    reader.object("parameters", |reader, key| {
        if key != BINARY_DATA_SIZE {
            return reader.skip();
        }
        let number = reader.number()?;
        size = number.to_integer().and_then(|size| usize::try_from(size).ok());
        if size.is_none() {
            return Err(Error::invalid(format!("{BINARY_DATA_SIZE}: {number} is no size")));
        }
        Ok(())
    })?;
    Ok(size)
}

/// A boolean among parameters.
fn read_flag<'a>(reader: &mut impl Document<'a>, name: &str) -> Result<Option<bool>, Error> {
    let mut flag = None;
    reader.object("parameters", |reader, key| {
        if key == name {
            flag = Some(reader.boolean()?);
            Ok(())
        } else {
            reader.skip()
        }
    })?;
    Ok(flag)
}

fn read_outputs<'a>(reader: &mut impl Document<'a>, signature: &Signature) -> Result<Outputs, Error> {
    let mut outputs = Outputs::default();
    reader.array("outputs", |reader, _| {
        let mut name = None;
        let mut binary = None;
        reader.object("output", |reader, key| match key {
            "name" => {
                name = Some(reader.string("name")?);
                Ok(())
            }
            "parameters" => {
                binary = read_flag(reader, BINARY_DATA)?;
                Ok(())
            }
            _ => reader.skip(),
        })?;
        let name = name.ok_or_else(|| Error::invalid("an output has no \"name\""))?;
        outputs.put(signature, &name, binary)
    })?;
    Ok(outputs)
}

#[cfg(test)]
mod tests {
    use super::super::json;
    use super::*;
    use crate::tensor::DataType;

    #[test]
    fn keys_and_inputs_in_any_order_are_the_same_request() {
        let slot = |name: &str, datatype| Slot {
            name: name.into(),
            datatype,
            shape: vec![None, Some(2)],
            first_symbol: "N".to_owned(),
        };
        let slots = vec![
            slot("a", DataType::Fp32),
            slot("b", DataType::Fp32),
            slot("c", DataType::Int8),
        ];
        let signature = Signature::new(slots.clone(), slots);
        let read = |inputs: &[&[&str; 4]]| {
            let inputs: Vec<String> = inputs.iter().map(|keys| format!("{{{}}}", keys.join(","))).collect();
            let text = format!(r#"{{"inputs":[{}]}}"#, inputs.join(","));
            parse(json::Reader::new(&text), None, &signature).map_err(|error| error.to_string())
        };
        let keys = |name, datatype, data| [name, datatype, r#""shape":[1,2]"#, data];
        let a = keys(r#""name":"a""#, r#""datatype":"FP32""#, r#""data":[1,2.5]"#);
        let b = keys(r#""name":"b""#, r#""datatype":"FP32""#, r#""data":[[3,4]]"#);
        let c = keys(r#""name":"c""#, r#""datatype":"INT8""#, r#""data":[5,6]"#);
        let expected = read(&[&a, &b, &c]);
        assert!(expected.is_ok(), "{expected:?}");
        let turned = |keys: &[&'static str; 4], by: usize| {
            let mut keys = *keys;
            keys.rotate_right(by);
            keys
        };
        for by in 1..4 {
            let [a, b, c] = [&a, &b, &c].map(|keys| turned(keys, by));
            assert_eq!(read(&[&a, &b, &c]), expected, "turned by {by}");
            assert_eq!(read(&[&c, &b, &a]), expected, "turned by {by}");
            assert_eq!(read(&[&b, &c, &a]), expected, "turned by {by}");
        }
        // Read as FP32 at first, which it is not.
        let [a, b] = [&a, &b].map(|keys| turned(keys, 1));
        let wrong = turned(&keys(r#""name":"c""#, r#""datatype":"INT8""#, r#""data":[5,6.5]"#), 1);
        assert_eq!(
            read(&[&wrong, &b, &a]),
            Err("input \"c\": value 1 (6.5) does not fit INT8".to_owned())
        );
    }
}
