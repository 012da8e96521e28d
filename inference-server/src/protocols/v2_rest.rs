//! Open Inference Protocol v2 over REST: the infer request, with tensors in the document or as bytes behind it.

use std::borrow::Cow;

use super::document::Document;
use super::v2_inputs::{self, Infer, Inputs, Outputs, RANK_MAX};
use super::{raw, tensor_lists};
use crate::error::Error;
use crate::model::signature::{Signature, Slot};
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
    reader.object("infer request", |reader, key| match key {
        "id" => {
            id = Some(reader.string("id")?.into_owned());
            Ok(())
        }
        "inputs" => {
            seen_inputs = true;
            reader
                .array("inputs", |reader, _| {
                    read_input(reader, signature, &mut inputs, &mut tail)
                })
                .map(|_| ())
        }
        "outputs" => {
            outputs = Some(read_outputs(reader, signature)?);
            Ok(())
        }
        "parameters" => {
            binary = read_flag(reader, BINARY_DATA_OUTPUT)?.unwrap_or(false);
            Ok(())
        }
        _ => reader.skip(),
    })?;
    reader.end()?;
    if !seen_inputs {
        return Err(Error::invalid(format!(
            "\"inputs\" is missing; {}",
            v2_inputs::expected(signature)
        )));
    }
    let request = inputs.finish()?;
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
    /// The values with their nesting, where name and datatype stood before them: usually everything is known by then, and one pass is enough.
    early: Option<(Vec<usize>, Values)>,
    /// Otherwise the reader at the start of `data`.
    data: Option<D>,
    binary_size: Option<usize>,
}

fn read_input<'a, D: Document<'a>>(
    reader: &mut D,
    signature: &Signature,
    inputs: &mut Inputs<'_>,
    tail: &mut Tail<'_>,
) -> Result<(), Error> {
    let mut parts = Parts {
        name: None,
        datatype: None,
        shape: None,
        early: None,
        data: None,
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
            if let (Some(name), Some(datatype)) = (&parts.name, &parts.datatype) {
                let (_, slot) = v2_inputs::find(signature, name)?;
                v2_inputs::check_datatype(slot, datatype)?;
                parts.early = Some(read_data(reader, slot, parts.shape.as_deref())?);
                Ok(())
            } else {
                parts.data = Some(reader.clone());
                reader.skip()
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
    let (nesting, values) = match (parts.early, parts.data, parts.binary_size) {
        (None, None, Some(size)) => {
            let bytes = tail.take(&name, size)?;
            return inputs.put(position, slot, binary_tensor(slot, shape, bytes)?);
        }
        (_, _, Some(_)) => {
            return Err(Error::invalid(format!(
                "input \"{name}\" has both \"data\" and a {BINARY_DATA_SIZE}"
            )));
        }
        (Some(read), _, None) => read,
        (None, Some(mut at), None) => read_data(&mut at, slot, Some(&shape))?,
        (None, None, None) => return Err(absent("data")),
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
    let capacity = shape.and_then(elements).unwrap_or(0).min(most);
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
