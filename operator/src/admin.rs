//! The admin port: `/metrics`, `/healthz`, `/readyz`, `/ledger`. Readiness names what it waits for.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures::StreamExt;
use serde::Deserialize;
use tidewright_scaling::Moment;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::domain::published::ServiceKey;
use crate::error::{Error, Result};
use crate::ledger::Ledger;

/// What the admin port tells; asked at each request.
pub trait Facts: Send + Sync + 'static {
    /// OpenMetrics text.
    ///
    /// # Errors
    /// If the text cannot be written.
    fn metrics(&self) -> Result<String, std::fmt::Error>;
    /// What is waited for before the process is of use; empty when ready.
    fn waiting_for(&self) -> Vec<String>;
    /// The decisions that are kept.
    fn ledger(&self) -> &Ledger;
    /// What is broken in a way that only a restart mends; empty when healthy.
    fn broken(&self) -> Vec<String>;
}

const JSON_LINES: &str = "application/jsonl";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The routes, to be tested without a socket.
pub fn router(facts: Arc<dyn Facts>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route(
            "/healthz",
            get(|State(facts): State<Arc<dyn Facts>>| async move { verdict(&facts.broken(), "healthy") }),
        )
        .route(
            "/readyz",
            get(|State(facts): State<Arc<dyn Facts>>| async move { verdict(&facts.waiting_for(), "ready") }),
        )
        .route("/ledger", get(summaries))
        .route("/ledger/{namespace}/{name}", get(records))
        .with_state(facts)
}

/// Serves until `stop`.
///
/// # Errors
/// If the address cannot be listened on.
pub async fn serve(address: std::net::SocketAddr, facts: Arc<dyn Facts>, stop: CancellationToken) -> Result<()> {
    let io = |source| Error::Io {
        what: format!("listen on {address} (--admin-address)"),
        source,
    };
    let listener = TcpListener::bind(address).await.map_err(io)?;
    axum::serve(listener, router(facts))
        .with_graceful_shutdown(async move { stop.cancelled().await })
        .await
        .map_err(io)
}

async fn metrics(State(facts): State<Arc<dyn Facts>>) -> Response {
    match facts.metrics() {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn summaries(State(facts): State<Arc<dyn Facts>>) -> Response {
    Json(facts.ledger().summaries()).into_response()
}

/// A part of what is kept of a service, in milliseconds since the Unix epoch; all of it without.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Span {
    from: Option<u64>,
    to: Option<u64>,
}

/// JSON lines, one decision each, from the beginning of a segment on; unpacked as they are read.
async fn records(
    State(facts): State<Arc<dyn Facts>>,
    Path((namespace, name)): Path<(String, String)>,
    Query(span): Query<Span>,
) -> Response {
    let (from, to) = (span.from.unwrap_or(0), span.to.unwrap_or(u64::MAX));
    let key = ServiceKey::new(namespace, name);
    let kept = facts
        .ledger()
        .read(&key, Moment::from_millis(from), Moment::from_millis(to));
    if kept.is_empty() {
        let text = format!(
            "no decision about {key} is kept: the operator decides about what scales by signals that it measures\n"
        );
        return (StatusCode::NOT_FOUND, text).into_response();
    }
    let lines = futures::stream::iter(kept).map(|kept| kept.lines().map(Bytes::from));
    ([(header::CONTENT_TYPE, JSON_LINES)], Body::from_stream(lines)).into_response()
}

fn verdict(problems: &[String], good: &str) -> (StatusCode, String) {
    if problems.is_empty() {
        (StatusCode::OK, format!("{good}\n"))
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, problems.join("\n") + "\n")
    }
}
