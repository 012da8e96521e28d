//! The hooks without the feature `otel`: nothing is traced, and a config that asks for it is refused.

use std::time::Instant;

use http::{HeaderMap, Response};
use tidewright_contract::config::TracingConfig;

use super::{Phase, Protocol, TraceId};
use crate::metrics::SpanMetrics;

/// Never on.
#[derive(Debug, Clone, Default)]
pub struct Tracing(());

impl Tracing {
    /// Off, or an error when it shall be on.
    pub fn start(config: Option<&TracingConfig>, _: SpanMetrics) -> Result<Self, String> {
        match config {
            None => Ok(Self(())),
            Some(_) => Err("tracing: this binary was built without the feature \"otel\"".to_owned()),
        }
    }

    /// Nothing.
    pub fn begin(&self, _: Protocol, _: impl FnOnce() -> Option<&'static str>, _: &HeaderMap) -> Call {
        Call(())
    }

    /// Nothing.
    #[allow(clippy::unused_async)] // as with the feature
    pub async fn end(self) {}
}

/// Not traced.
#[derive(Debug)]
pub struct Call(());

impl Call {
    /// The answer.
    pub fn run<B, F: Future<Output = Response<B>>>(self, answer: F) -> F {
        answer
    }
}

/// No call.
#[derive(Debug, Clone, Default)]
pub struct Link(());

impl Link {
    /// Nothing.
    pub fn waited(&self, _: Instant, _: Instant) {}

    /// The answer.
    pub fn message<T, F: Future<Output = T>>(self, answer: F, _: impl FnOnce(&T) -> bool) -> F {
        answer
    }
}

/// Nobody.
#[derive(Debug, Default)]
pub struct Members(());

impl Members {
    /// Nothing.
    pub fn add(&mut self, _: Link) {}
}

/// No run.
#[derive(Debug, Default)]
pub struct Run(());

impl Run {
    /// Nothing.
    pub fn begin(_: Members, _: &str, _: usize, _: Instant) -> Self {
        Self(())
    }

    /// Nothing.
    #[must_use]
    pub fn part(&self, _: usize, _: Instant) -> Self {
        Self(())
    }

    /// Nothing.
    pub fn end(&mut self, _: Instant, _: bool) {}
}

/// Nothing.
pub fn admitted(_: &str) {}

/// Nothing.
pub fn lap(_: Phase) {}

/// Nothing.
pub fn phase(_: Phase, _: Instant, _: Instant) {}

/// None.
pub fn link() -> Link {
    Link(())
}

/// None.
pub fn exemplar() -> Option<TraceId> {
    None
}
