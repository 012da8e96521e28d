//! The span of a run of a model. A batch belongs to no one trace: it is the root of its own, linked to the requests in it, and each of them to it.

use std::sync::Arc;

use opentelemetry::trace::{Link as SpanLink, Span as _, SpanBuilder, SpanKind, Status, Tracer};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::Span;

use super::Phase;
use super::call::{Active, Anchor, Link};
use crate::clock::Instant;

/// A run of a model; empty when none of its requests is traced. Ends when it is dropped at the latest.
#[derive(Debug, Default)]
pub struct Run(Option<Box<Begun>>);

#[derive(Debug)]
struct Begun {
    span: Span,
    anchor: Anchor,
    started: Instant,
    model: String,
    members: Vec<(usize, Arc<Active>)>,
}

/// The requests of a run: how many, and those that are traced with their places. Allocates nothing for the others.
#[derive(Debug, Default)]
pub struct Members {
    count: usize,
    traced: Vec<(usize, Arc<Active>)>,
}

impl Members {
    /// The next one.
    pub fn add(&mut self, link: Link) {
        if let Some(active) = link.0 {
            self.traced.push((self.count, active));
        }
        self.count += 1;
    }
}

impl Run {
    /// A run for these requests, with so many items.
    pub fn begin(members: Members, model: &str, items: usize, started: Instant) -> Self {
        let Members {
            count: requests,
            traced,
        } = members;
        let Some((_, first)) = traced.first() else {
            return Self(None);
        };
        let anchor = Anchor::now();
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let links = traced
            .iter()
            .map(|(_, member)| SpanLink::with_context(member.context.clone()));
        let builder = SpanBuilder::from_name("batch")
            .with_kind(SpanKind::Internal)
            .with_start_time(anchor.at(started))
            .with_links(links.collect())
            .with_attributes([
                KeyValue::new("model", model.to_owned()),
                KeyValue::new("batch.items", count(items)),
                KeyValue::new("batch.requests", count(requests)),
            ]);
        let span = first.tracer.build_with_context(builder, &Context::new());
        Self(Some(Box::new(Begun {
            span,
            anchor,
            started,
            model: model.to_owned(),
            members: traced,
        })))
    }

    /// A run of the request at this place alone, after that of all failed.
    #[must_use]
    pub fn part(&self, place: usize, started: Instant) -> Self {
        let Some(begun) = &self.0 else {
            return Self(None);
        };
        let members = begun.members.iter().filter(|(other, _)| *other == place);
        let traced = members.map(|(_, active)| (0, Arc::clone(active))).collect();
        Self::begin(Members { count: 1, traced }, &begun.model, 1, started)
    }

    /// Notes its end. Before its callers are answered: afterwards their own spans may be gone.
    pub fn end(&mut self, now: Instant, is_failed: bool) {
        let Some(mut begun) = self.0.take() else { return };
        let context = begun.span.span_context().clone();
        for (_, member) in &begun.members {
            member.note(Phase::Infer, begun.started, now, Some(context.clone()));
        }
        if is_failed {
            begun.span.set_status(Status::error(""));
        }
        begun.span.end_with_timestamp(begun.anchor.at(now));
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.0.is_some() {
            self.end(crate::clock::now(), true);
        }
    }
}
