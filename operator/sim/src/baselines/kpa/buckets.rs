//! Averages over a window of one-second sums.
//!
//! knative/serving 98e5ef90, `pkg/autoscaler/aggregation/bucketing.go`. The average is over the part of the window since the first write, and
//! over the part until the last write where the data lag; gaps in between count as zero.

use super::SECOND_NS;

/// How the buckets of a window are weighed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Weights {
    Linear,
    /// The newest bucket has this weight, each older one `1 - weight` of the next.
    Exponential(f64),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Buckets {
    /// A ring, indexed by second modulo its length.
    sums: Vec<f64>,
    total: f64,
    first_write_s: Option<i64>,
    last_write_s: Option<i64>,
    weights: Weights,
}

/// The sum of all weights of an exponential window is at least this.
const WEIGHT_PRECISION: f64 = 0.9999;
const LEAST_WEIGHT: f64 = 0.2;

/// `computeSmoothingCoeff`.
pub fn newest_weight(buckets: usize) -> f64 {
    (1.0 - (1.0 - WEIGHT_PRECISION).powf(1.0 / buckets as f64)).max(LEAST_WEIGHT)
}

impl Buckets {
    /// `window_ns` is rounded up to whole seconds.
    pub fn linear(window_ns: i64) -> Self {
        Self {
            sums: vec![0.0; length(window_ns)],
            total: 0.0,
            first_write_s: None,
            last_write_s: None,
            weights: Weights::Linear,
        }
    }

    pub fn exponential(window_ns: i64) -> Self {
        Self {
            weights: Weights::Exponential(newest_weight(length(window_ns))),
            ..Self::linear(window_ns)
        }
    }

    /// No data within the window.
    pub fn is_empty(&self, now_ns: i64) -> bool {
        self.lag_s(now_ns).is_none_or(|lag_s| lag_s > self.length_s())
    }

    /// Adds to the bucket of `now_ns`. What is older than the window is dropped.
    pub fn record(&mut self, now_ns: i64, value: f64) {
        let second = now_ns.div_euclid(SECOND_NS);
        match self.last_write_s {
            Some(last) if last == second => {}
            Some(last) if second + self.length_s() <= last => return,
            last => self.advance(last, second),
        }
        let index = self.index(second);
        self.sums[index] += value;
        self.total += value;
    }

    fn advance(&mut self, last: Option<i64>, second: i64) {
        if self.first_write_s.is_none_or(|first| first > second) {
            self.first_write_s = Some(second);
        }
        match last {
            // Into the past, within the window.
            Some(last) if second < last => return,
            Some(last) if second - last < self.length_s() => {
                for gap in last + 1..=second {
                    let index = self.index(gap);
                    self.total -= self.sums[index];
                    self.sums[index] = 0.0;
                }
            }
            _ => {
                self.first_write_s = Some(second);
                self.sums.fill(0.0);
                self.total = 0.0;
            }
        }
        self.last_write_s = Some(second);
    }

    /// `WindowAverage`; 0 without data.
    pub fn average(&self, now_ns: i64) -> f64 {
        match self.weights {
            Weights::Linear => self.linear_average(now_ns),
            Weights::Exponential(newest) => self.exponential_average(now_ns, newest),
        }
    }

    fn linear_average(&self, now_ns: i64) -> f64 {
        let (Some(first), Some(last), Some(lag_s)) = (self.first_write_s, self.last_write_s, self.lag_s(now_ns)) else {
            return 0.0;
        };
        let written_s = last - first + 1;
        if lag_s <= 0 {
            return rounded(self.total / written_s.min(self.length_s()) as f64);
        }
        if lag_s >= self.length_s() {
            return 0.0;
        }
        let outdated = last + 1..=last + lag_s;
        let valid = outdated.fold(self.total, |sum, second| sum - self.sums[self.index(second)]);
        rounded(valid / written_s.min(self.length_s() - lag_s) as f64)
    }

    fn exponential_average(&self, now_ns: i64, newest: f64) -> f64 {
        let (Some(last), false) = (self.last_write_s, self.is_empty(now_ns)) else {
            return 0.0;
        };
        let lag_s = self.lag_s(now_ns).unwrap_or(0).max(0);
        let mut weight = newest * (1.0 - newest).powf(lag_s as f64);
        let mut average = 0.0;
        for age_s in 0..self.length_s() - lag_s {
            average += self.sums[self.index(last - age_s)] * weight;
            weight *= 1.0 - newest;
        }
        average
    }

    /// Seconds since the last write; `None` if there was none.
    fn lag_s(&self, now_ns: i64) -> Option<i64> {
        Some(now_ns.div_euclid(SECOND_NS) - self.last_write_s?)
    }

    fn length_s(&self) -> i64 {
        i64::try_from(self.sums.len()).unwrap_or(i64::MAX)
    }

    fn index(&self, second: i64) -> usize {
        second.rem_euclid(self.length_s()) as usize
    }
}

/// At least one, so that there is always a bucket.
fn length(window_ns: i64) -> usize {
    ((window_ns as f64 / SECOND_NS as f64).ceil() as usize).max(1)
}

/// Six digits, as the source rounds: sums and differences leave traces.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}
