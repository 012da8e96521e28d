//! What would change a decision: the sizing, inverted.

use crate::backlog::{WAIT_SHARE, drain_seconds, starting_seconds};
use crate::decision::{Decision, PoolDecision, Thresholds};
use crate::observation::{Observations, PoolView};
use crate::policy::Policy;
use crate::sizing;
use crate::state::{PoolMemory, State};
use crate::units::Moment;

/// Fills in the thresholds of every pool.
pub(crate) fn fill(policy: &Policy, seen: &Observations, state: &State, decision: &mut Decision) {
    let nothing = PoolView::default();
    let at = decision.at;
    let born_at = state.born_at.unwrap_or(at);
    for (index, pool) in decision.pools.iter_mut().enumerate() {
        let (Some(limits), Some(memory)) = (policy.pools.get(index), state.pools.get(index)) else {
            continue;
        };
        let view = seen.pools.get(index).unwrap_or(&nothing);
        let server = pool.model.server();
        let scheduled = pool.floor.as_ref().map_or(0, |floor| floor.replicas);
        let fewest = limits.replicas_min.max(scheduled);
        let lower = pool.to.checked_sub(1).filter(|lower| *lower >= fewest);
        pool.thresholds = Some(Thresholds {
            up_above_rate: (pool.to < limits.replicas_max).then(|| sizing::rate_for_replicas(&server, pool.to)),
            up_above_queued: (pool.to < limits.replicas_max).then(|| queued(policy, pool, view, at)),
            down_to: lower,
            down_below_rate: lower.map(|lower| sizing::rate_for_replicas(&server, lower)),
            down_not_before: lower.and_then(|_| not_before(policy, pool, memory, born_at, at)),
        });
    }
}

/// Waiting requests from which on the backlog asks for more than is there.
fn queued(policy: &Policy, pool: &PoolDecision, view: &PoolView, at: Moment) -> f64 {
    let model = &pool.model;
    let drain = drain_seconds(model.slack_seconds, model.start_seconds_p50, policy);
    let horizon = model.start_seconds_p50 + drain;
    let rate = model.server().rate();
    let ready_rate = f64::from(pool.counts.ready) * rate;
    let worked_off = (ready_rate - model.lambda) * horizon + rate * starting_seconds(view, model, horizon, at);
    worked_off.max(WAIT_SHARE * model.slack_seconds * ready_rate)
}

fn not_before(
    policy: &Policy,
    pool: &PoolDecision,
    memory: &PoolMemory,
    born_at: Moment,
    at: Moment,
) -> Option<Moment> {
    let settled = memory.settled_at(&policy.tuning, pool.model.start_seconds_p50);
    let learned = born_at.plus_seconds(policy.tuning.relearn_seconds);
    [memory.levels.free_at(pool.to), settled, Some(learned)]
        .into_iter()
        .flatten()
        .filter(|moment| *moment > at)
        .max()
}
