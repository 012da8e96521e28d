//! The admin port: metrics, liveness, and a readiness that says what it waits for.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Body;
use serde::Serialize;
use tidewright_contract::routes;

use super::app::{App, probe_status};
use super::repository::{self, BoxError};
use super::{metadata, respond};
use crate::catalog::{Failure, Status};
use crate::error::Error;
use crate::model::registry::Facts;
use crate::pipeline::Serving;
use crate::protocols::document::Format;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Readiness<'a> {
    ready: bool,
    state: &'static str,
    waiting_for: Vec<String>,
    models: Vec<ModelState<'a>>,
    /// Loaded later than at the start, where a failure ends the process: they do not hold up the others.
    failed: Vec<Failure>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ModelState<'a> {
    name: &'a str,
    version: &'a str,
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<&'static str>,
    /// What should run it: another one where that does not work here.
    #[serde(skip_serializing_if = "Option::is_none")]
    preferred_provider: Option<&'static str>,
    workers_alive: usize,
    workers: usize,
}

/// Answers one request on the admin port.
pub async fn handle<B>(app: &App, request: Request<B>) -> Response<Full<Bytes>>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    if repository::is_route(request.uri().path()) {
        return repository::handle(app, request).await;
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return respond::error(Format::Json, &Error::MethodNotAllowed { allow: "GET, HEAD" });
    }
    match request.uri().path() {
        routes::METRICS => metrics(app),
        routes::SIGNALS => super::signals::signals(app),
        routes::LIVE => metadata::live(Format::Json),
        routes::HEALTH => metadata::health(app, Format::Json),
        routes::READY => readiness(app),
        _ => respond::error(
            Format::Json,
            &Error::NotFound("no such route on the admin port".to_owned()),
        ),
    }
}

fn metrics(app: &App) -> Response<Full<Bytes>> {
    match app.metrics.scrape(app.lifecycle.state()) {
        Ok(text) => {
            let mut response = Response::new(Full::new(Bytes::from(text)));
            response.headers_mut().insert(
                CONTENT_TYPE,
                HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8"),
            );
            response
        }
        Err(_) => respond::error(
            Format::Json,
            &Error::Internal("the metrics cannot be written".to_owned()),
        ),
    }
}

fn readiness(app: &App) -> Response<Full<Bytes>> {
    let ready = app.is_ready();
    let loaded = app.catalog.serving();
    let of = |status: &Status| {
        let is_it =
            |model: &&Arc<Serving>| *model.facts.name == *status.name && *model.facts.version == *status.version;
        loaded.iter().find(is_it).map(|model| &model.facts)
    };
    let starts = !app.lifecycle.state().serves();
    let index = app.catalog.index();
    // Those that serve, and those that are waited for at the start: a directory may hold thousands that nobody asks for.
    let listed: Vec<&Status> = index.iter().filter(|status| status.serves || starts).collect();
    let models: Vec<ModelState<'_>> = listed
        .into_iter()
        .map(|status| {
            let facts = of(status);
            ModelState {
                name: &status.name,
                version: &status.version,
                ready: facts.is_some_and(Facts::is_ready),
                digest: facts.map(|facts| facts.digest.as_str()),
                provider: facts.map(|facts| facts.provider.as_str()),
                preferred_provider: facts.map(|facts| facts.preferred_provider.as_str()),
                workers_alive: facts.map_or(0, |facts| facts.alive.load(Ordering::Relaxed)),
                workers: facts.map_or(0, |facts| facts.workers),
            }
        })
        .collect();
    let mut waiting_for = app.lifecycle.waiting_for();
    waiting_for.extend(
        models
            .iter()
            .filter(|model| !starts && !model.ready)
            .map(|model| format!("an engine of model {}", model.name)),
    );
    let body = Readiness {
        ready,
        state: app.lifecycle.state().as_str(),
        waiting_for,
        models,
        failed: app.catalog.failures(),
    };
    let status: StatusCode = probe_status(ready);
    respond::value(Format::Json, status, &body)
}
