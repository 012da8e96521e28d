//! A histogram that can be read back: the library's own only goes out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::metrics::histogram::Histogram;

use super::exemplars::{self, Exemplified, TraceId};

/// How often, and how long in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    pub count: u64,
    pub nanos: u64,
}

/// Counts and sums of durations.
#[derive(Debug, Clone, Default)]
pub struct Sums(Arc<(AtomicU64, AtomicU64)>);

impl Sums {
    /// Adds one duration in seconds.
    pub fn add(&self, seconds: f64) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
        self.0.1.fetch_add((seconds * 1e9) as u64, Ordering::Relaxed);
    }

    /// Adds a duration in seconds to what has been counted, or will be.
    pub fn extend(&self, seconds: f64) {
        self.0.1.fetch_add((seconds * 1e9) as u64, Ordering::Relaxed);
    }

    /// What has been added until now; the two numbers may be of different moments.
    pub fn get(&self) -> Sum {
        Sum {
            count: self.0.0.load(Ordering::Relaxed),
            nanos: self.0.1.load(Ordering::Relaxed),
        }
    }
}

/// A histogram of durations in seconds, with its sum.
#[derive(Debug, Clone)]
pub struct Summed<H = Histogram> {
    histogram: H,
    pub sums: Sums,
}

impl<H> Summed<H> {
    /// A sum beside a histogram that has seen nothing yet.
    pub fn new(histogram: H) -> Self {
        Self {
            histogram,
            sums: Sums::default(),
        }
    }
}

impl Summed<Exemplified> {
    /// Adds one duration in seconds, and the trace that it is of.
    pub fn observe_traced(&self, seconds: f64, trace: Option<TraceId>) {
        exemplars::observe(&self.histogram, seconds, trace);
        self.sums.add(seconds);
    }
}

impl Summed {
    /// Adds one duration in seconds.
    pub fn observe(&self, seconds: f64) {
        self.histogram.observe(seconds);
        self.sums.add(seconds);
    }
}
