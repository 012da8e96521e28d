//! What is fuzzed: each reader of bytes that come from outside.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use prost::Message as _;
use tidewright_contract::config::ServeConfig;
use tidewright_server::error::Error;
use tidewright_server::model::onnx::Limits;
use tidewright_server::model::signature::{Signature, Slot};
use tidewright_server::model::{precheck, weights};
use tidewright_server::protocols::v2_inputs::Infer;
use tidewright_server::protocols::{api_v1, document::Document, json, msgpack, pb, v2_grpc, v2_rest};
use tidewright_server::request::Request;
use tidewright_server::tensor::DataType;

/// A reader, and where its corpus lies. `run` answers with what happened, in words.
pub struct Target {
    pub name: &'static str,
    corpus: &'static str,
    pub run: fn(&[u8]) -> String,
}

pub const JSON: Target = Target {
    name: "JSON",
    corpus: "tests/fuzz/corpus/json",
    run: |bytes| match json::text(bytes) {
        Ok(text) => documents(json::Reader::new(text)),
        Err(error) => error.to_string(),
    },
};

pub const MSGPACK: Target = Target {
    name: "msgpack",
    corpus: "tests/fuzz/corpus/msgpack",
    run: |bytes| documents(msgpack::Reader::new(bytes)),
};

/// Two bytes for the header Inference-Header-Content-Length, then the body.
pub const BINARY: Target = Target {
    name: "binary tensors",
    corpus: "tests/fuzz/corpus/binary",
    run: |bytes| {
        let Some((length, body)) = bytes.split_first_chunk::<2>() else {
            return "too short".to_owned();
        };
        let Some((head, tail)) = body.split_at_checked(usize::from(u16::from_le_bytes(*length))) else {
            return "the header lies".to_owned();
        };
        match json::text(head) {
            Ok(text) => each_model(|model| infer(v2_rest::parse(json::Reader::new(text), Some(tail), model), model)),
            Err(error) => error.to_string(),
        }
    },
};

pub const PROTOBUF: Target = Target {
    name: "protobuf",
    corpus: "tests/fuzz/corpus/protobuf",
    run: |bytes| match pb::ModelInferRequest::decode(bytes) {
        Ok(request) => each_model(|model| infer(v2_grpc::parse(request.clone(), model), model)),
        Err(error) => error.to_string(),
    },
};

pub const CONFIG: Target = Target {
    name: "config",
    corpus: "tests/fuzz/corpus/config",
    run: |bytes| match serde_json::from_slice::<ServeConfig>(bytes) {
        Ok(config) => match config.validate() {
            // What is accepted can be written and is the same when it is read again.
            Ok(()) => {
                let text = serde_json::to_string(&config).unwrap();
                assert_eq!(serde_json::from_str::<ServeConfig>(&text).unwrap(), config, "{text}");
                "accepted".to_owned()
            }
            Err(problems) => problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        },
        Err(error) => error.to_string(),
    },
};

pub const PRECHECK: Target = Target {
    name: "model pre-check",
    corpus: "tests/models",
    run: |bytes| {
        // Small, so that what is over them is met too.
        let limits = Limits {
            file_bytes: 4000,
            nodes: 50,
            tensor_bytes: 1 << 16,
            ..Limits::default()
        };
        let checked = match precheck::check(bytes, limits) {
            Ok(outline) => format!("accepted, {} functions", outline.functions.len()),
            Err(refusal) => format!("{}: {}", refusal.reason.as_str(), refusal.message),
        };
        let separated = match weights::separate(bytes, 16, |_| true) {
            Ok(separated) => format!("{} weights", separated.weights.len()),
            Err(refusal) => refusal.message,
        };
        format!("{checked}; {separated}")
    },
};

impl Target {
    /// The committed inputs, by name, so that every run begins alike.
    pub fn corpus(&self) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(self.corpus);
        let mut files: Vec<PathBuf> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        files.iter().map(|file| fs::read(file).unwrap()).collect()
    }
}

fn slot(name: &str, datatype: DataType, shape: &[Option<usize>]) -> Slot {
    Slot {
        name: name.into(),
        datatype,
        shape: shape.to_vec(),
        first_symbol: "N".to_owned(),
    }
}

/// A model as most are, one with every datatype, one with free dimensions and no rows.
static MODELS: LazyLock<[Signature; 3]> = LazyLock::new(|| {
    let every: Vec<Slot> = [
        "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "BF16", "FP32",
        "FP64", "BYTES",
    ]
    .into_iter()
    .map(|name| slot(&name.to_lowercase(), DataType::parse(name).unwrap(), &[None, Some(2)]))
    .collect();
    let fp32 = DataType::Fp32;
    [
        Signature::new(
            vec![slot("x", fp32, &[None, Some(4)])],
            vec![slot("y", fp32, &[None, Some(3)])],
        ),
        Signature::new(every.clone(), every),
        Signature::new(
            vec![slot("x", fp32, &[None, None]), slot("n", DataType::Int64, &[])],
            vec![slot("y", fp32, &[])],
        ),
    ]
});

fn each_model(run: impl Fn(&Signature) -> String) -> String {
    MODELS.iter().map(|model| run(model) + " | ").collect()
}

/// Every reader of documents, for every model.
fn documents<'a>(document: impl Document<'a>) -> String {
    each_model(|model| {
        let one = request(api_v1::parse_one(document.clone(), model), model);
        let many = request(api_v1::parse_many(document.clone(), model), model);
        let v2 = infer(v2_rest::parse(document.clone(), None, model), model);
        format!("{one} {many} {v2}")
    })
}

fn infer(read: Result<Infer, Error>, model: &Signature) -> String {
    match read {
        Ok(infer) => {
            assert!(infer.outputs.iter().all(|wanted| wanted.position < model.outputs.len()));
            request(Ok(infer.request), model)
        }
        Err(error) => error.to_string(),
    }
}

/// What is accepted is what the model takes.
fn request(read: Result<Request, Error>, model: &Signature) -> String {
    match read {
        Ok(request) => {
            assert_eq!(request.inputs.len(), model.inputs.len());
            for (tensor, slot) in request.inputs.iter().zip(&model.inputs) {
                assert_eq!(tensor.values().datatype(), slot.datatype);
                assert!(
                    slot.accepts(tensor.shape()),
                    "{:?} for {:?}",
                    tensor.shape(),
                    slot.shape
                );
                assert_eq!(tensor.values().len(), tensor.shape().iter().product::<usize>());
            }
            "accepted".to_owned()
        }
        Err(error) => error.to_string(),
    }
}
