//! The named inputs and outputs of an infer request against the model's signature: the checks that REST and gRPC share.

use std::time::Duration;

use crate::error::Error;
use crate::model::signature::{Rows, Signature, Slot};
use crate::request::{Priority, Request};
use crate::tensor::{DataType, Tensor, Values, elements};

/// Dimensions that one tensor may have.
pub const RANK_MAX: usize = 32;

/// Texts that one input may hold, and over gRPC all inputs of a request: each takes more memory than an empty one takes bytes on the wire.
pub const STRINGS_MAX: usize = 1 << 20;

/// A parsed infer request.
#[derive(Debug, PartialEq)]
pub struct Infer {
    /// Given back in the answer.
    pub id: Option<String>,
    pub request: Request,
    /// In the order of the answer.
    pub outputs: Vec<Wanted>,
}

/// An output that the answer shall hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Place in the signature.
    pub position: usize,
    /// As raw bytes instead of a list of values.
    pub binary: bool,
}

/// The parameter of a request that says how urgent it is.
pub const PRIORITY: &str = "priority";

/// The parameter of a request that says after how many microseconds nobody wants the answer any more.
pub const TIMEOUT: &str = "timeout";

/// Reads that of the urgency; `None` stands for something that is no whole number.
pub fn priority(number: Option<i128>) -> Result<Priority, Error> {
    number
        .and_then(Priority::from_number)
        .ok_or_else(|| Error::invalid("priority: 1 is high, 2 or 0 normal, 3 low; there is no other"))
}

/// Reads that of the time; 0 means that the request sets none.
pub fn timeout(number: Option<i128>) -> Result<Option<Duration>, Error> {
    let micros = number.and_then(|number| u64::try_from(number).ok()).ok_or_else(|| {
        Error::invalid("timeout: a whole number of microseconds, 0 for the server's own; there is no other")
    })?;
    Ok((micros > 0).then(|| Duration::from_micros(micros)))
}

/// Tensors for a model's inputs, one after the other in any order.
#[derive(Debug)]
pub struct Inputs<'s> {
    signature: &'s Signature,
    tensors: Vec<Option<Tensor>>,
}

impl<'s> Inputs<'s> {
    /// None yet.
    pub fn new(signature: &'s Signature) -> Self {
        Self {
            signature,
            tensors: signature.inputs.iter().map(|_| None).collect(),
        }
    }

    /// Adds a tensor for the input at this place of the signature.
    pub fn put(&mut self, position: usize, slot: &Slot, tensor: Tensor) -> Result<(), Error> {
        match self.tensors.get_mut(position) {
            Some(Some(_)) => Err(Error::invalid(format!("input \"{}\" stands twice", slot.name))),
            Some(place) => {
                *place = Some(tensor);
                Ok(())
            }
            None => Err(Error::Internal("an input has no place".to_owned())),
        }
    }

    /// The request, when no input is missing and all agree in the number of rows.
    pub fn finish(self) -> Result<Request, Error> {
        let mut inputs = Vec::with_capacity(self.tensors.len());
        for (tensor, slot) in self.tensors.into_iter().zip(&self.signature.inputs) {
            match tensor {
                Some(tensor) => inputs.push(tensor),
                None => {
                    return Err(Error::invalid(format!(
                        "input \"{}\" is missing; {}",
                        slot.name,
                        expected(self.signature)
                    )));
                }
            }
        }
        let rows = rows(&inputs, self.signature)?;
        Ok(Request {
            inputs,
            rows,
            priority: Priority::default(),
            timeout: None,
        })
    }
}

/// The common number of rows of all inputs.
fn rows(inputs: &[Tensor], signature: &Signature) -> Result<usize, Error> {
    let rows = inputs.first().map_or(1, Tensor::rows);
    if signature.rows != Rows::Dynamic {
        return Ok(rows);
    }
    for (tensor, slot) in inputs.iter().zip(&signature.inputs) {
        if tensor.rows() != rows {
            let first = signature.inputs.first().map_or("", |slot| &slot.name);
            return Err(Error::invalid(format!(
                "inputs differ in their first dimension: \"{first}\" has {rows}, \"{}\" has {}",
                slot.name,
                tensor.rows()
            )));
        }
    }
    if rows == 0 {
        return Err(Error::invalid("the first dimension is 0: nothing to predict"));
    }
    Ok(rows)
}

/// What the model takes, for messages.
pub fn expected(signature: &Signature) -> String {
    let list: Vec<String> = signature
        .inputs
        .iter()
        .map(|slot| format!("\"{}\" {} {slot}", slot.name, slot.datatype.name()))
        .collect();
    format!("the model's inputs: {}", list.join(", "))
}

/// Place and slot of an input.
pub fn find<'s>(signature: &'s Signature, name: &str) -> Result<(usize, &'s Slot), Error> {
    signature
        .input(name)
        .ok_or_else(|| Error::invalid(format!("unknown input {name:?}; {}", expected(signature))))
}

/// The given datatype must be the model's.
pub fn check_datatype(slot: &Slot, given: &str) -> Result<(), Error> {
    if slot.datatype.name() == given {
        return Ok(());
    }
    let name = &slot.name;
    let expected = slot.datatype.name();
    Err(Error::invalid(match DataType::parse(given) {
        Some(_) => format!("input \"{name}\": expected datatype {expected}, got {given}"),
        None => format!("input \"{name}\": expected datatype {expected}, got the unknown {given:?}"),
    }))
}

/// The given shape must be one that the model takes.
pub fn check_shape(slot: &Slot, shape: &[usize]) -> Result<(), Error> {
    if slot.accepts(shape) {
        Ok(())
    } else {
        Err(Error::invalid(format!(
            "input \"{}\": expected shape {slot}, got {shape:?}",
            slot.name
        )))
    }
}

/// A tensor from an announced shape and values that were sent one by one.
pub fn tensor(slot: &Slot, shape: Vec<usize>, values: Values) -> Result<Tensor, Error> {
    check_shape(slot, &shape)?;
    let count = values.len();
    if elements(&shape) != Some(count) {
        let holds = elements(&shape).map_or_else(
            || "more values than memory can hold".to_owned(),
            |n| format!("{n} values"),
        );
        return Err(Error::invalid(format!(
            "input \"{}\": shape {shape:?} holds {holds}, data has {count}",
            slot.name
        )));
    }
    Tensor::new(shape, values).ok_or_else(|| Error::Internal("a shape does not fit its values".to_owned()))
}

/// The outputs that were asked for by name, each once.
#[derive(Debug, Default)]
pub struct Outputs(Vec<(usize, Option<bool>)>);

impl Outputs {
    /// Adds one; `binary` when the request says it for this output.
    pub fn put(&mut self, signature: &Signature, name: &str, binary: Option<bool>) -> Result<(), Error> {
        let Some(position) = signature.output(name) else {
            let known: Vec<&str> = signature.outputs.iter().map(|slot| &*slot.name).collect();
            return Err(Error::invalid(format!(
                "unknown output {name:?}; the model's outputs: {known:?}"
            )));
        };
        if self.0.iter().any(|(other, _)| *other == position) {
            return Err(Error::invalid(format!("output \"{name}\" stands twice")));
        }
        self.0.push((position, binary));
        Ok(())
    }

    /// In the order of the request; `binary` holds where an output says nothing.
    pub fn finish(self, binary: bool) -> Vec<Wanted> {
        let wanted = |(position, own): (usize, Option<bool>)| Wanted {
            position,
            binary: own.unwrap_or(binary),
        };
        self.0.into_iter().map(wanted).collect()
    }
}

/// All outputs, in the model's order.
pub fn all_outputs(signature: &Signature, binary: bool) -> Vec<Wanted> {
    (0..signature.outputs.len())
        .map(|position| Wanted { position, binary })
        .collect()
}
