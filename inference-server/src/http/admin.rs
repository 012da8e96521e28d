//! The admin port: metrics, liveness, and a readiness that says what it waits for.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;
use tidewright_contract::routes;

use super::app::{App, probe_status};
use super::{metadata, respond};
use crate::error::Error;
use crate::protocols::document::Format;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Readiness<'a> {
    ready: bool,
    state: &'static str,
    waiting_for: Vec<String>,
    models: Vec<ModelState<'a>>,
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
    workers_alive: usize,
    workers: usize,
}

/// Answers one request on the admin port.
pub fn handle<B>(app: &App, request: &Request<B>) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return respond::error(Format::Json, &Error::MethodNotAllowed { allow: "GET, HEAD" });
    }
    match request.uri().path() {
        routes::METRICS => metrics(app),
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
    let loaded = app.pipeline.models();
    let models: Vec<ModelState<'_>> = app
        .names
        .iter()
        .map(|known| {
            let facts = loaded
                .and_then(|models| models.iter().find(|model| model.facts.name == known.name))
                .map(|model| &model.facts);
            ModelState {
                name: &known.name,
                version: &known.version,
                ready: facts.is_some_and(crate::model::registry::Facts::is_ready),
                digest: facts.map(|facts| facts.digest.as_str()),
                provider: facts.map(|facts| facts.provider.as_str()),
                workers_alive: facts.map_or(0, |facts| facts.alive.load(std::sync::atomic::Ordering::Relaxed)),
                workers: facts.map_or(0, |facts| facts.workers),
            }
        })
        .collect();
    let mut waiting_for = app.lifecycle.waiting_for();
    if loaded.is_some() {
        waiting_for.extend(
            models
                .iter()
                .filter(|model| !model.ready)
                .map(|model| format!("an engine of model {}", model.name)),
        );
    }
    let body = Readiness {
        ready,
        state: app.lifecycle.state().as_str(),
        waiting_for,
        models,
    };
    let status: StatusCode = probe_status(ready);
    respond::value(Format::Json, status, &body)
}
