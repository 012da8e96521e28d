//! The highest count of a window: `scale-down-delay`.
//!
//! knative/serving 98e5ef90, `pkg/autoscaler/aggregation/max`.

use std::collections::VecDeque;

use super::SECOND_NS;

/// Maximum over buckets of a fixed length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaxWindow {
    /// (bucket, value), values descending: what is lower and older can never be the maximum again.
    maxima: VecDeque<(i64, i32)>,
    buckets: i64,
    granularity_s: i64,
}

impl MaxWindow {
    /// `granularity_ns`: whole seconds, at least one.
    pub fn new(window_ns: i64, granularity_ns: i64) -> Self {
        Self {
            maxima: VecDeque::new(),
            buckets: (window_ns as f64 / granularity_ns as f64).ceil() as i64,
            granularity_s: granularity_ns / SECOND_NS,
        }
    }

    /// Within one bucket the larger value counts.
    pub fn record(&mut self, now_ns: i64, value: i32) {
        let index = now_ns.div_euclid(SECOND_NS) / self.granularity_s;
        while self.maxima.back().is_some_and(|(_, last)| value >= *last) {
            self.maxima.pop_back();
        }
        while self
            .maxima
            .front()
            .is_some_and(|(first, _)| index - first >= self.buckets)
        {
            self.maxima.pop_front();
        }
        // What is left is higher: it stands for its bucket.
        if self.maxima.back().is_none_or(|(last, _)| *last != index) {
            self.maxima.push_back((index, value));
        }
    }

    /// 0 before the first record.
    pub fn current(&self) -> i32 {
        self.maxima.front().map_or(0, |(_, value)| *value)
    }
}
