//! An input or output as the file declares it: name, element type, shape.

use super::protobuf::{Value, each, fields};
use super::source::LoadError;
use super::tensors::{RANK_MAX, refused, shown};

/// An input or output as it is declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared<'a> {
    pub name: &'a [u8],
    /// Number in `TensorProto.DataType`; 0 when it is no tensor.
    pub element: u64,
    /// Sizes, or names of free sizes; `None` when no shape is declared.
    pub shape: Option<Vec<Dimension<'a>>>,
}

/// One dimension of a declared shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dimension<'a> {
    Size(u64),
    Free(&'a [u8]),
}

/// Reads a `ValueInfoProto`.
pub fn declared(message: &[u8]) -> Result<Declared<'_>, LoadError> {
    let mut value = Declared {
        name: &[],
        element: 0,
        shape: None,
    };
    for field in fields(message) {
        let field = field?;
        match (field.number, field.value) {
            (1, Value::Bytes(name)) => value.name = name,
            (2, Value::Bytes(kind)) => {
                each(kind, &[1], |tensor| tensor_type(tensor, &mut value))?;
            }
            _ => {}
        }
    }
    Ok(value)
}

fn tensor_type<'a>(message: &'a [u8], into: &mut Declared<'a>) -> Result<(), LoadError> {
    for field in fields(message) {
        let field = field?;
        match (field.number, field.value) {
            (1, Value::Varint(element)) => into.element = element,
            (2, Value::Bytes(shape)) => {
                let mut dimensions = Vec::new();
                each(shape, &[1], |dimension| {
                    if dimensions.len() == RANK_MAX {
                        return Err(refused(format!(
                            "{} has more than {RANK_MAX} dimensions",
                            shown(into.name)
                        )));
                    }
                    dimensions.push(dimension_of(dimension)?);
                    Ok(())
                })?;
                into.shape = Some(dimensions);
            }
            _ => {}
        }
    }
    Ok(())
}

/// A size, or a free one; writers say "free" with a name, with nothing, and with -1 or 0.
fn dimension_of(message: &[u8]) -> Result<Dimension<'_>, LoadError> {
    let mut dimension = Dimension::Free(&[]);
    for field in fields(message) {
        let field = field?;
        match (field.number, field.value) {
            (1, Value::Varint(size)) if (1..=i64::MAX as u64).contains(&size) => dimension = Dimension::Size(size),
            (2, Value::Bytes(name)) => dimension = Dimension::Free(name),
            _ => {}
        }
    }
    Ok(dimension)
}
