//! The short forms: `/api/v1/predict`, `/api/v1/predict/batch`, and KServe v1, which shares the latter's request.

use super::document::Document;
use super::instances::Collector;
use super::write::{self, WriteDocument, Writer};
use crate::error::Error;
use crate::model::signature::{Rows, Signature};
use crate::request::Request;
use crate::tensor::Tensor;

/// Reads `{"features":[…]}`.
pub fn parse_one<'a>(document: impl Document<'a>, signature: &Signature) -> Result<Request, Error> {
    if matches!(signature.rows, Rows::Fixed(count) if count != 1) {
        return Err(Error::invalid(
            "the model takes a fixed number of items per run; use /api/v1/predict/batch",
        ));
    }
    parse(document, signature, "features", |reader, collector| {
        collector.item(reader, "features")
    })
}

/// Reads `{"instances":[…,…]}`.
pub fn parse_many<'a>(document: impl Document<'a>, signature: &Signature) -> Result<Request, Error> {
    parse(document, signature, "instances", |reader, collector| {
        reader
            .array("instances", |reader, index| {
                collector.item(reader, &format!("instances[{index}]"))
            })
            .map(|_| ())
    })
}

fn parse<'a, D: Document<'a>>(
    mut reader: D,
    signature: &Signature,
    field: &str,
    read: impl Fn(&mut D, &mut Collector<'_>) -> Result<(), Error>,
) -> Result<Request, Error> {
    let mut collector = Collector::new(signature);
    let mut seen = false;
    reader.object("request", |reader, key| {
        if key == field {
            seen = true;
            read(reader, &mut collector)
        } else {
            reader.skip()
        }
    })?;
    reader.end()?;
    if !seen {
        return Err(Error::invalid(format!("\"{field}\" is missing")));
    }
    collector.finish(field)
}

/// The answer: `{"prediction":…}`, or `{"predictions":[…,…]}` in the order of the items.
#[derive(Debug)]
pub struct Answer<'a> {
    pub model: &'a str,
    pub version: &'a str,
    pub signature: &'a Signature,
    pub outputs: &'a [Tensor],
    /// Items of a batch; `None`: one item that was no batch.
    pub rows: Option<usize>,
}

impl WriteDocument for Answer<'_> {
    fn size_hint(&self) -> usize {
        64 + write::size_hint(self.outputs)
    }

    fn write(self, out: &mut impl Writer) {
        out.object(3);
        match self.rows {
            None => {
                out.key("prediction");
                self.item(out, 0);
            }
            Some(rows) => {
                out.key("predictions");
                let rows: Vec<usize> = (0..rows).collect();
                out.list(&rows, |out, row| self.item(out, *row));
            }
        }
        out.key("model_name");
        out.string(self.model);
        out.key("model_version");
        out.string(self.version);
        out.end_object();
    }
}

impl Answer<'_> {
    /// One prediction: the only output's row, or an object with the row of each output.
    fn item(&self, out: &mut impl Writer, row: usize) {
        if let [tensor] = self.outputs {
            return self.output(out, tensor, row);
        }
        out.object(self.outputs.len());
        for (slot, tensor) in self.signature.outputs.iter().zip(self.outputs) {
            out.key(&slot.name);
            self.output(out, tensor, row);
        }
        out.end_object();
    }

    fn output(&self, out: &mut impl Writer, tensor: &Tensor, row: usize) {
        if self.signature.rows == Rows::None {
            write::whole(out, tensor);
        } else {
            write::row(out, tensor, row);
        }
    }
}
