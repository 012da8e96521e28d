//! When requests are due.
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::Instant;

/// How the time between two requests is distributed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrivals {
    /// Exponential gaps: many clients that know nothing of each other.
    Poisson,
    /// Equal gaps.
    Constant,
}

/// The instants at which requests are due, at a rate that may change.
#[derive(Debug)]
pub struct Schedule {
    arrivals: Arrivals,
    random: Xoshiro256PlusPlus,
    rate: f64,
    next: Option<Instant>,
}

impl Schedule {
    pub fn new(arrivals: Arrivals, seed: u64) -> Self {
        Self {
            arrivals,
            random: Xoshiro256PlusPlus::seed_from_u64(seed),
            rate: 0.0,
            next: None,
        }
    }

    /// Another rate from `now` on. The gap under way is drawn anew; for exponential gaps, which have no memory, that changes nothing else.
    pub fn restart(&mut self, now: Instant, rate: f64) {
        self.rate = rate;
        self.next = self.gap().map(|gap| now + gap);
    }

    /// When the next request is due; none at rate 0.
    pub fn next(&self) -> Option<Instant> {
        self.next
    }

    /// The next request if it is due by `now`. Those that became due while nobody looked come one by one, each with its own instant.
    pub fn take(&mut self, now: Instant) -> Option<Instant> {
        let due = self.next.filter(|due| *due <= now)?;
        self.next = self.gap().map(|gap| due + gap);
        Some(due)
    }

    fn gap(&mut self) -> Option<Duration> {
        if !(self.rate.is_finite() && self.rate > 0.0) {
            return None;
        }
        let means = match self.arrivals {
            Arrivals::Constant => 1.0,
            // Inverse of the exponential distribution; 1 - u is never 0.
            Arrivals::Poisson => -(1.0 - self.random.random::<f64>()).ln(),
        };
        // At most a day: a rate may be small beyond what an instant can hold.
        Some(Duration::from_secs_f64((means / self.rate).min(86_400.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaps(arrivals: Arrivals, seed: u64, rate: f64, count: usize) -> Vec<f64> {
        let mut schedule = Schedule::new(arrivals, seed);
        let start = Instant::now();
        schedule.restart(start, rate);
        let mut last = start;
        (0..count)
            .map(|_| {
                let due = schedule.take(start + Duration::from_secs(1_000_000)).unwrap();
                let gap = due.duration_since(last).as_secs_f64();
                last = due;
                gap
            })
            .collect()
    }

    #[test]
    fn poisson_gaps_are_exponential() {
        let rate = 250.0;
        let count = 40_000;
        let mut gaps = gaps(Arrivals::Poisson, 7, rate, count);
        let mean = gaps.iter().sum::<f64>() / count as f64;
        assert!((mean * rate - 1.0).abs() < 0.02, "mean {mean}");
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / count as f64;
        assert!((variance * rate * rate - 1.0).abs() < 0.05, "variance {variance}");
        // Kolmogorov-Smirnov: 1.63/sqrt(n) is the bound at 1 %.
        gaps.sort_by(f64::total_cmp);
        let distance = gaps
            .iter()
            .enumerate()
            .map(|(index, gap)| ((1.0 - (-rate * gap).exp()) - (index as f64 + 0.5) / count as f64).abs())
            .fold(0.0, f64::max);
        assert!(distance < 1.63 / (count as f64).sqrt(), "distance {distance}");
    }

    #[test]
    fn poisson_gaps_do_not_depend_on_each_other() {
        let gaps = gaps(Arrivals::Poisson, 11, 1.0, 40_000);
        let covariance = gaps
            .windows(2)
            .map(|pair| (pair[0] - 1.0) * (pair[1] - 1.0))
            .sum::<f64>()
            / gaps.len() as f64;
        assert!(covariance.abs() < 0.03, "{covariance}");
    }

    #[test]
    fn a_seed_decides_everything() {
        assert_eq!(
            gaps(Arrivals::Poisson, 3, 10.0, 100),
            gaps(Arrivals::Poisson, 3, 10.0, 100)
        );
        assert_ne!(
            gaps(Arrivals::Poisson, 3, 10.0, 100),
            gaps(Arrivals::Poisson, 4, 10.0, 100)
        );
    }

    #[test]
    fn constant_gaps_are_equal_and_do_not_drift() {
        let gaps = gaps(Arrivals::Constant, 1, 40.0, 400);
        assert!(gaps.iter().all(|gap| (gap - 0.025).abs() < 1e-9), "{:?}", &gaps[..3]);
    }

    #[test]
    fn a_rate_of_zero_or_nonsense_pauses() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let mut schedule = Schedule::new(Arrivals::Poisson, 1);
            schedule.restart(Instant::now(), rate);
            assert_eq!(schedule.next(), None, "{rate}");
        }
    }

    #[test]
    fn what_was_missed_comes_with_its_own_instants() {
        let mut schedule = Schedule::new(Arrivals::Constant, 1);
        let start = Instant::now();
        schedule.restart(start, 10.0);
        let late = start + Duration::from_millis(350);
        let due: Vec<u128> = std::iter::from_fn(|| schedule.take(late))
            .map(|due| due.duration_since(start).as_millis())
            .collect();
        assert_eq!(due, [100, 200, 300]);
    }
}
