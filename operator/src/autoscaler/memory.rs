//! What the autoscaler remembers of a service between two looks, and the next look. Pure.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tidewright_api::status::ScheduleStatus;
use tidewright_scaling::decision::{Decision, PoolDecision, Reason, SignalState, Thresholds};
use tidewright_scaling::freshness::Trust;
use tidewright_scaling::observation::Absence;
use tidewright_scaling::record::Record;
use tidewright_scaling::{Moment, Observations, Policy, State, decide, explanation};

use super::observe::timestamp;
use super::plan::Plan;
use super::signals::is_direct;
use crate::domain::decided::{Decided, DecidedPool};
use crate::metrics::Trusted;

/// Seconds for which pods must be silent before people are told: one that is slow for a moment is no news.
const SILENCE_SECONDS: f64 = 15.0;
/// The same where metrics.k8s.io answers, and does not know all pods: it knows a new one a minute later.
const UNMEASURED_SECONDS: f64 = 90.0;
/// What nobody has asked for is decided as rarely as a HorizontalPodAutoscaler acts: each decision is kept, and there is one ledger for all services.
const UNASKED_EVERY: SignedDuration = SignedDuration::from_secs(15);

/// What is remembered of one service.
#[derive(Debug, Default)]
pub struct Memory {
    owner_uid: String,
    state: State,
    /// The policy of the last look; none before the first.
    policy: Option<Policy>,
    /// Since when what the pods say, or do not say, lets nothing shrink.
    silent_since: Option<Moment>,
    /// The same of metrics.k8s.io.
    unmeasured_since: Option<Moment>,
    /// Whether the servers were of a version that cannot be asked.
    were_older: bool,
    /// What was shown last, and when it was decided, where nobody has asked for it.
    shown: Option<(Timestamp, Decided, Vec<Trusted>)>,
}

/// What one look came to.
#[derive(Debug)]
pub struct Look {
    /// What people see.
    pub decided: Decided,
    /// What should change.
    pub steps: Vec<Step>,
    /// All that it was made of.
    pub record: Record,
}

/// A pool whose number should change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The pool.
    pub pool: String,
    /// From so many replicas.
    pub from: i32,
    /// To so many.
    pub to: i32,
}

impl Memory {
    /// Decides. What should change is left to the caller; what people see is the same whether it is carried out or not. With `is_start`, and the first
    /// time, the record says what was remembered, so that a replay can begin with it.
    pub fn look(&mut self, plan: &Plan, seen: Observations, now: Moment, is_start: bool) -> Look {
        if self.owner_uid != plan.owner_uid {
            *self = Self {
                owner_uid: plan.owner_uid.clone(),
                ..Self::default()
            };
        }
        let is_start = is_start || self.policy.is_none();
        let before = is_start.then(|| self.state.clone());
        let (decision, state) = decide(&plan.policy, &seen, std::mem::take(&mut self.state), now);
        self.state = state;
        let is_other = self.policy.as_ref() != Some(&plan.policy);
        if is_other {
            self.policy = Some(plan.policy.clone());
        }
        let pools: BTreeMap<String, DecidedPool> = decision
            .pools
            .iter()
            .map(|pool| (pool.name.clone(), shown(plan, &decision, pool)))
            .collect();
        // At zero somebody has switched it off: an autoscaler does nothing then.
        let changing = decision
            .pools
            .iter()
            .filter(|pool| pool.from > 0 && pool.to != pool.from);
        let steps = changing.map(|pool| Step {
            pool: pool.name.clone(),
            from: signed(pool.from),
            to: signed(pool.to),
        });
        let steps = steps.collect();
        Look {
            decided: Decided {
                pools,
                problem: None,
                asks_pods: plan.asks_window.is_some(),
                silence: self.silence(&decision, now),
                unmeasured: self.unmeasured(plan, &decision, now),
            },
            steps,
            record: Record {
                at: now,
                seen,
                decision,
                policy: (is_start || is_other).then(|| plan.policy.clone()),
                state: before,
            },
        }
    }

    /// Remembers what is shown from now on.
    pub fn show(&mut self, plan: &Plan, now: Timestamp, decided: &Decided, trusted: &[Trusted]) {
        self.shown = plan.is_unasked.then(|| (now, decided.clone(), trusted.to_vec()));
    }

    /// What is shown still, while nothing has to be decided anew: for what nobody has asked for there is time, unless the spec changes.
    pub fn still_shown(&self, plan: &Plan, now: Timestamp) -> Option<(Decided, Vec<Trusted>)> {
        let is_same = plan.is_unasked && self.owner_uid == plan.owner_uid && self.policy.as_ref() == Some(&plan.policy);
        let (at, decided, trusted) = self.shown.as_ref().filter(|_| is_same)?;
        let is_young = (SignedDuration::ZERO..UNASKED_EVERY).contains(&now.duration_since(*at));
        is_young.then(|| (decided.clone(), trusted.clone()))
    }

    /// Whether it is news that the servers are of a version that cannot be asked.
    pub fn are_older_now(&mut self, are_older: bool) -> bool {
        !std::mem::replace(&mut self.were_older, are_older) && are_older
    }

    /// What is missing of what the pods should say, once it has been missing for a while.
    fn silence(&mut self, decision: &Decision, now: Moment) -> Option<String> {
        let direct = decision.signals.iter().filter(|signal| is_direct(&signal.name));
        lasting(&mut self.silent_since, direct, SILENCE_SECONDS, now)
    }

    /// What is missing of CPU and memory, once it has been missing for a while.
    fn unmeasured(&mut self, plan: &Plan, decision: &Decision, now: Moment) -> Option<String> {
        let uses = decision.signals.iter().skip(plan.sources.len());
        let is_failing = |signal: &SignalState| signal.trust == Trust::Missing(Absence::QueryFailed);
        let seconds = if uses.clone().any(is_failing) {
            SILENCE_SECONDS
        } else {
            UNMEASURED_SECONDS
        };
        lasting(&mut self.unmeasured_since, uses, seconds, now)
    }
}

/// Which of the signals let nothing shrink, once that has lasted for so many seconds.
fn lasting<'s>(
    since: &mut Option<Moment>,
    signals: impl Iterator<Item = &'s SignalState>,
    seconds: f64,
    now: Moment,
) -> Option<String> {
    let missing: Vec<String> = signals
        // A service without a ready pod has nobody to ask.
        .filter(|signal| !signal.trust.is_full() && signal.trust != Trust::Missing(Absence::NoTargets))
        .map(|signal| format!("{} {}", signal.name, signal.trust.as_str()))
        .collect();
    *since = (!missing.is_empty()).then(|| since.unwrap_or(now));
    since
        .filter(|since| now.seconds_since(*since) >= seconds)
        .map(|_| missing.join(", "))
}

fn shown(plan: &Plan, decision: &Decision, pool: &PoolDecision) -> DecidedPool {
    let mut message = explanation::sentence(decision, pool);
    // They are found by trying other rates and queues: only where those are what is sized for do they say all.
    let thresholds = pool.thresholds.as_ref().filter(|_| plan.is_sized_for_promise);
    if let Some(thresholds) = thresholds {
        message.push_str("; ");
        message.push_str(&explanation::counterfactual(thresholds));
    }
    let limited_by = pool.steps.last().and_then(|step| match step.reason {
        Reason::MaxReplicas => Some("maxReplicas"),
        Reason::MinReplicas => Some("minReplicas"),
        Reason::Schedule => Some("schedule"),
        Reason::RateLimited => Some("behavior"),
        _ => None,
    });
    DecidedPool {
        replicas: signed(pool.to),
        reason: pool.reason.as_str(),
        message,
        schedule: schedule(pool),
        limited_by,
        stuck: pool.counts.stuck,
        stuck_after_seconds: pool.model.stuck_after_seconds,
        proposals: pool
            .proposals
            .iter()
            .map(|of| (of.signal.clone(), of.replicas))
            .collect(),
        held_until: pool.hold.and_then(|hold| timestamp(hold.until?)),
        thresholds: thresholds.map(numbers).unwrap_or_default(),
    }
}

fn numbers(thresholds: &Thresholds) -> Vec<(&'static str, f64)> {
    let all = [
        ("up_above_rate", thresholds.up_above_rate),
        ("up_above_queued", thresholds.up_above_queued),
        ("down_below_rate", thresholds.down_below_rate),
    ];
    all.into_iter()
        .filter_map(|(kind, number)| Some((kind, number?)))
        .collect()
}

/// The schedule that has raised a number, if one has.
fn schedule(pool: &PoolDecision) -> Option<ScheduleStatus> {
    let has_raised = pool.steps.iter().any(|step| step.reason == Reason::Schedule);
    let floor = pool.floor.as_ref().filter(|_| has_raised)?;
    Some(ScheduleStatus {
        name: floor.name.clone(),
        until: Time(timestamp(floor.until)?),
    })
}

fn signed(replicas: u32) -> i32 {
    i32::try_from(replicas).unwrap_or(i32::MAX)
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
