//! Rows of features, for the protocols that send items instead of tensors: `features`, `instances`.

use super::document::{Document, Kind};
use super::tensor_lists;
use crate::error::Error;
use crate::model::signature::{Rows, Signature, Slot};
use crate::request::{Priority, Request};
use crate::tensor::{Tensor, Values, elements};

/// Collects items into one tensor per input of the model.
#[derive(Debug)]
pub struct Collector<'s> {
    signature: &'s Signature,
    columns: Vec<Column<'s>>,
    rows: usize,
}

/// What was collected for one input.
#[derive(Debug)]
struct Column<'s> {
    slot: &'s Slot,
    values: Values,
    /// Shape of one item, known after the first.
    inner: Option<Vec<usize>>,
    /// Items read: must equal the number of rows after each.
    count: usize,
}

impl<'s> Collector<'s> {
    /// Nothing collected yet.
    pub fn new(signature: &'s Signature) -> Self {
        let columns = signature
            .inputs
            .iter()
            .map(|slot| Column {
                slot,
                values: Values::empty(slot.datatype, 0),
                inner: None,
                count: 0,
            })
            .collect();
        Self {
            signature,
            columns,
            rows: 0,
        }
    }

    /// Reads one item: the features of the only input, or an object with the features of each input by name.
    ///
    /// `what` names the item in messages: `instances[3]`.
    pub fn item<'a, D: Document<'a>>(&mut self, reader: &mut D, what: &str) -> Result<(), Error> {
        let skips_rows = self.signature.rows == Rows::None;
        if reader.kind() == Kind::Object {
            let columns = &mut self.columns;
            let signature = self.signature;
            reader.object(what, |reader, name| {
                let Some((position, _)) = signature.input(name) else {
                    return Err(Error::invalid(format!(
                        "{what}: unknown input {name:?}; {}",
                        known(signature)
                    )));
                };
                columns
                    .get_mut(position)
                    .map_or(Ok(()), |column| column.read(reader, what, skips_rows))
            })?;
        } else {
            match self.columns.as_mut_slice() {
                [column] => column.read(reader, what, skips_rows)?,
                _ => {
                    return Err(Error::invalid(format!(
                        "{what}: the model has several inputs, send an object with the features of each; {}",
                        known(self.signature)
                    )));
                }
            }
        }
        self.rows += 1;
        for column in &self.columns {
            if column.count != self.rows {
                return Err(Error::invalid(format!(
                    "{what}: input \"{}\" is missing",
                    column.slot.name
                )));
            }
        }
        Ok(())
    }

    /// The request that holds all items.
    pub fn finish(self, what: &str) -> Result<Request, Error> {
        let rows = self.rows;
        match self.signature.rows {
            _ if rows == 0 => return Err(Error::invalid(format!("\"{what}\" is empty"))),
            Rows::Fixed(count) if !rows.is_multiple_of(count) => {
                return Err(Error::invalid(format!(
                    "\"{what}\": the model takes exactly {count} items per run, {rows} is no multiple of it"
                )));
            }
            Rows::None if rows > 1 => {
                return Err(Error::invalid(format!(
                    "\"{what}\": the first dimension of this model does not count items; send one item, or use /v2"
                )));
            }
            _ => {}
        }
        let leading = (self.signature.rows != Rows::None).then_some(rows);
        let mut inputs = Vec::with_capacity(self.columns.len());
        for column in self.columns {
            let shape: Vec<usize> = leading.into_iter().chain(column.inner.unwrap_or_default()).collect();
            let tensor = Tensor::new(shape, column.values);
            inputs.push(tensor.ok_or_else(|| Error::Internal("collected values do not fit their shape".to_owned()))?);
        }
        Ok(Request {
            inputs,
            rows,
            priority: Priority::default(),
            timeout: None,
        })
    }
}

impl Column<'_> {
    fn read<'a, D: Document<'a>>(&mut self, reader: &mut D, what: &str, skips_rows: bool) -> Result<(), Error> {
        let name = &self.slot.name;
        let before = self.values.len();
        let nesting = tensor_lists::read(reader, &mut self.values, &format!("{what}, input \"{name}\""))?;
        let expected = if skips_rows {
            self.slot.shape.as_slice()
        } else {
            self.slot.shape.get(1..).unwrap_or_default()
        };
        let given = self.values.len() - before;
        let Some(inner) = fit(expected, &nesting, given) else {
            let expected: Vec<i64> = expected
                .iter()
                .map(|size| size.map_or(-1, |size| i64::try_from(size).unwrap_or(i64::MAX)))
                .collect();
            return Err(Error::invalid(format!(
                "{what}, input \"{name}\": expected shape {expected:?}, got {nesting:?}"
            )));
        };
        match &self.inner {
            Some(first) if *first != inner => {
                return Err(Error::invalid(format!(
                    "{what}, input \"{name}\": shape {inner:?} differs from {first:?} of the items before; send them one by one"
                )));
            }
            Some(_) => {}
            None => self.inner = Some(inner),
        }
        self.count += 1;
        Ok(())
    }
}

/// The shape of one item: as nested, or flat where the model leaves no doubt. A list of one may stand for a bare value.
fn fit(expected: &[Option<usize>], nesting: &[usize], count: usize) -> Option<Vec<usize>> {
    let accepts = |shape: &[usize]| {
        expected.len() == shape.len() && expected.iter().zip(shape).all(|(e, s)| e.is_none_or(|e| e == *s))
    };
    if accepts(nesting) {
        return Some(nesting.to_vec());
    }
    let known: Option<Vec<usize>> = expected.iter().copied().collect();
    known.filter(|shape| nesting.len() <= 1 && elements(shape) == Some(count))
}

fn known(signature: &Signature) -> String {
    let names: Vec<&str> = signature.inputs.iter().map(|slot| &*slot.name).collect();
    format!("the model's inputs: {names:?}")
}
