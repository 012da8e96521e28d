//! From one-second statistics of pods and activator to the two averages.
//!
//! knative/serving 98e5ef90, `pkg/autoscaler/metrics/collector.go`, `sample_size.go`, `stats_scraper.go`.

use super::buckets::Buckets;
use super::config::{Config, Revision, ScalingMetric};

/// What a queue proxy or the activator has seen in one second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stat {
    /// Time-weighted average of the requests in flight, waiting ones included.
    pub average_concurrent_requests: f64,
    /// Of these, those that came through the activator, which counts them itself.
    pub average_proxied_concurrent_requests: f64,
    /// Requests that arrived.
    pub request_count: f64,
    pub proxied_request_count: f64,
}

/// Stable and panic window of both metrics.
#[derive(Debug, Clone, PartialEq)]
pub struct Collector {
    concurrency: Windows,
    requests: Windows,
    /// False with a target burst capacity of -1: then all traffic passes the activator, and silence means zero.
    is_scraped: bool,
}

#[derive(Debug, Clone, PartialEq)]
struct Windows {
    stable: Buckets,
    panic: Buckets,
}

impl Windows {
    fn record(&mut self, now_ns: i64, value: f64) {
        self.stable.record(now_ns, value);
        self.panic.record(now_ns, value);
    }
}

impl Collector {
    pub fn new(config: &Config, revision: &Revision) -> Self {
        let new = if revision.is_weighted {
            Buckets::exponential
        } else {
            Buckets::linear
        };
        let windows = || Windows {
            stable: new(revision.stable_window_ns(config)),
            panic: new(revision.panic_window_ns(config)),
        };
        Self {
            concurrency: windows(),
            requests: windows(),
            is_scraped: !revision.is_always_behind_activator(config),
        }
    }

    /// Adds a scrape ([`scraped`]) or what the activator has pushed.
    pub fn record(&mut self, now_ns: i64, stat: Stat) {
        let concurrency = stat.average_concurrent_requests - stat.average_proxied_concurrent_requests;
        self.concurrency.record(now_ns, concurrency);
        self.requests
            .record(now_ns, stat.request_count - stat.proxied_request_count);
    }

    /// `StableAndPanicConcurrency`, `StableAndPanicRPS`: (stable, panic), `None` without data.
    pub fn stable_and_panic(&self, metric: ScalingMetric, now_ns: i64) -> Option<(f64, f64)> {
        let windows = match metric {
            ScalingMetric::Concurrency => &self.concurrency,
            ScalingMetric::RequestsPerSecond => &self.requests,
        };
        if self.is_scraped && windows.stable.is_empty(now_ns) {
            return None;
        }
        Some((windows.stable.average(now_ns), windows.panic.average(now_ns)))
    }
}

/// `populationMeanSampleSize`: how many of `pods` are scraped.
pub fn sample_size(pods: usize) -> usize {
    if pods <= 3 {
        return pods;
    }
    // z²·σ²/e², for 95 % confidence, a variance of 100 and an error of 5.
    let unbounded = 1.96 * 1.96 * 100.0 / 25.0;
    let pods = pods as f64;
    (pods * unbounded / (pods + unbounded - 1.0)).ceil() as usize
}

/// `computeAverages`: the sample stands for all `pods`. `None` where there is no pod, or fewer statistics than [`sample_size`] asks for.
pub fn scraped(sample: &[Stat], pods: usize) -> Option<Stat> {
    let wanted = sample_size(pods);
    if pods == 0 || sample.len() < wanted {
        return None;
    }
    let scale = |value: fn(&Stat) -> f64| {
        let sum: f64 = sample.iter().take(wanted).map(value).sum();
        sum / wanted as f64 * pods as f64
    };
    Some(Stat {
        average_concurrent_requests: scale(|stat| stat.average_concurrent_requests),
        average_proxied_concurrent_requests: scale(|stat| stat.average_proxied_concurrent_requests),
        request_count: scale(|stat| stat.request_count),
        proxied_request_count: scale(|stat| stat.proxied_request_count),
    })
}
