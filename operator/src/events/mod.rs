//! What is worth an event: the difference between two statuses. Pure; a value per event, with the key by which repetitions are recognised.

use std::time::Duration;

use tidewright_api::InferenceServiceStatus;
use tidewright_api::conditions::{ConditionType, Reason};
use tidewright_api::scaling::Mode;
use tidewright_api::status::PoolStatus;

/// The same event about the same service is not told again within this time.
const QUIET_FOR: Duration = Duration::from_secs(300);
/// Scaling is told each time: each is another number.
const QUIET_FOR_SCALING: Duration = Duration::from_secs(1);
/// Kubernetes' own limit of a note is 1024 bytes.
const NOTE_CHARS_MAX: usize = 500;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Whether something is wrong.
    pub is_warning: bool,
    /// CamelCase, stable.
    pub reason: &'static str,
    /// What was being done, CamelCase.
    pub action: &'static str,
    /// For people.
    pub note: String,
    /// Equal keys are the same event.
    pub dedupe_key: String,
    /// For how long the same event is not told again.
    pub quiet_for: Duration,
}

impl Event {
    fn new(is_warning: bool, reason: &'static str, action: &'static str, note: &str) -> Self {
        let note: String = note.chars().take(NOTE_CHARS_MAX).collect();
        Self {
            is_warning,
            reason,
            action,
            // Ages and counts move with every look: what differs in numbers alone is the same event.
            dedupe_key: format!("{reason}/{}", note.replace(|c: char| c.is_ascii_digit(), "")),
            note,
            quiet_for: QUIET_FOR,
        }
    }
}

impl Event {
    /// Another number is another event.
    fn is_told_each_time(&mut self) {
        self.dedupe_key = format!("{}/{}", self.reason, self.note);
        self.quiet_for = QUIET_FOR_SCALING;
    }
}

/// The events of a change of status. Advice is told only where it was asked for, in mode Advise.
pub fn between(before: Option<&InferenceServiceStatus>, after: &InferenceServiceStatus, mode: Mode) -> Vec<Event> {
    let nothing = InferenceServiceStatus::default();
    let before = before.unwrap_or(&nothing);
    let mut events = Vec::new();
    ready(before, after, &mut events);
    spec(before, after, &mut events);
    scaling(before, after, &mut events);
    overridden(before, after, &mut events);
    for pool in &after.pools {
        if let Some(was) = before.pools.iter().find(|p| p.name == pool.name) {
            scaled(was, pool, &mut events);
            if mode == Mode::Advise {
                advised(was, pool, &mut events);
            }
        }
    }
    events
}

type State<'a> = (&'a str, &'a str, &'a str);

fn state(status: &InferenceServiceStatus, kind: ConditionType) -> State<'_> {
    status
        .conditions
        .iter()
        .find(|c| c.type_ == kind.as_str())
        .map_or(("", "", ""), |c| {
            (c.status.as_str(), c.reason.as_str(), c.message.as_str())
        })
}

fn ready(before: &InferenceServiceStatus, after: &InferenceServiceStatus, events: &mut Vec<Event>) {
    let (was, was_reason, _) = state(before, ConditionType::Ready);
    let (is, reason, message) = state(after, ConditionType::Ready);
    if is == "True" && was != "True" {
        events.push(Event::new(false, "InferenceServiceReady", "Reconcile", message));
    } else if is == "False" && (was != "False" || was_reason != reason) && reason != Reason::InvalidSpec.as_str() {
        // Not yet is no fault; no longer is one.
        let is_planned =
            reason == Reason::RollingOut.as_str() || (was != "True" && reason == Reason::NotEnoughReplicas.as_str());
        events.push(Event::new(
            !is_planned,
            "InferenceServiceNotReady",
            "Reconcile",
            &format!("{reason}: {message}"),
        ));
    }
}

fn spec(before: &InferenceServiceStatus, after: &InferenceServiceStatus, events: &mut Vec<Event>) {
    let (is, _, message) = state(after, ConditionType::SpecHonoured);
    let (_, _, was_message) = state(before, ConditionType::SpecHonoured);
    if is == "False" && message != was_message {
        events.push(Event::new(true, "InvalidSpec", "Validate", message));
    }
}

fn scaling(before: &InferenceServiceStatus, after: &InferenceServiceStatus, events: &mut Vec<Event>) {
    let (was, was_reason, _) = state(before, ConditionType::ScalingReady);
    let (is, reason, message) = state(after, ConditionType::ScalingReady);
    let is_of = |reason: &str, of: Reason| reason == of.as_str();
    // A pause that ends into a fixed number, or into blindness, resumes nothing.
    if is_of(was_reason, Reason::Paused) && (is_of(reason, Reason::Scaling) || is_of(reason, Reason::Pending)) {
        events.push(Event::new(false, "ScalingResumed", "Scale", message));
    }
    if is == "False" && (was != "False" || was_reason != reason) {
        let (is_warning, word) = match reason {
            _ if is_of(reason, Reason::Paused) => (false, "ScalingPaused"),
            _ if is_of(reason, Reason::MetricsApiTaken) => (true, "MetricsApiTaken"),
            _ if is_of(reason, Reason::ReplicasStuck) => (true, "ReplicasStuck"),
            _ => (true, "MetricUnavailable"),
        };
        events.push(Event::new(is_warning, word, "Scale", message));
    } else if is == "True" && was == "False" && !is_of(was_reason, Reason::Paused) {
        let word = if is_of(was_reason, Reason::ReplicasStuck) {
            "ReplicasStarted"
        } else {
            "MetricsAvailable"
        };
        events.push(Event::new(false, word, "Scale", message));
    }
}

fn overridden(before: &InferenceServiceStatus, after: &InferenceServiceStatus, events: &mut Vec<Event>) {
    let number = |status: &InferenceServiceStatus| status.r#override.as_ref().map(|o| o.replicas);
    let (reason, note) = match (&before.r#override, &after.r#override) {
        (_, Some(is)) if number(before) != Some(is.replicas) => (
            "ReplicasOverridden",
            format!("{} replicas until {}, as set by hand", is.replicas, is.until.0),
        ),
        (Some(was), None) => ("OverrideEnded", format!("no longer {} replicas by hand", was.replicas)),
        _ => return,
    };
    let mut event = Event::new(false, reason, "Scale", &note);
    event.is_told_each_time();
    events.push(event);
}

fn advised(was: &PoolStatus, is: &PoolStatus, events: &mut Vec<Event>) {
    let Some(advice) = &is.advice else { return };
    if was
        .advice
        .as_ref()
        .is_some_and(|before| before.replicas == advice.replicas)
    {
        return;
    }
    let note = format!(
        "pool {}: would have {} replicas, has {}: {}: {}",
        is.name, advice.replicas, is.desired, advice.reason, advice.message
    );
    let mut event = Event::new(false, "Advice", "Scale", &note);
    event.is_told_each_time();
    events.push(event);
}

fn scaled(was: &PoolStatus, is: &PoolStatus, events: &mut Vec<Event>) {
    if was.desired == is.desired {
        return;
    }
    let reason = if is.desired > was.desired {
        "ScaledUp"
    } else {
        "ScaledDown"
    };
    let why = is
        .decision
        .as_ref()
        .map_or(String::new(), |d| format!(": {}: {}", d.reason, d.message));
    let mut event = Event::new(
        false,
        reason,
        "Scale",
        &format!("pool {}: {} → {} replicas{why}", is.name, was.desired, is.desired),
    );
    event.is_told_each_time();
    events.push(event);
}

#[cfg(test)]
mod tests;
