//! What waits: when it counts, how fast it shall be gone, and the replicas that it asks for.

use crate::decision::Model;
use crate::demand::Demand;
use crate::observation::{Phase, PoolView};
use crate::policy::Policy;
use crate::pools::{self, Capacity};
use crate::units::Moment;

/// Least time to work off a backlog, in seconds.
const DRAIN_SECONDS_MIN: f64 = 2.0;
/// Share of the slack that waiting may take before it is a backlog: queueing inside the slack is capacity for free. What is left of it is what longer
/// requests than the mean have less of.
pub(crate) const WAIT_SHARE: f64 = 0.65;
/// Share of the slack in which a backlog shall be gone.
const DRAIN_SHARE: f64 = 0.75;

/// Seconds in which a backlog shall be gone once what comes for it has started.
pub(crate) fn drain_seconds(slack_seconds: f64, start_seconds: f64, policy: &Policy) -> f64 {
    (slack_seconds * DRAIN_SHARE)
        .max(policy.tuning.drain_starts * start_seconds)
        .max(DRAIN_SECONDS_MIN)
}

/// Replicas per pool that the backlog asks for; none while the wait is inside the slack.
pub(crate) fn replicas(
    policy: &Policy,
    capacities: &[Capacity],
    models: &[Model],
    views: &[&PoolView],
    demand: &Demand,
    now: Moment,
) -> Vec<u32> {
    let slack = models
        .iter()
        .map(|model| model.slack_seconds)
        .fold(f64::INFINITY, f64::min);
    let ready_rate = pools::ready_rate(capacities);
    if demand.queued <= 0.0 || demand.queued <= WAIT_SHARE * slack * ready_rate {
        return vec![0; capacities.len()];
    }
    // Arrivals that are not known are not none: what waits beyond the slack says that what is ready is busy.
    let lambda = if demand.rates.iter().any(Option::is_some) {
        demand.lambda
    } else {
        ready_rate
    };
    let start_seconds = models.iter().map(|model| model.start_seconds_p50).fold(0.0, f64::max);
    let drain_seconds = drain_seconds(slack, start_seconds, policy);
    let starting_seconds: Vec<f64> = views
        .iter()
        .zip(models)
        .map(|(view, model)| starting_seconds(view, model, start_seconds + drain_seconds, now))
        .collect();
    pools::allocate_backlog(
        capacities,
        demand.queued,
        lambda,
        start_seconds,
        drain_seconds,
        &starting_seconds,
    )
}

/// Sum over the replicas on their way of the seconds that they will serve within `horizon`.
pub(crate) fn starting_seconds(view: &PoolView, model: &Model, horizon: f64, now: Moment) -> f64 {
    view.pods
        .iter()
        .filter(|pod| pod.phase == Phase::Starting)
        .map(|pod| now.seconds_since(pod.created_at))
        // What is stuck will not serve.
        .filter(|age| *age <= model.stuck_after_seconds)
        .map(|age| (horizon - (model.start_seconds_p50 - age).max(0.0)).max(0.0))
        .sum()
}
