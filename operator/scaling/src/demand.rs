//! From judged signals to one demand: arrivals, what waits, what is in work. Of several sources the largest trusted number counts.

use crate::freshness::{self, Trust};
use crate::observation::{Observations, Phase};
use crate::policy::{Policy, SignalKind};
use crate::sizing;
use crate::state::State;
use crate::units::Moment;

/// Seconds of full capacity beyond which a queue is absurd, before the factor.
const QUEUE_SECONDS: f64 = 60.0;
/// Share of the slow rate below which arrivals have fallen off a cliff.
const CLIFF_SHARE: f64 = 0.2;
/// Share of failing requests from which on a cliff is an outage.
const FAILING_SHARE: f64 = 0.1;
/// How long an outage is waited out, in seconds.
const OUTAGE_SECONDS: f64 = 300.0;

/// What a service has to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Demand {
    /// One per signal.
    pub trust: Vec<Trust>,
    /// Arrivals per second by signal, margin included, where it is a rate and trusted.
    pub rates: Vec<Option<f64>>,
    /// The same for the rates of which each replica should have an amount; they are no arrivals to be sized for.
    pub shared_rates: Vec<Option<f64>>,
    /// The largest of `rates`.
    pub lambda: f64,
    /// Variability of arrivals.
    pub scv: f64,
    /// Waiting requests, held ones included.
    pub queued: f64,
    /// Every signal is fresh: only then may anything shrink.
    pub is_full: bool,
    /// No signal says more than a lower bound.
    pub is_blind: bool,
}

/// Judges and combines. What it learns of the rate counts from the next tick on.
pub(crate) fn demand(policy: &Policy, seen: &Observations, state: &mut State, now: Moment) -> Demand {
    let exists = seen
        .pools
        .iter()
        .flat_map(|pool| &pool.pods)
        .any(|pod| pod.phase != Phase::Terminating);
    let not_asked = Err(crate::observation::Absence::NotAsked);
    let readings = || {
        seen.signals
            .iter()
            .chain(std::iter::repeat(&not_asked))
            .take(policy.signals.len())
    };
    let limits: Vec<f64> = policy
        .signals
        .iter()
        .map(|signal| absurd_above(policy, state, &signal.kind))
        .collect();
    let trust: Vec<Trust> = readings()
        .zip(&policy.signals)
        .zip(&mut state.signals)
        .zip(&limits)
        .map(|(((reading, signal), memory), limit)| {
            freshness::judge(reading, signal, *limit, exists, &mut memory.trust, now)
        })
        .collect();

    let mut demand = Demand {
        rates: vec![None; trust.len()],
        shared_rates: vec![None; trust.len()],
        lambda: 0.0,
        scv: policy.tuning.arrival_scv_min,
        queued: f64::from(seen.held_requests),
        is_full: trust.iter().all(|trust| trust.is_full()),
        is_blind: trust.iter().all(|trust| trust.for_learning().is_none()),
        trust,
    };
    let slow_seconds = slow_seconds(policy, state);
    let (mut fell, mut waiting) = (false, 0.0_f64);
    for (index, (reading, signal)) in readings().zip(&policy.signals).enumerate() {
        let Some(trust) = demand.trust.get(index) else {
            continue;
        };
        let (Some(value), is_known) = (trust.for_growth(), trust.for_learning().is_some()) else {
            continue;
        };
        match signal.kind {
            SignalKind::ArrivalRate | SignalKind::ArrivalsPerReplica { .. } => {
                let (Some(memory), Ok(sample)) = (state.signals.get_mut(index), reading) else {
                    continue;
                };
                let believed = memory.rate.believe(value, sample, slow_seconds, &policy.tuning, now);
                let rates = if signal.kind == SignalKind::ArrivalRate {
                    demand.scv = demand.scv.max(believed.scv);
                    demand.lambda = demand.lambda.max(believed.lambda);
                    &mut demand.rates
                } else {
                    &mut demand.shared_rates
                };
                if let Some(rate) = rates.get_mut(index) {
                    *rate = Some(believed.lambda);
                }
                // A lower bound is no fall, and no experience.
                if is_known {
                    fell |= value < CLIFF_SHARE * believed.lambda;
                    memory.rate.learn(value, sample, slow_seconds, &policy.tuning);
                }
            }
            SignalKind::Queued => waiting = waiting.max(value),
            SignalKind::InFlight { .. }
            | SignalKind::Utilization { .. }
            | SignalKind::MeanUse { .. }
            | SignalKind::PerReplica { .. } => {}
        }
    }
    demand.queued += waiting;
    if fell && seen.failing_share.is_some_and(|share| share >= FAILING_SHARE) {
        state.outage_until = Some(now.plus_seconds(OUTAGE_SECONDS));
    }
    demand
}

/// Seconds of the slow estimate of the rate.
fn slow_seconds(policy: &Policy, state: &State) -> f64 {
    let latency_seconds = policy.objective.latency_seconds;
    let slacks = policy.pools.iter().zip(&state.pools).map(|(pool, memory)| {
        let service_seconds = memory.service.mean_seconds(pool);
        sizing::slack_seconds(latency_seconds, service_seconds)
    });
    let slack = slacks.fold(latency_seconds, f64::min);
    policy
        .tuning
        .slow_window_seconds
        .max(policy.tuning.slow_window_slacks * slack)
}

/// What a signal cannot exceed unless it lies: many times what all replicas together could ever do.
fn absurd_above(policy: &Policy, state: &State, kind: &SignalKind) -> f64 {
    let per_second: f64 = policy
        .pools
        .iter()
        .zip(&state.pools)
        .map(|(pool, memory)| f64::from(pool.replicas_max) * f64::from(pool.slots) / memory.service.mean_seconds(pool))
        .sum();
    let slots: f64 = policy
        .pools
        .iter()
        .map(|pool| f64::from(pool.replicas_max) * f64::from(pool.slots))
        .sum();
    let most = |pool: usize| policy.pools.get(pool).map_or(0.0, |pool| f64::from(pool.replicas_max));
    policy.tuning.absurd_factor
        * match kind {
            SignalKind::ArrivalRate => per_second,
            SignalKind::Queued => per_second * QUEUE_SECONDS.max(policy.objective.latency_seconds),
            SignalKind::InFlight { .. } => slots,
            SignalKind::Utilization { target, .. } => target.max(1.0),
            SignalKind::MeanUse { target, .. } => *target,
            SignalKind::PerReplica { pool, target } | SignalKind::ArrivalsPerReplica { pool, target } => {
                most(*pool) * target
            }
        }
}
