//! One request in, one answer out: routes to handlers, counts, and errors to answers. Tests call [`App::handle`] without a socket.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue};
use http::{Method, Request, StatusCode};
use hyper::body::Body;
use tidewright_contract::config::LimitsConfig;
use tidewright_contract::routes;

use super::access::AccessLog;
use super::infer::Incoming;
use super::respond::{self, Answer};
use super::route::{ModelRef, Route, route};
use super::{coding, format, infer, metadata};
use crate::admission::Bodies;
use crate::clock;
use crate::error::Error;
use crate::lifecycle::{Lifecycle, State};
use crate::metrics::{RouteMetrics, SharedMetrics};
use crate::model::registry::Name;
use crate::pipeline::{Pipeline, Serving};
use crate::protocols::document::Format;

/// The serving port's own description; a test holds it against the routes.
const OPENAPI: &[u8] = include_bytes!("openapi.json");

/// Everything that a request may need.
#[derive(Debug)]
pub struct App {
    pub lifecycle: Arc<Lifecycle>,
    pub metrics: SharedMetrics,
    pub limits: LimitsConfig,
    pub pipeline: Pipeline,
    /// Lines about requests.
    pub access: AccessLog,
    /// Bytes of bodies.
    pub bodies: Bodies,
    /// The names that will be served, known from the start.
    pub names: Vec<Name>,
    routes: Vec<RouteMetrics>,
}

impl App {
    /// An app without models.
    pub fn new(
        limits: LimitsConfig,
        access: AccessLog,
        names: Vec<Name>,
        lifecycle: Arc<Lifecycle>,
        metrics: SharedMetrics,
    ) -> Self {
        let pipeline = Pipeline::new(limits.max_concurrency, metrics.in_flight.clone());
        let routes = routes::ALL
            .into_iter()
            .chain([routes::UNMATCHED])
            .map(|template| metrics.route(template))
            .collect();
        Self {
            lifecycle,
            metrics,
            access,
            bodies: Bodies::new(limits.bodies_bytes_max.max(limits.body_bytes_max)),
            limits,
            pipeline,
            names,
            routes,
        }
    }

    /// Answers one request.
    pub async fn handle<B>(&self, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let started = clock::now();
        let (head, body) = request.into_parts();
        let route = route(head.uri.path());
        let template = route.template();
        let account = self.account(template, method_label(&head.method), started);
        let deadline = self.deadline(started);
        let format = format::of_answer(&head.headers);
        let result = if method_allowed(&route, &head.method) {
            match route {
                Route::Health => Ok(metadata::health(self, format)),
                Route::V2 => Ok(metadata::server(format)),
                Route::V2Live => Ok(metadata::live(format)),
                Route::V2Ready => Ok(metadata::ready(self, format)),
                Route::V2Model(model) => metadata::model(self, model, format),
                Route::V2ModelReady(model) => metadata::model_ready(self, model, format),
                Route::V2Statistics(model) => metadata::statistics(self, Some(model))
                    .map(|statistics| respond::value(format, StatusCode::OK, &statistics)),
                Route::OpenApi => Ok(respond::document(Format::Json, StatusCode::OK, OPENAPI)),
                Route::V1Models => Ok(metadata::v1_models(self, format)),
                Route::V1Model(name) => metadata::v1_model(self, name, format),
                Route::V2Infer(_) | Route::Predict | Route::PredictBatch | Route::V1Predict(_) => {
                    let incoming = Incoming {
                        route,
                        headers: &head.headers,
                        body,
                        format,
                        deadline,
                    };
                    infer::infer(self, incoming).await
                }
                Route::Unknown => Err(Error::NotFound(format!("no route {:?}", clip(head.uri.path())))),
            }
        } else {
            Err(Error::MethodNotAllowed { allow: route.allow() })
        };
        let mut answer = result.unwrap_or_else(|error| {
            if let Error::Internal(message) = &error {
                tracing::error!(route = template, message, "internal error");
            }
            respond::error(format, &error)
        });
        answer = respond::encoded(answer, coding::of_answer(&head.headers)).await;
        // From the first moment of the drain every answer sends its connection elsewhere.
        if self.lifecycle.state() >= State::Draining {
            answer
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(mut account) = account {
            account.set(answer.status());
        }
        answer
    }

    /// Counts the arrival of a request, and when it is dropped the answer, or that nobody waited for it.
    pub fn account(&self, route: &str, method: &'static str, started: clock::Instant) -> Option<Account<'_>> {
        let metrics = self.routes.iter().find(|metrics| metrics.route == route)?;
        metrics.received.inc();
        Some(Account {
            app: self,
            metrics,
            method,
            code: CLIENT_LEFT,
            started,
        })
    }

    /// When a request that began then is too late.
    pub fn deadline(&self, started: clock::Instant) -> clock::Instant {
        started + Duration::from_secs(u64::from(self.limits.timeout_seconds))
    }

    /// The model of that name, or the first one.
    pub fn find(&self, name: Option<ModelRef<'_>>) -> Result<&Arc<Serving>, Error> {
        if let Some(wanted) = name {
            self.check_name(wanted)?;
        }
        let models = self.pipeline.models().ok_or_else(|| self.not_ready())?;
        let found = match name {
            None => models.first(),
            Some(wanted) => models.iter().find(|model| &*model.facts.name == wanted.name),
        };
        found.ok_or_else(|| self.not_ready())
    }

    /// A name that will never be served is "not found", loaded or not.
    fn check_name(&self, wanted: ModelRef<'_>) -> Result<(), Error> {
        let Some(known) = self.names.iter().find(|known| &*known.name == wanted.name) else {
            let names: Vec<&str> = self.names.iter().map(|known| &*known.name).collect();
            return Err(Error::NotFound(format!(
                "no model {:?}; the models: {names:?}",
                clip(wanted.name)
            )));
        };
        match wanted.version {
            Some(version) if version != &*known.version => Err(Error::NotFound(format!(
                "model \"{}\" has no version {:?}; the version: \"{}\"",
                known.name,
                clip(version),
                known.version
            ))),
            _ => Ok(()),
        }
    }

    /// What is answered while nothing can be served.
    pub fn not_ready(&self) -> Error {
        Error::NotReady(format!("the server is {}", self.lifecycle.state().as_str()))
    }

    /// Whether traffic should be sent here.
    pub fn is_ready(&self) -> bool {
        self.lifecycle.state() == State::Ready
            && self
                .pipeline
                .models()
                .is_some_and(|models| models.iter().all(|model| model.facts.is_ready()))
    }
}

/// Not a status of the standard: the client closed the connection before it was answered (nginx's number).
const CLIENT_LEFT: u16 = 499;

/// Counts the answer when it is given, or that nobody waited for it.
#[derive(Debug)]
pub struct Account<'a> {
    app: &'a App,
    metrics: &'a RouteMetrics,
    method: &'static str,
    code: u16,
    started: clock::Instant,
}

impl Account<'_> {
    /// The status of the answer; that of the same error over HTTP where the protocol has others.
    pub fn set(&mut self, status: StatusCode) {
        self.code = status.as_u16();
    }
}

impl Drop for Account<'_> {
    fn drop(&mut self) {
        self.app.metrics.answered(self.metrics, self.method, self.code);
        let took = clock::now().saturating_duration_since(self.started);
        self.metrics.duration.observe(took.as_secs_f64());
        self.app.access.note(self.metrics.route, self.method, self.code, took);
    }
}

fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::HEAD => "HEAD",
        _ => "other",
    }
}

fn method_allowed(route: &Route<'_>, method: &Method) -> bool {
    match route {
        Route::Unknown => true,
        route if route.infers() => method == Method::POST,
        _ => method == Method::GET || method == Method::HEAD,
    }
}

/// A client's text, short enough to be given back.
pub fn clip(text: &str) -> String {
    text.chars().take(128).collect()
}

/// The status of a probe.
pub fn probe_status(ready: bool) -> StatusCode {
    if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}
