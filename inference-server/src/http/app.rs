//! One request in, one answer out: routes to handlers, counts, and errors to answers. Tests call [`App::handle`] without a socket.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue};
use http::{Method, Request, StatusCode};
use hyper::body::Body;
use tidewright_contract::config::{LimitsConfig, RepositoryConfig};
use tidewright_contract::routes;

use super::access::{AccessLog, Details};
use super::call::Times;
use super::infer::Incoming;
use super::respond::{self, Answer};
use super::route::{ModelRef, Route, route};
use super::{coding, format, infer, metadata, timeout};
use crate::admission::Bodies;
use crate::catalog::{Catalog, Lease};
use crate::clock;
use crate::error::{Error, clip};
use crate::lifecycle::{Lifecycle, State};
use crate::metrics::{RouteMetrics, SharedMetrics, exemplars};
use crate::pipeline::Pipeline;
use crate::protocols::document::Format;
use crate::trace;

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
    /// The models.
    pub catalog: Arc<Catalog>,
    /// What may be done about them from outside.
    pub repository: RepositoryConfig,
    /// Milliseconds since 1970 at which this began.
    pub process_millis: u64,
    routes: Vec<RouteMetrics>,
}

impl App {
    /// An app of these models.
    pub fn new(
        limits: LimitsConfig,
        access: AccessLog,
        repository: RepositoryConfig,
        catalog: Arc<Catalog>,
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
            catalog,
            repository,
            process_millis: clock::wall_millis(),
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
        let mut account = self.account(template, method_label(&head.method), started);
        let mut nobody = Details::default();
        let details = account.as_mut().map_or(&mut nobody, |account| &mut account.details);
        details.head(&head.headers);
        let deadline = self.deadline(started);
        let format = format::of_answer(&head.headers);
        let result = if method_allowed(&route, &head.method) {
            match route {
                Route::Health => Ok(metadata::health(self, format)),
                Route::V2 => Ok(metadata::server(self, format)),
                Route::V2Live => Ok(metadata::live(format)),
                Route::V2Ready => Ok(metadata::ready(self, format)),
                Route::V2Model(model) => Box::pin(metadata::model(self, model, format, deadline)).await,
                Route::V2ModelReady(model) => metadata::model_ready(self, model, format),
                Route::V2Statistics(model) => metadata::statistics(self, model)
                    .map(|models| respond::value(format, StatusCode::OK, &metadata::statistics_of(&models))),
                Route::OpenApi => Ok(respond::document(Format::Json, StatusCode::OK, OPENAPI)),
                Route::V1Models => Ok(metadata::v1_models(self, format)),
                Route::V1Model(name) => metadata::v1_model(self, name, format),
                Route::V2Infer(_) | Route::Predict | Route::PredictBatch | Route::V1Predict(_) => {
                    let times = Times {
                        arrived: started,
                        deadline,
                        is_callers: false,
                    };
                    let incoming = Incoming {
                        route,
                        headers: &head.headers,
                        body,
                        format,
                        times: times.within(timeout::of(&head.headers)),
                    };
                    infer::infer(self, incoming, details).await
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
            details.error(&error);
            respond::error(format, &error)
        });
        answer = respond::encoded(answer, coding::of_answer(&head.headers)).await;
        // From the first moment of the drain every answer sends its connection elsewhere.
        if self.lifecycle.state() >= State::Draining {
            answer
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        details.sent(|| answer.body().size_hint().exact().unwrap_or_default());
        if let Some(account) = &mut account {
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
            details: self.access.details(),
        })
    }

    /// Requests that arrived on the routes that infer.
    pub fn arrivals(&self) -> u64 {
        let infer = self
            .routes
            .iter()
            .filter(|metrics| routes::INFERENCE.contains(&metrics.route));
        infer.map(|metrics| metrics.received.get()).sum()
    }

    /// When a request that began then is too late.
    pub fn deadline(&self, started: clock::Instant) -> clock::Instant {
        started + Duration::from_secs(u64::from(self.limits.timeout_seconds))
    }

    /// The model of that name, or the first one; it is loaded first where it must be.
    pub async fn lease(&self, wanted: Option<ModelRef<'_>>, deadline: clock::Instant) -> Result<Lease, Error> {
        self.check_serves(wanted)?;
        self.catalog.lease(wanted, deadline).await
    }

    /// The model of that name if it is loaded; `None` where a request would have it loaded.
    pub fn find(&self, wanted: ModelRef<'_>) -> Result<Option<Lease>, Error> {
        self.check_serves(Some(wanted))?;
        self.catalog.find(wanted)
    }

    /// A name that will never be served is "not found", even before anything is.
    fn check_serves(&self, wanted: Option<ModelRef<'_>>) -> Result<(), Error> {
        if self.lifecycle.state().serves() {
            return Ok(());
        }
        self.catalog.check(wanted)?;
        Err(self.not_ready())
    }

    /// What is answered while nothing can be served.
    pub fn not_ready(&self) -> Error {
        Error::NotReady(format!("the server is {}", self.lifecycle.state().as_str()))
    }

    /// Whether traffic should be sent here.
    pub fn is_ready(&self) -> bool {
        self.lifecycle.state() == State::Ready && self.catalog.serving().iter().all(|model| model.facts.is_ready())
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
    pub details: Details,
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
        exemplars::observe(&self.metrics.duration, took.as_secs_f64(), trace::exemplar());
        self.app
            .access
            .note(self.metrics.route, self.method, self.code, took, &self.details);
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

/// The status of a probe.
pub fn probe_status(ready: bool) -> StatusCode {
    if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}
