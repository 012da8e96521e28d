//! The decision: what is known, what each signal asks for, what the stages make of it. Pure: everything it depends on is an argument.

use crate::backlog;
use crate::budget::Arrivals;
use crate::decision::{Decision, Model, PoolDecision, Proposal, Reason, SignalState};
use crate::demand::{self, Demand};
use crate::learned::Counts;
use crate::observation::{Observations, PoolView};
use crate::policy::{Balancing, Policy, Pool, SignalKind};
use crate::pools::{self, Capacity};
use crate::sizing::{self, Server};
use crate::stages::{self, Facts};
use crate::state::{PoolMemory, State};
use crate::thresholds;
use crate::units::{self, Moment};

/// Seconds between two decisions at most.
const LOOK_AGAIN_SECONDS: f64 = 5.0;
/// Relative difference of a guard from its target that is no reason to act, as the HorizontalPodAutoscaler's: a tenth itself, whatever floats make of it,
/// is within it.
const GUARD_TOLERANCE: f64 = 0.1 + 1e-9;

/// Decides, and says what would change the decision.
pub fn decide(policy: &Policy, seen: &Observations, state: State, now: Moment) -> (Decision, State) {
    let (mut decision, state) = step(policy, seen, state, now);
    thresholds::fill(policy, seen, &state, &mut decision);
    (decision, state)
}

/// Decides, without the thresholds: they cost more than the decision, and a simulation reads none.
pub fn step(promised: &Policy, seen: &Observations, mut state: State, now: Moment) -> (Decision, State) {
    state.fit(promised);
    let spending = state.budget.spend(promised);
    let policy = spending.as_ref();
    let born_at = *state.born_at.get_or_insert(now);
    let nothing = PoolView::default();
    let views: Vec<&PoolView> = seen
        .pools
        .iter()
        .chain(std::iter::repeat(&nothing))
        .take(policy.pools.len())
        .collect();
    for ((pool, view), memory) in policy.pools.iter().zip(&views).zip(&mut state.pools) {
        look(pool, view, memory, now);
    }
    let demand = demand::demand(policy, seen, &mut state, now);
    state.blind_since = demand.is_blind.then(|| state.blind_since.unwrap_or(now));

    let counts: Vec<Counts> = policy
        .pools
        .iter()
        .zip(&views)
        .zip(&state.pools)
        .map(|((pool, view), memory)| Counts::of(&view.pods, memory.starts.stuck_after_seconds(pool), now))
        .collect();
    let mut models: Vec<Model> = policy
        .pools
        .iter()
        .zip(&state.pools)
        .map(|(pool, memory)| model(policy, pool, memory, demand.scv))
        .collect();
    let capacities: Vec<Capacity> = policy
        .pools
        .iter()
        .zip(&models)
        .zip(&counts)
        .enumerate()
        .map(|(index, ((pool, model), counts))| capacity(pool, model.server(), counts, floor(seen, index)))
        .collect();
    let shares = pools::allocate_rate(&capacities, demand.lambda);
    for (model, (lambda, _)) in models.iter_mut().zip(&shares) {
        model.lambda = *lambda;
    }
    let backlog = backlog::replicas(policy, &capacities, &models, &views, &demand, now);
    let arrivals = arrivals(promised, &demand, &capacities, &models);
    state.budget.learn(arrivals, &promised.tuning, now);

    let mut decided = Vec::with_capacity(policy.pools.len());
    for (index, pool) in policy.pools.iter().enumerate() {
        let (Some(view), Some(counts), Some(model), Some(memory)) = (
            views.get(index),
            counts.get(index),
            models.get(index),
            state.pools.get_mut(index),
        ) else {
            continue;
        };
        let proposals = propose(
            policy,
            seen,
            &demand,
            &capacities,
            index,
            backlog.get(index).copied().unwrap_or(0),
        );
        let wanted = most(&proposals);
        let mut wanted_with_room = wanted;
        if counts.unschedulable > 0 {
            let mut capacities = capacities.clone();
            if let Some(own) = capacities.get_mut(index) {
                own.replicas_most = pool.replicas_max;
            }
            let backlog = backlog::replicas(policy, &capacities, &models, &views, &demand, now);
            let backlog = backlog.get(index).copied().unwrap_or(0);
            wanted_with_room = most(&propose(policy, seen, &demand, &capacities, index, backlog));
        }
        // While something is unknown, what is there counts as needed: an outage is no experience.
        let needed = if demand.is_full {
            wanted
        } else {
            wanted.max(view.replicas)
        };
        memory.levels.need(needed.min(pool.replicas_max), now, &policy.tuning);
        memory.levels.learn(model.start_seconds_p50, &policy.tuning, now);
        let facts = Facts {
            policy,
            pool,
            memory,
            counts: *counts,
            from: view.replicas,
            floor: floor(seen, index),
            wanted_with_room,
            is_full: demand.is_full,
            blind_seconds: state.blind_since.map(|since| now.seconds_since(since)),
            age_seconds: now.seconds_since(born_at),
            outage_until: state.outage_until,
            busy: busy(view, pool),
            start_seconds: model.start_seconds_p50,
            now,
        };
        let run = stages::run(wanted, &facts);
        let wants_less = wanted < view.replicas;
        memory.small_since = wants_less.then(|| memory.small_since.unwrap_or(now));
        let winner = proposals
            .iter()
            .find(|proposal| proposal.replicas == wanted)
            .map(|proposal| proposal.reason);
        let reason = match run.steps.last() {
            Some(step) => step.reason,
            None if run.replicas == 0 => Reason::ScaledToZero,
            None => winner.unwrap_or(Reason::FailStatic),
        };
        decided.push(PoolDecision {
            name: pool.name.clone(),
            from: view.replicas,
            to: run.replicas,
            reason,
            proposals,
            steps: run.steps,
            hold: run.hold,
            floor: seen.floors.get(index).cloned().flatten(),
            counts: *counts,
            model: *model,
            thresholds: None,
        });
    }
    let signals = policy
        .signals
        .iter()
        .zip(&demand.trust)
        .map(|(signal, trust)| SignalState {
            name: signal.name.clone(),
            trust: *trust,
        })
        .collect();
    let decision = Decision {
        at: now,
        pools: decided,
        signals,
        lambda: demand.lambda,
        queued: demand.queued,
        look_again_at: now.plus_seconds(LOOK_AGAIN_SECONDS),
    };
    (decision, state)
}

/// Notes what happened to a pool since the last look, by whomever.
fn look(pool: &Pool, view: &PoolView, memory: &mut PoolMemory, now: Moment) {
    if let Some(service) = &view.service {
        memory.service.learn(service);
    }
    memory.starts.learn(&view.pods);
    if let Some(before) = memory.replicas.replace(view.replicas) {
        memory.changes.note(before, view.replicas, now);
        if view.replicas > before {
            memory.grown_at = Some(now);
        }
    } else if view.replicas > pool.replicas_min {
        // The first look: what is there may have been made a moment ago.
        memory.grown_at = Some(now);
    }
}

/// What comes now, and how much of it will be late; `None` where that is not known.
fn arrivals(policy: &Policy, demand: &Demand, capacities: &[Capacity], models: &[Model]) -> Option<Arrivals> {
    let known = |is_of_kind: fn(&SignalKind) -> bool| {
        let of_kind = policy.signals.iter().zip(&demand.trust);
        let values = of_kind.filter_map(|(signal, trust)| is_of_kind(&signal.kind).then(|| trust.for_learning())?);
        values.reduce(f64::max)
    };
    let rate = known(|kind| *kind == SignalKind::ArrivalRate)?;
    known(|kind| *kind == SignalKind::Queued)?;
    let strictest = models
        .iter()
        .min_by(|one, other| one.slack_seconds.total_cmp(&other.slack_seconds))?;
    let server = Model {
        late_share: policy.objective.late_share,
        ..*strictest
    }
    .server();
    let wait_seconds = if demand.queued > 0.0 {
        demand.queued / pools::ready_rate(capacities)
    } else {
        0.0
    };
    let mut late = server.late_share_after(wait_seconds);
    if policy.balancing == Balancing::Random {
        // Each replica has a queue of its own: all of them together do not say how long the longest is.
        let expected: f64 = capacities
            .iter()
            .zip(models)
            .map(|(pool, model)| sizing::late_share(&pool.server, model.lambda, pool.ready))
            .fold(0.0, f64::max);
        late = late.max(expected);
    }
    Some(Arrivals {
        rate,
        late: late / server.allowed_share(),
    })
}

fn model(policy: &Policy, pool: &Pool, memory: &PoolMemory, arrival_scv: f64) -> Model {
    let service_seconds = memory.service.mean_seconds(pool);
    let service_scv = memory.service.scv();
    let objective = &policy.objective;
    Model {
        service_seconds,
        slots: pool.slots,
        service_scv,
        arrival_scv,
        latency_seconds: objective.latency_seconds,
        slack_seconds: sizing::slack_seconds(objective.latency_seconds, service_seconds),
        late_share: objective.late_share,
        balancing: policy.balancing,
        start_seconds_p50: memory.starts.quantile(pool, 0.5),
        start_seconds_p90: memory.starts.quantile(pool, 0.9),
        stuck_after_seconds: memory.starts.stuck_after_seconds(pool),
        lambda: 0.0,
    }
}

/// Fewest replicas of a pool by a schedule; 0 without one.
fn floor(seen: &Observations, index: usize) -> u32 {
    let floor = seen.floors.get(index).and_then(Option::as_ref);
    floor.map_or(0, |floor| floor.replicas)
}

fn capacity(pool: &Pool, server: Server, counts: &Counts, floor: u32) -> Capacity {
    let replicas_most = if counts.unschedulable > 0 {
        // No node has room: nothing more will come than what is there.
        (counts.ready + counts.starting).min(pool.replicas_max)
    } else {
        pool.replicas_max
    };
    Capacity {
        // What is there anyway carries first.
        replicas_min: pool.replicas_min.max(floor.min(pool.replicas_max)),
        replicas_most,
        ready: counts.ready,
        starting: counts.starting,
        ..Capacity::of(pool, server)
    }
}

/// The largest of the proposals; 0 without one.
fn most(proposals: &[Proposal]) -> u32 {
    proposals.iter().map(|proposal| proposal.replicas).max().unwrap_or(0)
}

/// Replicas that have requests in them, as far as is known.
fn busy(view: &PoolView, pool: &Pool) -> u32 {
    let requests: f64 = view.pods.iter().filter_map(|pod| pod.in_flight).map(f64::from).sum();
    units::replicas(requests / f64::from(pool.slots))
}

/// What each signal asks of the pool `index`.
fn propose(
    policy: &Policy,
    seen: &Observations,
    demand: &Demand,
    capacities: &[Capacity],
    index: usize,
    backlog: u32,
) -> Vec<Proposal> {
    let mut proposals = Vec::new();
    let Some(own) = capacities.get(index) else {
        return proposals;
    };
    let mut add = |signal: &str, reason, value, replicas| {
        proposals.push(Proposal {
            signal: signal.to_owned(),
            reason,
            value,
            replicas,
        });
    };
    for (position, signal) in policy.signals.iter().enumerate() {
        let Some(value) = demand.trust.get(position).and_then(|trust| trust.for_growth()) else {
            continue;
        };
        let name = &signal.name;
        match signal.kind {
            SignalKind::ArrivalRate => {
                let lambda = demand.rates.get(position).copied().flatten().unwrap_or(value);
                let replicas = pools::allocate_rate(capacities, lambda)
                    .get(index)
                    .map_or(0, |(_, n)| *n);
                add(name, Reason::RateSizing, lambda, replicas);
            }
            SignalKind::Queued => add(name, Reason::QueueDrain, value, backlog),
            SignalKind::InFlight { utilization } => {
                let slots = capacities
                    .iter()
                    .map(|pool| f64::from(pool.server.slots * pool.ready.max(1)))
                    .sum::<f64>();
                let part = f64::from(own.server.slots * own.ready.max(1)) / slots;
                let replicas = (value + demand.queued) * part / (f64::from(own.server.slots) * utilization);
                add(name, Reason::Concurrency, value, units::replicas(replicas));
            }
            SignalKind::Utilization { pool, target } | SignalKind::MeanUse { pool, target } if pool == index => {
                let ratio = value / target;
                let replicas = if (ratio - 1.0).abs() <= GUARD_TOLERANCE {
                    own.ready
                } else {
                    units::replicas(f64::from(own.ready) * ratio)
                };
                let is_share = matches!(signal.kind, SignalKind::Utilization { .. });
                let reason = if is_share {
                    Reason::UtilizationGuard
                } else {
                    Reason::PerReplica
                };
                add(name, reason, value, replicas);
            }
            SignalKind::PerReplica { pool, target } if pool == index => {
                add(name, Reason::PerReplica, value, units::replicas(value / target));
            }
            SignalKind::ArrivalsPerReplica { pool, target } if pool == index => {
                let rate = demand.shared_rates.get(position).copied().flatten().unwrap_or(value);
                add(name, Reason::PerReplica, rate, units::replicas(rate / target));
            }
            SignalKind::Utilization { .. }
            | SignalKind::MeanUse { .. }
            | SignalKind::PerReplica { .. }
            | SignalKind::ArrivalsPerReplica { .. } => {}
        }
    }
    if let Some(replicas) = seen.forecast.get(index).filter(|replicas| **replicas > 0) {
        add("forecast", Reason::ForecastFloor, f64::from(*replicas), *replicas);
    }
    let nothing_is_there = capacities.iter().all(|pool| pool.ready + pool.starting == 0);
    if nothing_is_there && demand.queued > 0.0 && pools::first(capacities) == Some(index) {
        add("held", Reason::Waking, demand.queued, 1);
    }
    proposals
}
