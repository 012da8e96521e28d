//! How long a pod takes from its node to its first request.

use crate::random::{LogNormal, Purpose, Stream};
use crate::time::{self, Nanos};

/// Distribution of the start time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum StartModel {
    /// Log-normal round a median; a share finds image and weights on its node and takes `WARM_FRACTION` of it.
    Median { median: Nanos, warm_share: f64 },
    /// Cold starts of a production cluster (Alibaba `cluster-trace-v2026-GenAI`: model load p10 2.6, p50 22.7, p90 42, p99 52 s):
    /// scheduling 1 to 3 s, for half of the pods an image pull of 10 to 60 s, and a load that is log-normal: 3 s for a third, 32 s else.
    Mixture,
}

/// A warm start of a 30 s median takes 4.5 s.
const WARM_FRACTION: f64 = 0.15;
/// Standard deviation of the logarithm: cold and warm.
const COLD_SIGMA: f64 = 0.3;
const WARM_SIGMA: f64 = 0.2;
const MIXTURE_WARM_SHARE: f64 = 0.33;
const MIXTURE_PULL_SHARE: f64 = 0.5;

impl StartModel {
    /// The start time of the pod of this ordinal.
    pub fn draw(self, seed: u64, ordinal: u64) -> Nanos {
        let stream = Stream::new(seed, Purpose::Start).part(ordinal);
        let (kind, normal) = (stream.uniform(0), stream.normal(1));
        time::from_seconds(match self {
            Self::Median { median, warm_share } => {
                let median = time::to_seconds(median);
                if median == 0.0 {
                    0.0
                } else if kind < warm_share {
                    LogNormal::with_median(median * WARM_FRACTION, WARM_SIGMA).of(normal)
                } else {
                    LogNormal::with_median(median, COLD_SIGMA).of(normal)
                }
            }
            Self::Mixture => {
                let schedule = 1.0 + 2.0 * stream.uniform(2);
                let pull = if stream.uniform(3) < MIXTURE_PULL_SHARE {
                    10.0 + 50.0 * stream.uniform(4)
                } else {
                    0.0
                };
                let median = if kind < MIXTURE_WARM_SHARE { 3.0 } else { 32.0 };
                let sigma = if kind < MIXTURE_WARM_SHARE {
                    WARM_SIGMA
                } else {
                    COLD_SIGMA
                };
                schedule + pull + LogNormal::with_median(median, sigma).of(normal)
            }
        })
    }

    /// The start time that the share `p` of pods does not exceed, from draws of one thousand pods of no seed in use.
    pub fn quantile(self, p: f64) -> Nanos {
        const PODS: u64 = 1_000;
        let mut all: Vec<Nanos> = (0..PODS).map(|ordinal| self.draw(u64::MAX, ordinal)).collect();
        all.sort_unstable();
        all[((p * PODS as f64) as usize).min(all.len() - 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::SECOND;

    #[test]
    fn start_times_have_the_asked_quantiles() {
        let near = |model: StartModel, p: f64, expected: f64, tolerance: f64| {
            let seconds = time::to_seconds(model.quantile(p));
            assert!((seconds - expected).abs() < tolerance, "{model:?} {p}: {seconds}");
        };
        let cold = StartModel::Median {
            median: 30 * SECOND,
            warm_share: 0.0,
        };
        near(cold, 0.5, 30.0, 1.5);
        near(cold, 0.9, 44.0, 3.0);
        let some_warm = StartModel::Median {
            median: 30 * SECOND,
            warm_share: 0.15,
        };
        near(some_warm, 0.07, 4.5, 0.7);
        near(StartModel::Mixture, 0.05, 4.0, 2.0);
        near(StartModel::Mixture, 0.5, 40.0, 6.0);
        let none = StartModel::Median {
            median: 0,
            warm_share: 0.15,
        };
        assert_eq!(none.draw(1, 1), 0);
    }
}
