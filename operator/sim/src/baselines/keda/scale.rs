//! The polling loop: zero or not, idle or not; and the answer of the metrics server.
//!
//! kedacore/keda 8b4f083c, `getScaledObjectState` and `GetScaledObjectMetrics` in `scale_handler.go`, `RequestScale` in `scale_scaledobjects.go`.

use super::super::hpa::Reading as HpaReading;
use super::fallback::{self, Health, Reported, Workload};
use super::object::{Prometheus, ScaledObject, Trigger};
use super::prometheus::{self, Answer};
use super::whole_seconds;

/// `status` of a ScaledObject.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// Health per trigger, in the order of the spec; grows as needed.
    pub health: Vec<Health>,
    /// When a trigger was last active, in whole seconds as in the API.
    pub last_active_ns: Option<i64>,
}

impl State {
    fn health(&mut self, trigger: usize) -> &mut Health {
        if self.health.len() <= trigger {
            self.health.resize(trigger + 1, Health::default());
        }
        &mut self.health[trigger]
    }
}

/// What one poll sees.
#[derive(Debug, Clone, Copy)]
pub struct PollInput<'a> {
    pub now_ns: i64,
    /// The target's `spec.replicas`.
    pub current_replicas: i32,
    /// Its pods that are running and ready; `None` where they cannot be counted.
    pub ready_replicas: Option<i32>,
    /// One per trigger, in the order of the spec. A resource trigger's is not looked at.
    pub answers: &'a [Answer],
}

/// What one poll did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The count that was written; `None` if none was.
    pub written: Option<i32>,
    /// Reason and truth of the condition `Active`; `None` while paused.
    pub active: Option<(bool, &'static str)>,
    /// Reason and truth of the condition `Ready`; the truth is `None` for `Unknown`.
    pub ready: (Option<bool>, &'static str),
    /// Why triggers failed.
    pub errors: Vec<String>,
}

/// What the triggers say together.
struct Triggers {
    is_active: bool,
    errors: Vec<String>,
}

/// One pass of the polling loop.
pub fn poll(object: &ScaledObject, state: &mut State, input: PollInput<'_>) -> Outcome {
    let triggers = triggers(object, state, input);
    let mut outcome = Outcome {
        written: None,
        active: None,
        ready: (Some(true), "ScaledObjectReady"),
        errors: triggers.errors,
    };
    if object.is_paused {
        return outcome;
    }
    if triggers.is_active || object.is_activation_forced {
        when_active(object, state, input, &mut outcome);
    } else {
        when_inactive(object, state, input, &mut outcome);
    }
    outcome
}

/// `getScaledObjectState`.
fn triggers(object: &ScaledObject, state: &mut State, input: PollInput<'_>) -> Triggers {
    let mut found = Triggers {
        is_active: false,
        errors: Vec::new(),
    };
    let workload = Workload {
        current_replicas: Some(input.current_replicas),
        ready_replicas: input.ready_replicas,
    };
    let mut has_external = false;
    for (index, trigger) in object.triggers.iter().enumerate() {
        let Trigger::Prometheus(trigger) = trigger else {
            continue;
        };
        has_external = true;
        let unread = Err("no answer".to_owned());
        let answer = input.answers.get(index).unwrap_or(&unread);
        let is_active = prometheus::read(trigger, answer).is_ok_and(|reading| reading.is_active);
        match report(object, state, index, trigger, answer, workload) {
            Ok(reported) => found.is_active |= is_active || reported.is_fallback,
            Err(error) => found.errors.push(error),
        }
    }
    // Resource metrics alone cannot wake anything up.
    if !has_external && found.errors.is_empty() {
        found.is_active = true;
    }
    found
}

fn report(
    object: &ScaledObject,
    state: &mut State,
    index: usize,
    trigger: &Prometheus,
    answer: &Answer,
    workload: Workload,
) -> Result<Reported, String> {
    let read = prometheus::read(trigger, answer).map(|reading| reading.value_milli);
    fallback::with_fallback(object.fallback, trigger, state.health(index), read, workload)
}

fn when_active(object: &ScaledObject, state: &mut State, input: PollInput<'_>, outcome: &mut Outcome) {
    outcome.active = Some((true, "ScalerActive"));
    let current = input.current_replicas;
    let is_idle = object.idle_replica_count.is_some() && current < object.min_replicas();
    if is_idle || current == 0 {
        if !object.is_scale_out_paused {
            outcome.written = Some(object.min_replicas().max(1));
            state.last_active_ns = Some(whole_seconds(input.now_ns));
        }
    } else if outcome.errors.is_empty() {
        state.last_active_ns = Some(whole_seconds(input.now_ns));
    } else {
        // The time is not renewed.
        outcome.ready = (None, "PartialTriggerError");
    }
}

fn when_inactive(object: &ScaledObject, state: &State, input: PollInput<'_>, outcome: &mut Outcome) {
    outcome.active = Some((false, "ScalerNotActive"));
    let current = input.current_replicas;
    let is_error = !outcome.errors.is_empty();
    let waits_for_fallback = object.fallback.is_some_and(|fallback| fallback.replicas != 0);
    let is_above_idle = object.idle_replica_count.is_some_and(|idle| current > idle);
    if is_error && waits_for_fallback {
        // At zero the HPA would be disabled and could not fall back.
    } else if is_error && object.fallback.is_none() {
        outcome.ready = (Some(false), "TriggerError");
    } else if is_above_idle || (current > 0 && object.min_replicas() == 0) {
        if object.is_scale_in_paused {
            return;
        }
        if is_cool(object, state, input.now_ns) {
            outcome.written = Some(object.idle_replica_count.unwrap_or(object.min_replicas()));
        } else {
            outcome.active = Some((false, "ScalerCooldown"));
        }
    } else if object.idle_replica_count.is_none() && current < object.min_replicas() {
        outcome.written = Some(object.min_replicas());
    }
}

/// Whether the cooldown is over. Without a time it counts from the creation: somebody else has scaled the target up.
fn is_cool(object: &ScaledObject, state: &State, now_ns: i64) -> bool {
    let end_ns = match state.last_active_ns {
        None => whole_seconds(object.created_ns) + object.initial_cooldown_period_ns(),
        Some(last_ns) => last_ns + object.cooldown_period_ns(),
    };
    end_ns < now_ns
}

/// `GetScaledObjectMetrics`: the metrics server's answer to the HPA about one Prometheus trigger, from a query of its own.
pub fn metric(
    object: &ScaledObject,
    state: &mut State,
    trigger: usize,
    answer: &Answer,
    workload: Workload,
) -> Result<HpaReading, String> {
    let Some(Trigger::Prometheus(prometheus)) = object.triggers.get(trigger) else {
        return Err(format!("no matching metrics found for s{trigger}-prometheus"));
    };
    report(object, state, trigger, prometheus, answer, workload)
        .map(|reported| HpaReading::External(vec![reported.value_milli]))
        // What was wrong stays in the operator's log.
        .map_err(|_| format!("metric:s{trigger}-prometheus encountered error"))
}
