//! The highest rate that a side serves within a latency: Poisson arrivals, latency from the instant at which a request was due.
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::clock::now;
use crate::load::{Load, LoadOptions, Profile, Request};

/// The 99th percentile that must hold, in milliseconds.
pub(super) const P99_MILLIS: f64 = 20.0;
/// Where the search begins, in requests per second.
const RATE_FIRST: f64 = 250.0;
/// Halvings of the last step: the result is within 1/16 of the truth.
const HALVINGS: usize = 4;

/// One rate that was tried.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Probe {
    pub(super) rate: f64,
    pub(super) p99_millis: f64,
    pub(super) samples: u64,
    pub(super) failed: u64,
    /// By how much the generator itself was late at most: what is near the limit says nothing about the side.
    pub(super) generator_late_millis: f64,
}

impl Probe {
    fn holds(&self) -> bool {
        self.failed == 0 && self.samples > 0 && self.p99_millis <= P99_MILLIS
    }
}

/// Doubles the rate until it does not hold, and then halves the step. Answers the highest rate that held, 0 if none did, and every probe.
pub(super) async fn highest_rate(address: SocketAddr, requests: &Arc<[Request]>, lasts: Duration) -> (f64, Vec<Probe>) {
    let mut probes = Vec::new();
    let (mut low, mut high) = (0.0, RATE_FIRST);
    while holds(address, requests, high, lasts, &mut probes).await {
        low = high;
        high *= 2.0;
    }
    for _ in 0..HALVINGS {
        if low == 0.0 {
            break;
        }
        let middle = f64::midpoint(low, high);
        if holds(address, requests, middle, lasts, &mut probes).await {
            low = middle;
        } else {
            high = middle;
        }
    }
    (low, probes)
}

/// A rate that does not hold is tried once more: a single stall of the host is no limit of the side.
async fn holds(
    address: SocketAddr,
    requests: &Arc<[Request]>,
    rate: f64,
    lasts: Duration,
    probes: &mut Vec<Probe>,
) -> bool {
    for _ in 0..2 {
        let probe = probe(address, requests, rate, lasts).await;
        let held = probe.holds();
        probes.push(probe);
        if held {
            return true;
        }
    }
    false
}

async fn probe(address: SocketAddr, requests: &Arc<[Request]>, rate: f64, lasts: Duration) -> Probe {
    let mut options = LoadOptions::to(address);
    options.timeout = Duration::from_secs(5);
    // Kept: this measures serving, not connecting.
    (options.connection_requests_max, options.connection_age_max) = (u64::MAX, Duration::from_secs(3600));
    let begun = now();
    let load = Load::start(
        options,
        Profile {
            rate,
            requests: Arc::clone(requests),
        },
    );
    tokio::time::sleep(lasts.saturating_sub(begun.elapsed())).await;
    let report = load.stop().await;
    Probe {
        rate,
        p99_millis: report.latency.p99,
        samples: report.totals.due,
        failed: report.totals.failed() + report.totals.wrong,
        generator_late_millis: report.generator_late_max,
    }
}
