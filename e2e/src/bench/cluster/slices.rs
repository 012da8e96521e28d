//! Slices on the cluster and in the simulator: the same arrivals, and a world with the figures that were measured on the cluster.
use anyhow::{Context as _, Result};
use serde::Serialize;

use super::capacity::Capacity;
use super::ground::{Ground, Scaler, slow};
use super::lives::starts;
use super::replayed::{self, Part, Replayed, warm_up};
use super::score::{Score, off_percent, quantile};
use super::simulator::{Simulated, Simulator, Slice};
use crate::console::progress;
use crate::namespace::TestNamespace;

/// So many are replayed, at the same time.
const SLICES: usize = 3;

/// One slice, here and there.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Compared {
    pub(super) slice: Slice,
    pub(super) cluster: Score,
    /// One per seed: service and start times are drawn anew, arrivals are not.
    pub(super) simulated: Vec<Simulated>,
}

impl Compared {
    /// Mean, least and most of the simulated runs.
    pub(super) fn simulated(&self, value: impl Fn(&Simulated) -> f64) -> (f64, f64, f64) {
        let all: Vec<f64> = self.simulated.iter().map(value).collect();
        let mean = all.iter().sum::<f64>() / all.len().max(1) as f64;
        let (least, most) = (f64::INFINITY, 0.0);
        (
            mean,
            all.iter().copied().fold(least, f64::min),
            all.into_iter().fold(most, f64::max),
        )
    }

    /// By how much the cluster is off the mean of the simulated runs, in percent.
    pub(super) fn pod_seconds_off(&self) -> Option<f64> {
        off_percent(self.cluster.pod_seconds, self.simulated(|run| run.pod_seconds).0)
    }

    pub(super) fn violations_off(&self) -> Option<f64> {
        off_percent(self.cluster.violations, self.simulated(|run| run.violations).0)
    }
}

/// All of them.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Comparison {
    pub(super) compared: Vec<Compared>,
    pub(super) replayed: Replayed,
    /// From the creation of a pod to ready, as seen while the slices were replayed.
    pub(super) starts_seconds: Vec<f64>,
    pub(super) start_median_seconds: f64,
}

pub(super) async fn run(
    ground: &Ground,
    namespace: &TestNamespace,
    slices: &[Slice],
    capacity: &Capacity,
    simulator: &Simulator,
) -> Result<Comparison> {
    let slices: Vec<&Slice> = slices.iter().take(SLICES).collect();
    ground.publish(namespace).await?;
    let mut parts = Vec::new();
    for (index, slice) in slices.iter().enumerate() {
        let name = format!("slice-{}", index + 1);
        progress(format_args!("{name}: {}", slice.about()));
        parts.push(Part {
            service: slow(namespace, &name, Some(Scaler::Direct(capacity))),
            slice: &slice.fitted,
        });
    }
    let replayed = replayed::run(namespace, &parts, capacity, &[]).await?;
    let starts_seconds = starts(&replayed.lives);
    let start_median_seconds = quantile(&starts_seconds, 0.5).context("no pod was started: the load was too small")?;
    let mut compared = Vec::new();
    for (slice, course) in slices.into_iter().zip(&replayed.courses) {
        let figures = (warm_up(&slice.fitted), start_median_seconds);
        let one = Compared {
            slice: slice.clone(),
            cluster: course.score,
            simulated: simulator.play(&slice.fitted, figures, capacity).await?,
        };
        progress(format_args!(
            "{}: {:.0} pod-seconds, {:.2} % late or failed; simulated {:.0} and {:.2} %",
            course.service,
            one.cluster.pod_seconds,
            one.cluster.violations * 100.0,
            one.simulated(|run| run.pod_seconds).0,
            one.simulated(|run| run.violations).0 * 100.0
        ));
        compared.push(one);
    }
    Ok(Comparison {
        compared,
        replayed,
        starts_seconds,
        start_median_seconds,
    })
}

#[cfg(test)]
mod tests {
    use super::super::fit::fit;
    use super::*;

    #[test]
    fn the_cluster_is_held_against_the_mean_of_the_simulated_runs() {
        let simulated = |pod_seconds: f64, violations: f64| Simulated {
            requests: 10,
            violations,
            pod_seconds,
            actions: 1,
            reversals: 0,
            p50_ms: 1.0,
            p99_ms: 2.0,
        };
        let compared = Compared {
            slice: Slice {
                name: "x".to_owned(),
                dispersion: 1.0,
                fitted: fit(&[0], 60.0, 60.0, (1.0, 1.0), 1),
            },
            cluster: Score {
                pod_seconds: 1050.0,
                violations: 0.02,
                ..Score::default()
            },
            simulated: vec![simulated(900.0, 0.0), simulated(1100.0, 0.08)],
        };
        assert_eq!(compared.simulated(|run| run.pod_seconds), (1000.0, 900.0, 1100.0));
        assert!((compared.pod_seconds_off().unwrap() - 5.0).abs() < 1e-9);
        assert!((compared.violations_off().unwrap() + 50.0).abs() < 1e-9);
    }
}
