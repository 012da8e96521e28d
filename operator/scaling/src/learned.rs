//! What is measured of a pool meanwhile: how long a request takes, and how long a replica takes to start.

use std::collections::{BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::observation::{Phase, Pod, ServiceTime};
use crate::policy::Pool;

/// Completions that the prior is worth.
const PRIOR_COMPLETIONS: f64 = 20.0;
/// Completions after which older ones count half at most.
const COMPLETIONS_MEMORY: f64 = 20_000.0;
/// Start times that are kept.
const STARTS_MAX: usize = 32;
/// Seconds after which a replica that is not ready is stuck while no start has been measured: Kubernetes' own patience with a rollout.
const STUCK_SECONDS_UNKNOWN: f64 = 600.0;
/// The least of these seconds once some have been measured: an image that has to be pulled first takes longer than one that is there.
const STUCK_SECONDS_MIN: f64 = 30.0;
/// Variability of service times until it has been measured: between constant (0) and exponential (1).
const SCV_PRIOR: f64 = 0.25;

/// Online estimate of the service time: a mean over completions that forgets slowly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceEstimate {
    weight: f64,
    mean_seconds: f64,
    scv: f64,
}

impl ServiceEstimate {
    /// Adds a measurement; one that cannot be true is left out.
    pub fn learn(&mut self, seen: &ServiceTime) {
        let is_sane = |value: f64| value.is_finite() && value >= 0.0;
        if seen.completions == 0 || !is_sane(seen.mean_seconds) || !is_sane(seen.scv) || seen.mean_seconds <= 0.0 {
            return;
        }
        let weight = (seen.completions as f64).min(COMPLETIONS_MEMORY);
        self.weight = (self.weight + weight).min(COMPLETIONS_MEMORY);
        let share = weight / self.weight;
        self.mean_seconds += share * (seen.mean_seconds - self.mean_seconds);
        self.scv += share * (seen.scv.min(100.0) - self.scv);
    }

    /// Mean seconds in a slot; the prior of the pool counts like some completions.
    pub fn mean_seconds(&self, pool: &Pool) -> f64 {
        let share = self.weight / (self.weight + PRIOR_COMPLETIONS);
        share * self.mean_seconds + (1.0 - share) * pool.service_seconds_prior
    }

    /// Squared coefficient of variation of the time in a slot.
    pub fn scv(&self) -> f64 {
        let share = self.weight / (self.weight + PRIOR_COMPLETIONS);
        share * self.scv + (1.0 - share) * SCV_PRIOR
    }
}

/// Seconds from creation to ready of the last replicas.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StartEstimate {
    seconds: VecDeque<f64>,
    counted: BTreeSet<u64>,
}

impl StartEstimate {
    /// Counts each pod once, when it is first seen ready.
    pub fn learn(&mut self, pods: &[Pod]) {
        self.counted.retain(|id| pods.iter().any(|pod| pod.id == *id));
        for pod in pods {
            let Some(ready_at) = pod.ready_at else { continue };
            if self.counted.insert(pod.id) {
                self.seconds.push_back(ready_at.seconds_since(pod.created_at));
                if self.seconds.len() > STARTS_MAX {
                    self.seconds.pop_front();
                }
            }
        }
    }

    /// Quantile of the start time in seconds, `0 <= share <= 1`. Until there are three measurements the prior stands in for the rest.
    pub fn quantile(&self, pool: &Pool, share: f64) -> f64 {
        let mut all: Vec<f64> = self.seconds.iter().copied().collect();
        while all.len() < 3 {
            all.push(pool.start_seconds_prior);
        }
        all.sort_by(f64::total_cmp);
        let last = all.len() - 1;
        let index = ((last as f64 * share).round().max(0.0) as usize).min(last);
        all.get(index).copied().unwrap_or(pool.start_seconds_prior)
    }

    /// Seconds from creation after which a replica that is not ready is stuck: twice what nine of ten need.
    pub fn stuck_after_seconds(&self, pool: &Pool) -> f64 {
        if self.seconds.is_empty() {
            return STUCK_SECONDS_UNKNOWN;
        }
        (2.0 * self.quantile(pool, 0.9)).max(STUCK_SECONDS_MIN)
    }
}

/// The pods of a pool, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Taking requests.
    pub ready: u32,
    /// On their way, and still within a credible time.
    pub starting: u32,
    /// On their way for longer than is credible: not counted as capacity.
    pub stuck: u32,
    /// No node has room.
    pub unschedulable: u32,
    /// Ending.
    pub terminating: u32,
    /// Failed.
    pub failed: u32,
}

impl Counts {
    /// Counts them; those that start for longer than `stuck_after_seconds` are stuck.
    pub fn of(pods: &[Pod], stuck_after_seconds: f64, now: crate::units::Moment) -> Self {
        let mut counts = Self::default();
        for pod in pods {
            let counter = match pod.phase {
                Phase::Ready => &mut counts.ready,
                Phase::Starting if now.seconds_since(pod.created_at) > stuck_after_seconds => &mut counts.stuck,
                Phase::Starting => &mut counts.starting,
                Phase::Unschedulable => &mut counts.unschedulable,
                Phase::Terminating => &mut counts.terminating,
                Phase::Failed => &mut counts.failed,
            };
            *counter += 1;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{draft, pod, seconds};

    #[test]
    fn the_prior_gives_way_to_what_is_measured() {
        let pool = &draft().pools[0];
        let mut estimate = ServiceEstimate::default();
        assert!((estimate.mean_seconds(pool) - pool.service_seconds_prior).abs() < 1e-9);
        for _ in 0..10 {
            estimate.learn(&ServiceTime {
                mean_seconds: 0.9,
                scv: 2.0,
                completions: 1000,
            });
        }
        assert!((estimate.mean_seconds(pool) - 0.9).abs() < 0.01);
        assert!((estimate.scv() - 2.0).abs() < 0.01);
        // What the servers do now counts more than what they did long ago.
        for _ in 0..100 {
            estimate.learn(&ServiceTime {
                mean_seconds: 0.3,
                scv: 0.5,
                completions: 1000,
            });
        }
        assert!((estimate.mean_seconds(pool) - 0.3).abs() < 0.02);
    }

    #[test]
    fn nonsense_is_not_learned() {
        let mut estimate = ServiceEstimate::default();
        for (mean_seconds, scv) in [
            (f64::NAN, 1.0),
            (-1.0, 1.0),
            (f64::INFINITY, 1.0),
            (1.0, f64::NAN),
            (0.0, 1.0),
        ] {
            estimate.learn(&ServiceTime {
                mean_seconds,
                scv,
                completions: 5,
            });
        }
        assert_eq!(estimate, ServiceEstimate::default());
    }

    #[test]
    fn start_times_are_counted_once_each() {
        let pool = &draft().pools[0];
        let mut estimate = StartEstimate::default();
        assert!((estimate.quantile(pool, 0.5) - pool.start_seconds_prior).abs() < 1e-9);
        let pods: Vec<Pod> = (0..10_u64).map(|id| pod(id, 100, Some(100 + id))).collect();
        estimate.learn(&pods);
        estimate.learn(&pods);
        assert!((estimate.quantile(pool, 0.0) - 0.0).abs() < 1e-9);
        assert!((estimate.quantile(pool, 1.0) - 9.0).abs() < 1e-9);
        assert_eq!(estimate.seconds.len(), 10);
    }

    #[test]
    fn a_pod_that_takes_too_long_is_stuck() {
        let pods = [pod(1, 0, Some(5)), pod(2, 50, None), pod(3, 0, None)];
        let counts = Counts::of(&pods, 40.0, seconds(60));
        assert_eq!((counts.ready, counts.starting, counts.stuck), (1, 1, 1));
    }

    #[test]
    fn how_long_is_too_long_is_measured_and_generous_until_it_is() {
        let pool = &draft().pools[0];
        let mut estimate = StartEstimate::default();
        assert!((estimate.stuck_after_seconds(pool) - STUCK_SECONDS_UNKNOWN).abs() < 1e-9);
        estimate.learn(&[pod(1, 100, Some(190))]);
        assert!((estimate.stuck_after_seconds(pool) - 180.0).abs() < 1e-9);
        let mut quick = StartEstimate::default();
        quick.learn(&[1, 2, 3].map(|id| pod(id, 100, Some(101))));
        assert!((quick.stuck_after_seconds(pool) - STUCK_SECONDS_MIN).abs() < 1e-9);
    }
}
