//! Open Inference Protocol v2 over REST: the answers, with tensors in the document or as bytes behind it, and metadata.

use serde::Serialize;

use super::document::Format;
use super::v2_inputs::Wanted;
use super::write::{self, WriteDocument, Writer};
use super::{raw, v2_rest};
use crate::model::signature::{Signature, Slot};
use crate::tensor::{Tensor, Values};

/// An answer's body.
#[derive(Debug, PartialEq, Eq)]
pub struct Body {
    pub bytes: Vec<u8>,
    /// Where the document ends and the tensors' bytes begin, when there are such.
    pub document_length: Option<usize>,
}

/// The answer to an infer request.
#[derive(Debug)]
pub struct InferAnswer<'a> {
    pub model: &'a str,
    pub version: &'a str,
    pub id: Option<&'a str>,
    pub wanted: &'a [Wanted],
    pub signature: &'a Signature,
    pub outputs: &'a [Tensor],
}

impl InferAnswer<'_> {
    /// Writes the document, and behind it the bytes of each binary output in its order.
    pub fn body(self, format: Format) -> Body {
        let (wanted, outputs) = (self.wanted, self.outputs);
        let mut bytes = write::document(format, self);
        let document_length = wanted.iter().any(|wanted| wanted.binary).then_some(bytes.len());
        for values in binary_values(wanted, outputs) {
            raw::write(&mut bytes, values);
        }
        Body { bytes, document_length }
    }
}

fn binary_values<'a>(wanted: &'a [Wanted], outputs: &'a [Tensor]) -> impl Iterator<Item = &'a Values> {
    wanted
        .iter()
        .filter(|wanted| wanted.binary)
        .filter_map(|wanted| outputs.get(wanted.position))
        .map(Tensor::values)
}

impl WriteDocument for InferAnswer<'_> {
    fn size_hint(&self) -> usize {
        let lists = self.wanted.iter().filter(|wanted| !wanted.binary);
        let lists = lists.filter_map(|wanted| self.outputs.get(wanted.position));
        let bytes = binary_values(self.wanted, self.outputs).map(|values| 128 + raw::length(values));
        128 + lists
            .map(|tensor| write::size_hint(std::slice::from_ref(tensor)))
            .sum::<usize>()
            + bytes.sum::<usize>()
    }

    fn write(self, out: &mut impl Writer) {
        out.object(3 + usize::from(self.id.is_some()));
        out.key("model_name");
        out.string(self.model);
        out.key("model_version");
        out.string(self.version);
        if let Some(id) = self.id {
            out.key("id");
            out.string(id);
        }
        out.key("outputs");
        out.list(self.wanted, |out, wanted| {
            if let (Some(slot), Some(tensor)) = (
                self.signature.outputs.get(wanted.position),
                self.outputs.get(wanted.position),
            ) {
                out.object(4);
                out.key("name");
                out.string(&slot.name);
                out.key("datatype");
                out.string(tensor.values().datatype().name());
                out.key("shape");
                out.list(tensor.shape(), Writer::value);
                if wanted.binary {
                    out.key("parameters");
                    out.object(1);
                    out.key(v2_rest::BINARY_DATA_SIZE);
                    out.value(&raw::length(tensor.values()));
                    out.end_object();
                } else {
                    out.key("data");
                    write::flat(out, tensor.values());
                }
                out.end_object();
            }
        });
        out.end_object();
    }
}

/// Metadata of a model.
#[derive(Debug, Serialize)]
pub struct ModelMetadata<'a> {
    pub name: &'a str,
    pub versions: Vec<String>,
    pub platform: &'static str,
    pub inputs: Vec<TensorMetadata<'a>>,
    pub outputs: Vec<TensorMetadata<'a>>,
    pub parameters: ModelParameters<'a>,
}

/// What runs the model; `parameters` is the protocol's place for what it does not define.
#[derive(Debug, Serialize)]
pub struct ModelParameters<'a> {
    pub digest: &'a str,
    pub provider: &'a str,
    pub preferred_provider: &'a str,
    pub max_batch_size: usize,
}

/// Metadata of one input or output.
#[derive(Debug, Serialize)]
pub struct TensorMetadata<'a> {
    pub name: &'a str,
    pub datatype: &'static str,
    pub shape: Vec<i64>,
}

impl<'a> From<&'a Slot> for TensorMetadata<'a> {
    fn from(slot: &'a Slot) -> Self {
        Self {
            name: &slot.name,
            datatype: slot.datatype.name(),
            shape: slot.wire_shape(),
        }
    }
}
