//! One condition, and how it becomes part of a status: the transition time moves only when the status does.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use tidewright_api::conditions::{ConditionType, Reason};

/// Kubernetes allows more; nobody reads more.
const MESSAGE_CHARS_MAX: usize = 1024;

/// Three-valued: not knowing is not the same as no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Truth {
    True,
    False,
    Unknown,
}

/// A condition without its times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Draft {
    pub(super) kind: ConditionType,
    pub(super) truth: Truth,
    pub(super) reason: Reason,
    pub(super) message: String,
}

impl Draft {
    pub(super) fn new(kind: ConditionType, truth: Truth, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            kind,
            truth,
            reason,
            message: message.into(),
        }
    }
}

/// Exactly these conditions.
pub(super) fn render(drafts: &[Draft], previous: &[Condition], generation: i64, now: Timestamp) -> Vec<Condition> {
    drafts
        .iter()
        .map(|draft| one(draft, previous, generation, now))
        .collect()
}

/// These conditions, and those of the others that were there before.
pub(super) fn merge(drafts: &[Draft], previous: &[Condition], generation: i64, now: Timestamp) -> Vec<Condition> {
    let mut all = render(drafts, previous, generation, now);
    all.extend(
        previous
            .iter()
            .filter(|c| !drafts.iter().any(|d| d.kind.as_str() == c.type_))
            .cloned(),
    );
    all
}

fn one(draft: &Draft, previous: &[Condition], generation: i64, now: Timestamp) -> Condition {
    let status = match draft.truth {
        Truth::True => "True",
        Truth::False => "False",
        Truth::Unknown => "Unknown",
    };
    let before = previous.iter().find(|c| c.type_ == draft.kind.as_str());
    let unchanged_since = before
        .filter(|c| c.status == status)
        .map(|c| c.last_transition_time.clone());
    Condition {
        type_: draft.kind.as_str().to_owned(),
        status: status.to_owned(),
        reason: draft.reason.as_str().to_owned(),
        message: draft.message.chars().take(MESSAGE_CHARS_MAX).collect(),
        observed_generation: Some(generation),
        last_transition_time: unchanged_since.unwrap_or_else(|| Time(whole_seconds(now))),
    }
}

/// The API server keeps seconds: anything finer would look like a change for ever.
pub(super) fn whole_seconds(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}
