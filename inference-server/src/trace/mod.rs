//! Traces of requests: one span per call and per phase of it, one per run of a model, to a collector of OpenTelemetry.
//!
//! Off unless a collector is named: then every hook below is a look at an empty value. Without the feature `otel` the same hooks are empty functions.
//! The span of a call that is being answered travels with its task, so that what lies between the protocols and the engine need not hand it on.

use crate::metrics::exemplars::TraceId;

#[cfg(feature = "otel")]
mod call;
#[cfg(feature = "otel")]
mod export;
#[cfg(not(feature = "otel"))]
mod off;
#[cfg(feature = "otel")]
mod run;

#[cfg(feature = "otel")]
pub use call::{Call, Link, admitted, exemplar, lap, link, phase};
#[cfg(feature = "otel")]
pub use export::Tracing;
#[cfg(not(feature = "otel"))]
pub use off::{Call, Link, Members, Run, Tracing, admitted, exemplar, lap, link, phase};
#[cfg(feature = "otel")]
pub use run::{Members, Run};

/// The header that carries a call's place in its trace, in and out: by W3C Trace Context version, trace, span, flags.
pub const TRACEPARENT: &str = "traceparent";

/// A part of the work on one request, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// From the head of the request to its permit.
    Admit,
    /// The body arrives; for gRPC the message is decoded, too, and all that comes before the permit.
    Receive,
    /// Bytes become tensors.
    Pre,
    /// Waits for a worker.
    Queue,
    /// Is part of a run of the model.
    Infer,
    /// Tensors become bytes.
    Post,
}

impl Phase {
    /// Name of its span.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Receive => "receive",
            Self::Pre => "pre",
            Self::Queue => "queue",
            Self::Infer => "infer",
            Self::Post => "post",
        }
    }
}

/// What a call is made through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Http,
    Grpc,
}
