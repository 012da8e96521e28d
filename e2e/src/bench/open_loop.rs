//! Open-loop load on a side: the highest rate whose 99th percentile holds, and how many answers come in time at a rate. Poisson arrivals, latency
//! from the instant at which a request was due.
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::search::Search;
use crate::clock::now;
use crate::load::{Load, LoadOptions, Profile, Request};

/// A rate at which the 99th percentile is so many times the limit is not tried again.
const HOPELESS: u32 = 3;

/// How a rate is tried.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offer {
    /// The 99th percentile that must hold, and the longest that an answer is in time.
    pub(super) limit: Duration,
    /// For how long a rate is offered.
    pub(super) lasts: Duration,
    /// Connections, and so requests under way, at most.
    pub(super) connections_max: usize,
}

/// One rate that was tried.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Probe {
    pub(super) rate: f64,
    pub(super) p50_millis: f64,
    pub(super) p99_millis: f64,
    pub(super) samples: u64,
    pub(super) failed: u64,
    /// Right answers in time, per second.
    pub(super) goodput: f64,
    /// By how much the generator itself was late at most: what is near the limit says nothing about the side.
    pub(super) generator_late_millis: f64,
}

impl Probe {
    fn holds(&self, limit: Duration) -> bool {
        self.failed == 0 && self.samples > 0 && self.p99_millis <= limit.as_secs_f64() * 1e3
    }
}

/// Searches the highest rate that holds, beginning near one. Answers it, 0 if none did, and every probe.
pub(super) async fn highest_rate(
    address: SocketAddr,
    requests: &Arc<[Request]>,
    near: f64,
    offer: Offer,
) -> (f64, Vec<Probe>) {
    let mut search = Search::near(near);
    let mut probes = Vec::new();
    while let Some(rate) = search.next() {
        let mut held = false;
        // A rate that just fails is tried once more: a single stall of the host is no limit of the side.
        for _ in 0..2 {
            let probe = probe(address, requests, rate, offer).await;
            held = probe.holds(offer.limit);
            let is_hopeless = !probe.holds(offer.limit * HOPELESS);
            probes.push(probe);
            if held || is_hopeless {
                break;
            }
        }
        search.tell(held);
    }
    (search.found(), probes)
}

/// Offers one rate. Callers wait for their answers ten times as long as those are good for.
pub(super) async fn probe(address: SocketAddr, requests: &Arc<[Request]>, rate: f64, offer: Offer) -> Probe {
    let mut options = LoadOptions::to(address);
    options.timeout = offer.limit * 10;
    options.in_time = offer.limit;
    options.connections_max = offer.connections_max;
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
    tokio::time::sleep(offer.lasts.saturating_sub(begun.elapsed())).await;
    let seconds = begun.elapsed().as_secs_f64();
    let report = load.stop().await;
    Probe {
        rate,
        p50_millis: report.latency.p50,
        p99_millis: report.latency.p99,
        samples: report.totals.due,
        failed: report.totals.failed() + report.totals.wrong,
        goodput: report.in_time as f64 / seconds,
        generator_late_millis: report.generator_late_max,
    }
}

/// Waits until a side that was overloaded answers at once again, at most half a minute: what it has left undone is not the next rate's fault.
pub(super) async fn settle(address: SocketAddr, requests: &Arc<[Request]>, limit: Duration) {
    let mut options = LoadOptions::to(address);
    options.timeout = Duration::from_secs(30);
    let until = now() + options.timeout;
    while now() < until {
        let report = Load::once(&options, requests.get(..1).unwrap_or_default()).await;
        if report.totals.failed() == 0 && report.latency.max <= limit.as_secs_f64() * 1e3 {
            return;
        }
        // A refusal comes at once, and may come as often as it is asked for.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
