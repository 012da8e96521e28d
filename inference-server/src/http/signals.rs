//! What changes with each request, in one small answer: cheap enough to be asked for each second.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use tidewright_contract::signals::{Signals, VERSION};

use super::app::App;
use super::respond;
use crate::protocols::document::Format;

/// Of all models, those that are not loaded any more included.
pub fn signals(app: &App) -> Response<Full<Bytes>> {
    let work = app.metrics.work.get();
    // Gauges are signed; below zero they are not meant.
    let gauge = |value: i64| u64::try_from(value).unwrap_or(0);
    let signals = Signals {
        version: VERSION,
        process: app.process_millis,
        arrivals: app.arrivals(),
        completions: work.count,
        service_seconds: work.nanos as f64 / 1e9,
        queued: gauge(app.metrics.queue_depth().get()),
        in_flight: gauge(app.metrics.in_flight.get()),
    };
    respond::value(Format::Json, StatusCode::OK, &signals)
}
