//! The arrival rate that is believed: fast when a rise is significant, slow otherwise; and how variable arrivals are.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::observation::Sample;
use crate::policy::Tuning;
use crate::units::Moment;

/// Samples that are kept of a slow window; closer ones are left out.
const SAMPLES_MAX: usize = 64;
/// Weight of a new squared difference in the variability; some twenty windows.
const SCV_WEIGHT: f64 = 0.05;

/// What is remembered of one source of arrival rates.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RateMemory {
    /// Time and requests per second, oldest first.
    samples: VecDeque<(Moment, f64)>,
    /// End and count of the last window that did not overlap its predecessor.
    last_count: Option<(Moment, f64)>,
    /// Smoothed count per window, and half of the smoothed squared difference of neighbours.
    count_mean: f64,
    count_variance: f64,
    counts_seen: u32,
}

/// What the sizing gets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Believed {
    /// Requests per second, margin included.
    pub lambda: f64,
    /// Squared coefficient of variation of arrivals.
    pub scv: f64,
}

impl RateMemory {
    /// The rate to believe at `now`, given the fast one.
    ///
    /// The fast rate counts where it exceeds the slow one by more than chance would (`2 sigma` of a Poisson count over the fast window); otherwise
    /// the slow one counts, so that noise does not scale. Neither decreases when `fast` increases. What `fast` says of the variability counts from the
    /// next tick on: otherwise a lower rate could ask for more replicas.
    pub fn believe(&self, fast: f64, sample: &Sample, slow_seconds: f64, tuning: &Tuning, now: Moment) -> Believed {
        let slow = self.slow(fast, sample.at, slow_seconds, now);
        let window = sample.window_seconds.max(1.0);
        let scv = self.scv(tuning);
        let significant = slow + tuning.jump_sigmas * (slow * scv / window).sqrt();
        let lambda = if fast > significant { fast } else { slow };
        Believed {
            lambda: lambda + tuning.margin_sigmas * (lambda * scv / window).sqrt(),
            scv,
        }
    }

    /// Mean of the samples of the slow window, `fast` included.
    fn slow(&self, fast: f64, at: Moment, window_seconds: f64, now: Moment) -> f64 {
        let (mut sum, mut count) = (0.0, 0.0);
        for (when, rate) in &self.samples {
            if *when < at && now.seconds_since(*when) <= window_seconds {
                sum += rate;
                count += 1.0;
            }
        }
        (sum + fast) / (count + 1.0)
    }

    fn scv(&self, tuning: &Tuning) -> f64 {
        if self.counts_seen < 8 || self.count_mean <= 0.0 {
            return tuning.arrival_scv_min;
        }
        (self.count_variance / self.count_mean).clamp(tuning.arrival_scv_min, tuning.arrival_scv_max)
    }

    /// Remembers a sample. The same sample seen twice counts once.
    pub fn learn(&mut self, fast: f64, sample: &Sample, slow_seconds: f64, tuning: &Tuning) {
        let apart = slow_seconds / SAMPLES_MAX as f64;
        let is_next = |(when, _): &(Moment, f64)| sample.at > *when && sample.at.seconds_since(*when) >= apart;
        if self.samples.back().is_none_or(is_next) {
            self.samples.push_back((sample.at, fast));
        }
        if self.samples.len() > SAMPLES_MAX {
            self.samples.pop_front();
        }
        let window = sample.window_seconds.max(1.0);
        if self
            .last_count
            .is_some_and(|(end, _)| sample.at.seconds_since(end) < window)
        {
            return;
        }
        let count = fast * window;
        if let Some((_, before)) = self.last_count {
            // Half the squared difference of neighbours has the variance as its mean, and does not mistake a trend for noise.
            let half = (count - before) * (count - before) / 2.0;
            // One step of the load is no variability either: what a single difference can say is bounded.
            let half = half.min(2.0 * tuning.arrival_scv_max * self.count_mean.max(count));
            let weight = SCV_WEIGHT.max(1.0 / f64::from(self.counts_seen + 1));
            self.count_mean += weight * (count - self.count_mean);
            self.count_variance += weight * (half - self.count_variance);
            self.counts_seen = self.counts_seen.saturating_add(1);
        }
        self.last_count = Some((sample.at, count));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::seconds;
    use crate::units::Raw;

    fn sample(at: u64) -> Sample {
        Sample {
            value: Raw(0.0),
            at: seconds(at),
            window_seconds: 10.0,
            targets_up: 1,
            targets_all: 1,
            targets_covered: None,
        }
    }

    fn steady(rate: f64) -> RateMemory {
        let mut memory = RateMemory::default();
        for tick in 0..12 {
            memory.learn(rate, &sample(tick * 5), 60.0, &Tuning::default());
        }
        memory
    }

    fn no_margin() -> Tuning {
        Tuning {
            margin_sigmas: 0.0,
            ..Tuning::default()
        }
    }

    #[test]
    fn noise_does_not_count_and_a_jump_does() {
        let memory = steady(10.0);
        let believe = |fast| {
            memory
                .believe(fast, &sample(60), 60.0, &no_margin(), seconds(60))
                .lambda
        };
        assert!((believe(11.0) - 10.0).abs() < 0.1, "{}", believe(11.0));
        assert!((believe(20.0) - 20.0).abs() < 1e-9);
        // A fall is believed slowly.
        assert!(believe(0.0) > 9.0);
    }

    #[test]
    fn more_is_never_less() {
        let memory = steady(10.0);
        let rates: Vec<f64> = (0..400)
            .map(|fast| {
                memory
                    .believe(
                        f64::from(fast) / 10.0,
                        &sample(60),
                        60.0,
                        &Tuning::default(),
                        seconds(60),
                    )
                    .lambda
            })
            .collect();
        assert!(rates.windows(2).all(|pair| pair[0] <= pair[1]));
    }

    #[test]
    fn a_trend_is_no_noise_and_bursts_are() {
        let tuning = Tuning::default();
        let mut trend = RateMemory::default();
        let mut bursts = RateMemory::default();
        for tick in 0..60_u32 {
            trend.learn(
                10.0 + f64::from(tick) * 0.2,
                &sample(u64::from(tick) * 10),
                60.0,
                &tuning,
            );
            bursts.learn(
                if tick % 3 == 0 { 30.0 } else { 1.0 },
                &sample(u64::from(tick) * 10),
                60.0,
                &tuning,
            );
        }
        let scv = |memory: &RateMemory| memory.believe(10.0, &sample(600), 60.0, &tuning, seconds(600)).scv;
        assert!((scv(&trend) - tuning.arrival_scv_min).abs() < 1e-9);
        assert!(scv(&bursts) > 3.0);
    }

    #[test]
    fn one_step_is_no_variability() {
        let mut memory = steady(40.0);
        memory.learn(4.0, &sample(70), 60.0, &Tuning::default());
        let scv = memory
            .believe(4.0, &sample(75), 60.0, &Tuning::default(), seconds(75))
            .scv;
        assert!(scv < 4.0, "{scv}");
    }

    #[test]
    fn memory_is_bounded_and_the_same_sample_counts_once() {
        let mut memory = RateMemory::default();
        for tick in 0..10_000 {
            memory.learn(1.0, &sample(tick), 60.0, &Tuning::default());
            memory.learn(9.0, &sample(tick), 60.0, &Tuning::default());
        }
        assert_eq!(memory.samples.len(), SAMPLES_MAX);
        assert!(
            memory
                .samples
                .iter()
                .all(|(_, rate)| (*rate - 1.0).abs() < f64::EPSILON)
        );
    }

    #[test]
    fn silence_ends_in_exactly_nothing() {
        let mut memory = steady(10.0);
        for tick in 12..40 {
            memory.learn(0.0, &sample(tick * 5), 60.0, &Tuning::default());
        }
        let believed = memory.believe(0.0, &sample(200), 60.0, &Tuning::default(), seconds(200));
        assert!(believed.lambda.abs() < f64::EPSILON, "{believed:?}");
    }
}
