//! Health, readiness and metadata, of the server and of its models.

use std::sync::Arc;

use http::StatusCode;
use serde::Serialize;

use super::app::{App, probe_status};
use super::respond::{self, Answer};
use super::route::ModelRef;
use crate::error::Error;
use crate::pipeline::Serving;
use crate::protocols::document::Format;
use crate::protocols::statistics::{ModelStatistics, Statistics};
use crate::protocols::v2_answer::{ModelMetadata, ModelParameters};

/// Version of the server, in metadata and metrics.
pub const SERVER_VERSION: &str = env!("CARGO_PKG_VERSION");
/// Name of the server in metadata.
pub const SERVER_NAME: &str = "tidewright-inference-server";
/// Extensions of the protocol that are spoken, by the names that their specifications give them.
pub const EXTENSIONS: [&str; 2] = ["binary_tensor_data", "statistics"];
/// What runs the models, by the name that other servers give it.
pub const PLATFORM: &str = "onnxruntime_onnx";

#[derive(Serialize)]
struct Health<'a> {
    status: &'a str,
}

/// 200 only while ready.
pub fn health(app: &App, format: Format) -> Answer {
    let ready = app.is_ready();
    let status = if ready { "ready" } else { app.lifecycle.state().as_str() };
    respond::value(format, probe_status(ready), &Health { status })
}

#[derive(Serialize)]
struct ServerMetadata {
    name: &'static str,
    version: &'static str,
    extensions: [&'static str; EXTENSIONS.len()],
}

/// Name and version.
pub fn server(format: Format) -> Answer {
    respond::value(
        format,
        StatusCode::OK,
        &ServerMetadata {
            name: SERVER_NAME,
            version: SERVER_VERSION,
            extensions: EXTENSIONS,
        },
    )
}

#[derive(Serialize)]
struct Live {
    live: bool,
}

/// Answering is living.
pub fn live(format: Format) -> Answer {
    respond::value(format, StatusCode::OK, &Live { live: true })
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
}

/// Whether traffic should be sent here.
pub fn ready(app: &App, format: Format) -> Answer {
    let ready = app.is_ready();
    respond::value(format, probe_status(ready), &Ready { ready })
}

/// Inputs, outputs, and what runs the model.
pub fn model(app: &App, wanted: ModelRef<'_>, format: Format) -> Result<Answer, Error> {
    let facts = &app.find(Some(wanted))?.facts;
    let metadata = ModelMetadata {
        name: &facts.name,
        versions: [&facts.version],
        platform: PLATFORM,
        inputs: facts.signature.inputs.iter().map(Into::into).collect(),
        outputs: facts.signature.outputs.iter().map(Into::into).collect(),
        parameters: ModelParameters {
            digest: &facts.digest,
            provider: facts.provider.as_str(),
            max_batch_size: facts.batch_size_max,
        },
    };
    Ok(respond::value(format, StatusCode::OK, &metadata))
}

#[derive(Serialize)]
struct ModelReady<'a> {
    name: &'a str,
    ready: bool,
}

/// Whether this model can be called; an error when there is none.
pub fn is_model_ready(app: &App, wanted: ModelRef<'_>) -> Result<bool, Error> {
    match app.find(Some(wanted)) {
        Ok(model) => Ok(app.lifecycle.state().serves() && model.facts.is_ready()),
        Err(Error::NotReady(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether this model can be called.
pub fn model_ready(app: &App, wanted: ModelRef<'_>, format: Format) -> Result<Answer, Error> {
    let ready = is_model_ready(app, wanted)?;
    Ok(respond::value(
        format,
        probe_status(ready),
        &ModelReady {
            name: wanted.name,
            ready,
        },
    ))
}

/// Statistics of one model, or of all that are loaded.
pub fn statistics<'a>(app: &'a App, wanted: Option<ModelRef<'_>>) -> Result<Statistics<'a>, Error> {
    let of = |model: &'a Arc<Serving>| ModelStatistics::new(&model.facts.name, &model.facts.version, &model.metrics);
    let model_stats = match wanted {
        Some(wanted) => vec![of(app.find(Some(wanted))?)],
        None => app.pipeline.models().unwrap_or_default().iter().map(of).collect(),
    };
    Ok(Statistics { model_stats })
}

#[derive(Serialize)]
struct V1Models<'a> {
    models: Vec<&'a str>,
}

/// KServe v1: the names.
pub fn v1_models(app: &App, format: Format) -> Answer {
    respond::value(
        format,
        StatusCode::OK,
        &V1Models {
            models: app.names.iter().map(|known| &*known.name).collect(),
        },
    )
}

/// KServe v1: the state of one model.
pub fn v1_model(app: &App, name: &str, format: Format) -> Result<Answer, Error> {
    let ready = is_model_ready(app, ModelRef { name, version: None })?;
    Ok(respond::value(format, probe_status(ready), &ModelReady { name, ready }))
}
