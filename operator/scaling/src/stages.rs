//! From what is wanted to what is done: each stage takes a number and gives a number, and says so if it changed it.

use crate::decision::{Hold, Reason, Step};
use crate::learned::Counts;
use crate::policy::{Policy, Pool};
use crate::state::PoolMemory;
use crate::units::Moment;

/// Share by which replicas that do not come are made up for, at most.
const STUCK_SHARE: f64 = 0.25;

/// Seconds without any signal after which the recent peak is made ready for: a restart of Prometheus is shorter.
const RECALL_AFTER_SECONDS: f64 = 30.0;
/// How far back a peak is recent, in seconds.
const RECALL_SECONDS: f64 = 3600.0;

/// What the stages look at.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub policy: &'a Policy,
    pub pool: &'a Pool,
    pub memory: &'a PoolMemory,
    pub counts: Counts,
    /// `spec.replicas`.
    pub from: u32,
    /// Fewest replicas by a schedule; 0 without one.
    pub floor: u32,
    /// What would be wanted if its own pods that wait for a node could have one.
    pub wanted_with_room: u32,
    /// Every signal is fresh.
    pub is_full: bool,
    /// Seconds without any signal, if so.
    pub blind_seconds: Option<f64>,
    /// Seconds since the first decision.
    pub age_seconds: f64,
    /// Requests failed while the load fell, until then.
    pub outage_until: Option<Moment>,
    /// Replicas that have requests in them.
    pub busy: u32,
    /// Seconds in which half of the replicas start.
    pub start_seconds: f64,
    pub now: Moment,
}

/// The number on its way.
#[derive(Debug)]
pub(crate) struct Run {
    pub replicas: u32,
    pub steps: Vec<Step>,
    pub hold: Option<Hold>,
}

impl Run {
    fn set(&mut self, reason: Reason, replicas: u32) {
        if replicas != self.replicas {
            self.steps.push(Step {
                reason,
                before: self.replicas,
                after: replicas,
            });
            self.replicas = replicas;
        }
    }

    fn at_least(&mut self, reason: Reason, replicas: u32) {
        self.set(reason, self.replicas.max(replicas));
    }

    /// Keeps what there is.
    fn hold(&mut self, reason: Reason, from: u32, until: Option<Moment>) {
        if self.replicas < from {
            self.set(reason, from);
            self.hold = Some(Hold { reason, until });
        }
    }
}

/// All stages in order. The winner of the proposals comes in, `spec.replicas` goes out.
pub(crate) fn run(wanted: u32, facts: &Facts<'_>) -> Run {
    let mut run = Run {
        replicas: wanted,
        steps: Vec::new(),
        hold: None,
    };
    keep(&mut run, facts);
    make_up_for_stuck(&mut run, facts);
    run.at_least(Reason::MinReplicas, facts.pool.replicas_min);
    run.at_least(Reason::Schedule, facts.floor);
    run.set(Reason::MaxReplicas, run.replicas.min(facts.pool.replicas_max));
    dare_to_shrink(&mut run, facts);
    recall(&mut run, facts);
    limit_speed(&mut run, facts);
    fall_back(&mut run, facts);
    // Whatever held it: the bounds are the user's.
    let floor = facts.floor.min(facts.pool.replicas_max);
    let fewest = facts.pool.replicas_min.max(floor);
    let bounded = run.replicas.clamp(fewest, facts.pool.replicas_max);
    let bound = if bounded < run.replicas {
        Reason::MaxReplicas
    } else if floor > facts.pool.replicas_min {
        Reason::Schedule
    } else {
        Reason::MinReplicas
    };
    run.set(bound, bounded);
    run
}

fn keep(run: &mut Run, facts: &Facts<'_>) {
    if !facts.is_full {
        // Everything is kept then, for a better reason.
        return;
    }
    if let Some(kept) = facts.memory.levels.kept(run.replicas, facts.now) {
        // Kept is what is there; a level that was never reached is not built for the sake of keeping it.
        let replicas = kept.replicas.min(facts.from);
        if replicas > run.replicas {
            run.set(Reason::KeepAlive, replicas);
            run.hold = Some(Hold {
                reason: Reason::KeepAlive,
                until: Some(kept.until),
            });
        }
    }
}

/// Replicas that take too long do not count: others are asked for in their place, but not many.
fn make_up_for_stuck(run: &mut Run, facts: &Facts<'_>) {
    let most = (f64::from(run.replicas) * STUCK_SHARE).ceil() as u32;
    run.set(
        Reason::ReplicasStuck,
        run.replicas.saturating_add(facts.counts.stuck.min(most)),
    );
}

/// Every guard that keeps what there is. The first that holds is the reason.
fn dare_to_shrink(run: &mut Run, facts: &Facts<'_>) {
    let (from, now, tuning) = (facts.from, facts.now, &facts.policy.tuning);
    if run.replicas >= from {
        return;
    }
    if !facts.is_full {
        return run.hold(Reason::FailStatic, from, None);
    }
    if facts.age_seconds < tuning.relearn_seconds {
        let until = now.plus_seconds(tuning.relearn_seconds - facts.age_seconds);
        return run.hold(Reason::WarmingUp, from, Some(until));
    }
    if let Some(until) = facts.outage_until.filter(|until| now < *until) {
        return run.hold(Reason::HoldAfterOutage, from, Some(until));
    }
    if facts.counts.starting > 0 {
        return run.hold(Reason::Starting, from, None);
    }
    if let Some(until) = facts
        .memory
        .settled_at(tuning, facts.start_seconds)
        .filter(|until| now < *until)
    {
        return run.hold(Reason::Settling, from, Some(until));
    }
    // It is asked for less because its pods wait for a node. Without them it would be asked for them again, and so on in turns; and who adds nodes adds
    // none for pods that are not there.
    let awaited = facts.wanted_with_room.min(from);
    if run.replicas < awaited {
        run.hold(Reason::Unschedulable, awaited, None);
    }
    run.at_least(Reason::InFlight, facts.busy.min(from));
    if f64::from(from - run.replicas) < (f64::from(from) * tuning.deadband_share).ceil()
        && facts
            .memory
            .small_since
            .is_none_or(|since| now.seconds_since(since) < 2.0 * tuning.keep_seconds_prior)
    {
        run.hold(Reason::Deadband, from, None);
    }
}

/// Nobody sees the load, which may be rising: the most that it has asked for lately is made ready for.
fn recall(run: &mut Run, facts: &Facts<'_>) {
    if facts
        .blind_seconds
        .is_some_and(|seconds| seconds >= RECALL_AFTER_SECONDS)
    {
        let peak = facts.memory.levels.needed_within(RECALL_SECONDS, facts.now);
        run.at_least(Reason::RecentPeak, peak);
    }
}

fn limit_speed(run: &mut Run, facts: &Facts<'_>) {
    let (changes, policy) = (&facts.memory.changes, facts.policy);
    let most = changes.most(facts.from, &policy.up_limits, facts.now);
    let fewest = changes.fewest(facts.from, &policy.down_limits, facts.now);
    run.set(Reason::RateLimited, run.replicas.clamp(fewest, most));
}

fn fall_back(run: &mut Run, facts: &Facts<'_>) {
    let fallback = &facts.policy.fallback;
    if facts
        .blind_seconds
        .is_some_and(|seconds| seconds >= fallback.after_seconds)
    {
        run.at_least(Reason::Fallback, fallback.replicas);
    }
}
