//! Buckets of the histograms.

use prometheus_client::metrics::family::MetricConstructor;
use prometheus_client::metrics::histogram::Histogram;

use super::exemplars::Exemplified;

/// Buckets of every duration: 50 us (a small model served from memory) to 60 s (the default timeout).
#[derive(Debug, Clone, Copy)]
pub(super) struct Seconds;

const SECONDS: [f64; 19] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0, 30.0, 60.0,
];

impl MetricConstructor<Histogram> for Seconds {
    fn new_metric(&self) -> Histogram {
        Histogram::new(SECONDS)
    }
}

impl MetricConstructor<Exemplified> for Seconds {
    fn new_metric(&self) -> Exemplified {
        Exemplified::new(SECONDS.into_iter())
    }
}

/// Buckets of batch sizes: powers of two up to the largest batch that the config allows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Items;

impl MetricConstructor<Histogram> for Items {
    fn new_metric(&self) -> Histogram {
        Histogram::new((0..13).map(|power| f64::from(1u32 << power)))
    }
}
