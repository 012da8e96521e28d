//! The admin port: `/metrics`, `/healthz`, `/readyz`. Readiness names what it waits for.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};

/// What the admin port tells; asked at each request.
pub trait Facts: Send + Sync + 'static {
    /// OpenMetrics text.
    ///
    /// # Errors
    /// If the text cannot be written.
    fn metrics(&self) -> Result<String, std::fmt::Error>;
    /// What is waited for before the process is of use; empty when ready.
    fn waiting_for(&self) -> Vec<String>;
    /// What is broken in a way that only a restart mends; empty when healthy.
    fn broken(&self) -> Vec<String>;
}

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

fn verdict(problems: &[String], good: &str) -> (StatusCode, String) {
    if problems.is_empty() {
        (StatusCode::OK, format!("{good}\n"))
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, problems.join("\n") + "\n")
    }
}
