//! The spans of one call. While it is answered only times are noted; its spans are made when it ends, the caller's leaving included.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::Either;
use http::{HeaderMap, HeaderValue, Response};
use opentelemetry::trace::{
    Link as SpanLink, Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, Tracer,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SdkTracer, Span};

use super::{Phase, Protocol, TRACEPARENT, TraceId};
use crate::clock::{self, Instant, SystemTime};

/// Phases that are kept of one call: one that is cut into more parts than this tells of the first ones.
const PHASES_MAX: usize = 64;

tokio::task_local! {
    static CURRENT: Arc<Active>;
}

/// A call that is traced, seen from wherever it is worked on.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) tracer: SdkTracer,
    pub(super) context: SpanContext,
    anchor: Anchor,
    noted: Mutex<Noted>,
}

/// What is known so far.
#[derive(Debug)]
struct Noted {
    /// End of the last lap.
    lap: Instant,
    model: Option<String>,
    phases: Vec<(Phase, Instant, Instant, Option<SpanContext>)>,
}

/// One moment by both clocks: spans have times of day, everything else counts from somewhere.
#[derive(Debug, Clone, Copy)]
pub(super) struct Anchor(Instant, SystemTime);

impl Anchor {
    pub(super) fn now() -> Self {
        Self(clock::now(), clock::wall())
    }

    pub(super) fn at(self, instant: Instant) -> SystemTime {
        self.1 + instant.saturating_duration_since(self.0) - self.0.saturating_duration_since(instant)
    }
}

impl Active {
    fn new(tracer: SdkTracer, context: SpanContext, anchor: Anchor) -> Arc<Self> {
        Arc::new(Self {
            tracer,
            context,
            anchor,
            noted: Mutex::new(Noted {
                lap: anchor.0,
                model: None,
                phases: Vec::with_capacity(8),
            }),
        })
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note(&self, phase: Phase, from: Instant, to: Instant, run: Option<SpanContext>) {
        let mut noted = self.noted();
        if noted.phases.len() < PHASES_MAX {
            noted.phases.push((phase, from, to, run));
        }
    }
}

/// One call, from its head to its answer.
#[derive(Debug)]
pub struct Call(Option<Begun>);

#[derive(Debug)]
struct Begun {
    protocol: Protocol,
    context: SpanContext,
    /// Only of a call that is sampled.
    ending: Option<Ending>,
}

impl Call {
    /// Not traced.
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// A call whose parent, if it has one, is in the context. Every call gets an identity; only one that is sampled costs more.
    pub(super) fn begin(tracer: &SdkTracer, parent: &Context, protocol: Protocol, template: &'static str) -> Self {
        let anchor = Anchor::now();
        let (name, attributes) = match protocol {
            Protocol::Http => (
                Cow::Borrowed(template),
                [
                    KeyValue::new("http.request.method", "POST"),
                    KeyValue::new("http.route", template),
                ],
            ),
            Protocol::Grpc => {
                let method = template.trim_start_matches('/');
                (
                    Cow::Borrowed(method),
                    [KeyValue::new("rpc.system", "grpc"), KeyValue::new("rpc.method", method)],
                )
            }
        };
        let builder = SpanBuilder::from_name(name)
            .with_kind(SpanKind::Server)
            .with_attributes(attributes)
            .with_start_time(anchor.1);
        let span = tracer.build_with_context(builder, parent);
        let context = span.span_context().clone();
        let ending = span
            .is_recording()
            .then(|| Ending::new(span, Active::new(tracer.clone(), context.clone(), anchor)));
        Self(Some(Begun {
            protocol,
            context,
            ending,
        }))
    }

    /// Answers it; the answer says where in which trace it belongs. Untraced it is the future that it was given, and no larger.
    pub fn run<B, F>(self, answer: F) -> impl Future<Output = Response<B>>
    where
        F: Future<Output = Response<B>>,
    {
        match self.0 {
            Some(begun) => Either::Left(Box::pin(begun.run(answer))),
            None => Either::Right(answer),
        }
    }
}

impl Begun {
    async fn run<B>(self, answer: impl Future<Output = Response<B>>) -> Response<B> {
        let Self {
            protocol,
            context,
            mut ending,
        } = self;
        let answer = match &ending {
            Some(ending) => Either::Left(CURRENT.scope(Arc::clone(&ending.active), answer)),
            None => Either::Right(answer),
        };
        let mut response = answer.await;
        if let Some(ending) = &mut ending {
            ending.answered(protocol, &response);
        }
        if let Ok(value) = HeaderValue::try_from(format!(
            "00-{}-{}-{:02x}",
            context.trace_id(),
            context.span_id(),
            context.trace_flags()
        )) {
            response.headers_mut().insert(TRACEPARENT, value);
        }
        response
    }
}

/// Makes the spans when it is dropped.
#[derive(Debug)]
struct Ending {
    span: Span,
    active: Arc<Active>,
    is_answered: bool,
}

impl Ending {
    fn new(span: Span, active: Arc<Active>) -> Self {
        Self {
            span,
            active,
            is_answered: false,
        }
    }

    fn answered<B>(&mut self, protocol: Protocol, response: &Response<B>) {
        self.is_answered = true;
        let (name, code, is_failed) = match protocol {
            Protocol::Http => {
                let status = response.status();
                (
                    "http.response.status_code",
                    i64::from(status.as_u16()),
                    status.is_server_error(),
                )
            }
            Protocol::Grpc => {
                let code = grpc_status(response.headers());
                ("rpc.grpc.status_code", code, GRPC_FAILED.contains(&code))
            }
        };
        self.span.set_attribute(KeyValue::new(name, code));
        if is_failed {
            self.span.set_status(Status::error(""));
        }
    }
}

/// Codes that are the server's fault: unknown, deadline exceeded, unimplemented, internal, unavailable, data loss.
const GRPC_FAILED: [i64; 6] = [2, 4, 12, 13, 14, 15];

/// Calls that fail have it in their head; an answer's comes after its message, and is then 0.
fn grpc_status(headers: &HeaderMap) -> i64 {
    let code = headers
        .get("grpc-status")
        .and_then(|code| code.to_str().ok()?.parse().ok());
    code.unwrap_or(0)
}

impl Drop for Ending {
    fn drop(&mut self) {
        let Active {
            tracer,
            context,
            anchor,
            ..
        } = &*self.active;
        let parent = Context::new().with_remote_span_context(context.clone());
        let (phases, model) = {
            let mut noted = self.active.noted();
            (std::mem::take(&mut noted.phases), noted.model.take())
        };
        for (phase, from, to, run) in phases {
            let mut builder = SpanBuilder::from_name(phase.as_str())
                .with_kind(SpanKind::Internal)
                .with_start_time(anchor.at(from));
            if let Some(run) = run {
                builder = builder.with_links(vec![SpanLink::with_context(run)]);
            }
            tracer
                .build_with_context(builder, &parent)
                .end_with_timestamp(anchor.at(to));
        }
        if let Some(model) = model {
            self.span.set_attribute(KeyValue::new("model", model));
        }
        if !self.is_answered {
            self.span.set_attribute(KeyValue::new("cancelled", true));
        }
        self.span.end_with_timestamp(anchor.at(clock::now()));
    }
}

/// A call, held by what works for it elsewhere. Empty when it is not traced.
#[derive(Debug, Clone, Default)]
pub struct Link(pub(super) Option<Arc<Active>>);

impl Link {
    /// Notes the time in the queue.
    pub fn waited(&self, from: Instant, to: Instant) {
        if let Some(active) = &self.0 {
            active.note(Phase::Queue, from, to, None);
        }
    }

    /// Answers one message of a stream, as a span within that of the stream's call.
    pub fn message<T, F>(self, answer: F, is_failed: impl FnOnce(&T) -> bool) -> impl Future<Output = T>
    where
        F: Future<Output = T>,
    {
        match self.0 {
            Some(active) => Either::Left(Box::pin(active.message(answer, is_failed))),
            None => Either::Right(answer),
        }
    }
}

impl Active {
    async fn message<T>(self: Arc<Self>, answer: impl Future<Output = T>, is_failed: impl FnOnce(&T) -> bool) -> T {
        let active = self;
        let anchor = Anchor::now();
        let parent = Context::new().with_remote_span_context(active.context.clone());
        let builder = SpanBuilder::from_name("message")
            .with_kind(SpanKind::Internal)
            .with_start_time(anchor.1);
        let span = active.tracer.build_with_context(builder, &parent);
        let context = span.span_context().clone();
        let mut ending = Ending::new(span, Active::new(active.tracer.clone(), context, anchor));
        let answer = CURRENT.scope(Arc::clone(&ending.active), answer).await;
        ending.is_answered = true;
        if is_failed(&answer) {
            ending.span.set_status(Status::error(""));
        }
        answer
    }
}

/// The call that this task answers.
pub fn link() -> Link {
    Link(CURRENT.try_with(Arc::clone).ok())
}

/// Notes the permit, and for which model.
pub fn admitted(model: &str) {
    let _ = CURRENT.try_with(|active| active.noted().model = Some(model.to_owned()));
    lap(Phase::Admit);
}

/// Notes a phase that began when the last one ended.
pub fn lap(phase: Phase) {
    let _ = CURRENT.try_with(|active| {
        let now = clock::now();
        let from = std::mem::replace(&mut active.noted().lap, now);
        active.note(phase, from, now, None);
    });
}

/// Notes a phase.
pub fn phase(phase: Phase, from: Instant, to: Instant) {
    let _ = CURRENT.try_with(|active| active.note(phase, from, to, None));
}

/// The trace of the call that this task answers, for the histograms that it counts in.
pub fn exemplar() -> Option<TraceId> {
    CURRENT
        .try_with(|active| TraceId(active.context.trace_id().to_string()))
        .ok()
}
