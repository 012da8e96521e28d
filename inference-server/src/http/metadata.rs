//! Health, readiness and metadata, of the server and of its models.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

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
/// Extensions of the protocol that are always spoken, by the names that their specifications give them.
const EXTENSIONS: [&str; 2] = ["binary_tensor_data", "statistics"];
/// The extension of the admin port, where it is enabled.
const REPOSITORY: &str = "model_repository";
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
    extensions: Vec<&'static str>,
}

/// The extensions that are spoken here.
pub fn extensions(app: &App) -> impl Iterator<Item = &'static str> {
    EXTENSIONS
        .into_iter()
        .chain(app.repository.enabled.then_some(REPOSITORY))
}

/// Name, version and extensions.
pub fn server(app: &App, format: Format) -> Answer {
    respond::value(
        format,
        StatusCode::OK,
        &ServerMetadata {
            name: SERVER_NAME,
            version: SERVER_VERSION,
            extensions: extensions(app).collect(),
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
pub async fn model(app: &App, wanted: ModelRef<'_>, format: Format, deadline: Instant) -> Result<Answer, Error> {
    let lease = app.lease(Some(wanted), deadline).await?;
    let facts = &lease.facts;
    let metadata = ModelMetadata {
        name: &facts.name,
        versions: app.catalog.available(&facts.name),
        platform: PLATFORM,
        inputs: facts.signature.inputs.iter().map(Into::into).collect(),
        outputs: facts.signature.outputs.iter().map(Into::into).collect(),
        parameters: ModelParameters {
            digest: &facts.digest,
            provider: facts.provider.as_str(),
            preferred_provider: facts.preferred_provider.as_str(),
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

/// Whether this model can be called, which may load it first; an error when there is none.
pub fn is_model_ready(app: &App, wanted: ModelRef<'_>) -> Result<bool, Error> {
    match app.find(wanted) {
        Ok(model) => Ok(model.is_none_or(|model| model.facts.is_ready())),
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

/// The models that statistics are asked of: one, or all that are loaded.
pub fn statistics(app: &App, wanted: Option<ModelRef<'_>>) -> Result<Vec<Arc<Serving>>, Error> {
    let Some(wanted) = wanted else {
        return Ok(app.catalog.serving());
    };
    match app.find(wanted)? {
        Some(lease) => Ok(vec![Arc::clone(&lease)]),
        None => Err(Error::NotReady(format!("model {:?} is not loaded", wanted.name))),
    }
}

/// Their statistics.
pub fn statistics_of(models: &[Arc<Serving>]) -> Statistics<'_> {
    let of = models
        .iter()
        .map(|model| ModelStatistics::new(&model.facts.name, &model.facts.version, &model.metrics));
    Statistics {
        model_stats: of.collect(),
    }
}

#[derive(Serialize)]
struct V1Models {
    models: Vec<String>,
}

/// KServe v1: the names.
pub fn v1_models(app: &App, format: Format) -> Answer {
    let mut models: Vec<String> = app.catalog.index().into_iter().map(|status| status.name).collect();
    // One name for all its versions.
    let mut seen = HashSet::new();
    models.retain(|name| seen.insert(name.clone()));
    respond::value(format, StatusCode::OK, &V1Models { models })
}

/// KServe v1: the state of one model.
pub fn v1_model(app: &App, name: &str, format: Format) -> Result<Answer, Error> {
    let ready = is_model_ready(app, ModelRef { name, version: None })?;
    Ok(respond::value(format, probe_status(ready), &ModelReady { name, ready }))
}
