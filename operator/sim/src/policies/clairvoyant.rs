//! Who knows every arrival in advance, though not the service times: the yardstick for all others.
//!
//! A plan follows the offered load, averaged over a window that the objective's slack allows, with a margin in its square root. A level of pods is kept
//! over a gap that is not longer than a start, and otherwise made anew a start before it is needed. Windows, leads and margins are swept, every plan is
//! simulated, and the cheapest that keeps the objective wins. It is the best that was found, not proven to be the best there is.

use crate::arrivals::Workload;
use crate::error::{Error, Result};
use crate::plant::DeletionOrder;
use crate::policy::{Decision, Policy, View};
use crate::run::{self, Unwatched};
use crate::scenario::{Scenario, ServiceTimes};
use crate::score::Score;
use crate::settings::Settings;
use crate::time::{Nanos, SECOND, to_seconds};

/// Starts are planned to take as long as this share of them does at most.
const START_QUANTILES: [f64; 2] = [0.5, 0.9];
/// Windows of the average, as multiples of the slack.
const WINDOWS: [f64; 5] = [0.25, 1.0, 4.0, 16.0, 64.0];
/// Between these the margin is searched, in standard deviations of a Poisson load; below zero some requests are meant to be late.
const MARGIN_RANGE: (f64, f64) = (-2.0, 8.0);
/// Halvings of that range.
const MARGIN_STEPS: u32 = 7;

#[derive(Debug, Clone)]
pub struct Clairvoyant {
    /// Replicas by second.
    plan: Vec<u32>,
    slots: u32,
    reason: String,
}

impl Clairvoyant {
    pub fn new(settings: &mut Settings, scenario: &Scenario, workload: &Workload) -> Result<Self> {
        let window = settings.take_number("k", 0.0, 0.0, 1_000.0)?;
        let margin = settings.take_number("beta", 0.0, -10.0, 100.0)?;
        let lead = settings.take_number("lead", 0.9, 0.0, 1.0)?;
        let planner = Planner::new(scenario, workload);
        if window > 0.0 {
            return Ok(planner.policy(window, lead, margin));
        }
        let mut best: Option<(bool, f64, Self)> = None;
        let sweep = WINDOWS
            .iter()
            .flat_map(|window| START_QUANTILES.map(|lead| (*window, lead)));
        for (window, lead) in sweep {
            let (mut low, mut high) = MARGIN_RANGE;
            for _ in 0..MARGIN_STEPS {
                let margin = f64::midpoint(low, high);
                let mut policy = planner.policy(window, lead, margin);
                let score = planner.score(&mut policy)?;
                let keeps = score.violations <= scenario.epsilon;
                if keeps {
                    high = margin;
                } else {
                    low = margin;
                }
                // Where none keeps the objective, the one that comes nearest.
                let rank = if keeps { score.pod_seconds } else { score.violations };
                let better = best
                    .as_ref()
                    .is_none_or(|(kept, other, _)| (keeps && !kept) || (keeps == *kept && rank < *other));
                if better {
                    best = Some((keeps, rank, policy));
                }
            }
        }
        best.map(|(_, _, policy)| policy)
            .ok_or_else(|| Error::option("--policy clairvoyant", "no plan was tried"))
    }
}

impl Policy for Clairvoyant {
    fn period(&self) -> Nanos {
        SECOND
    }

    fn decide(&mut self, view: &View<'_>) -> Decision {
        let second = (view.now() / SECOND) as usize;
        let planned = self.plan.get(second).or(self.plan.last()).copied().unwrap_or(0);
        // A start that takes longer than planned is waited for while somebody waits.
        let held = view.held().div_ceil(u64::from(self.slots)) as u32;
        Decision::new(planned.max(held.min(view.desired())), self.reason.clone())
    }

    /// The plan is written down.
    fn restart(&mut self, _view: &View<'_>) {}

    fn deletion_order(&self) -> DeletionOrder {
        DeletionOrder::ReadyFirst
    }
}

struct Planner<'a> {
    scenario: &'a Scenario,
    workload: &'a Workload,
    per_second: Vec<u32>,
    /// What a lane works for one request, in seconds.
    work: f64,
    /// What the objective leaves for waiting, in seconds.
    slack: f64,
}

impl<'a> Planner<'a> {
    fn new(scenario: &'a Scenario, workload: &'a Workload) -> Self {
        let slowest = ServiceTimes::new(scenario).quantile(1.0 - scenario.epsilon);
        // With less slack than a tenth of the objective, that tenth: some window must be.
        let slack = scenario.slo.saturating_sub(slowest).max(scenario.slo / 10);
        Self {
            scenario,
            workload,
            per_second: workload.per_second(scenario.seed),
            work: to_seconds(scenario.work(scenario.service_mean)),
            slack: to_seconds(slack),
        }
    }

    fn policy(&self, window: f64, lead: f64, margin: f64) -> Clairvoyant {
        let mut plan = self.need(window, margin);
        let start = to_seconds(self.scenario.start.quantile(lead)).ceil() as usize;
        keep_over_gaps(&mut plan, start, self.scenario.max_replicas);
        Clairvoyant {
            plan,
            slots: self.scenario.service.slots(),
            reason: format!("plan k={window} lead={lead} beta={margin:.3}"),
        }
    }

    fn score(&self, policy: &mut Clairvoyant) -> Result<Score> {
        run::run(self.scenario, self.workload, policy, &mut Unwatched)
            .ok_or_else(|| Error::option("--slo-ms", "no histogram of latencies can be made"))
    }

    /// Replicas that the load of each second needs: `ceil((a + margin * sqrt(a)) / lanes)`, `a` the mean of the offered lanes over the window before it.
    fn need(&self, window: f64, margin: f64) -> Vec<u32> {
        let window = ((window * self.slack).round() as usize).max(1);
        let lanes = f64::from(self.scenario.lanes());
        let least = self.scenario.min_replicas.unwrap_or(0);
        let mut sum = 0_u64;
        let mut need = Vec::with_capacity(self.per_second.len());
        for (second, count) in self.per_second.iter().enumerate() {
            sum += u64::from(*count);
            if second >= window {
                sum -= u64::from(self.per_second[second - window]);
            }
            let offered = sum as f64 / window as f64 * self.work;
            let replicas = ((offered + margin * offered.sqrt()) / lanes).ceil() as u32;
            // Somebody has to serve the last one.
            let least = least.max(u32::from(sum > 0));
            need.push(replicas.max(least).min(self.scenario.max_replicas));
        }
        need
    }
}

/// Each level is kept over gaps that are not longer than a start, and raised a start before it is needed again.
fn keep_over_gaps(plan: &mut [u32], start: usize, max: u32) {
    // `next_need[k]`: when level k+1 is needed next, going backwards.
    let mut next_need = vec![usize::MAX; max as usize];
    for second in (0..plan.len()).rev() {
        let needed = plan[second] as usize;
        next_need[..needed].fill(second);
        // Levels above `needed` that are wanted within a start: kept if they were there before, begun if not. Both mean that they exist now.
        let soon = next_need.partition_point(|at| *at <= second.saturating_add(start));
        plan[second] = soon as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_shorter_than_a_start_are_bridged_and_longer_ones_end_a_start_early() {
        let mut plan = vec![0, 2, 0, 0, 2, 1, 1, 1, 1, 1, 1, 3, 0];
        keep_over_gaps(&mut plan, 3, 5);
        assert_eq!(plan, [2, 2, 2, 2, 2, 1, 1, 1, 3, 3, 3, 3, 0]);
    }
}
