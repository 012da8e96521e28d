//! The contract's metrics as typed handles. Handles of hot paths are looked up once, when a model is loaded or the server starts.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric as Registrable, Registry};
use tidewright_contract::metrics::{self as names, Metric, cache, outcome, phase, queue, reload, status};

use self::process::Process;
use self::summed::{Summed, Sums};
use crate::lifecycle::{STATES, State};

mod process;
pub mod summed;

type Labels = Vec<(&'static str, String)>;
type Counters = Family<Labels, Counter>;
type Gauges = Family<Labels, Gauge>;

/// Buckets of every duration: 50 us (a small model served from memory) to 60 s (the default timeout).
#[derive(Debug, Clone, Copy)]
struct Seconds;

impl MetricConstructor<Histogram> for Seconds {
    fn new_metric(&self) -> Histogram {
        Histogram::new([
            0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
            5.0, 10.0, 30.0, 60.0,
        ])
    }
}

/// Buckets of batch sizes: powers of two up to the largest batch that the config allows.
#[derive(Debug, Clone, Copy)]
struct Items;

impl MetricConstructor<Histogram> for Items {
    fn new_metric(&self) -> Histogram {
        Histogram::new((0..13).map(|power| f64::from(1u32 << power)))
    }
}

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    predictions: Counters,
    prediction_duration: Family<Labels, Histogram, Seconds>,
    phase_duration: Family<Labels, Histogram, Seconds>,
    batch_size: Family<Labels, Histogram, Items>,
    http_requests: Counters,
    http_received: Counters,
    http_duration: Family<Labels, Histogram, Seconds>,
    queue_depth: Gauges,
    cache_requests: Counters,
    cache_bytes: Gauges,
    model_info: Gauges,
    engine_workers: Gauges,
    engine_restarts: Counters,
    state: Gauges,
    build_info: Gauges,
    tls_reloads: Counters,
    /// Inference requests accepted and not yet answered.
    pub in_flight: Gauge,
    /// Open connections on the serving port.
    pub connections: Gauge,
}

/// Handles of one model.
#[derive(Debug, Clone)]
pub struct ModelMetrics {
    success: Counter,
    error: Counter,
    rejected: Counter,
    timeout: Counter,
    cancelled: Counter,
    /// Answered requests.
    pub duration: Summed,
    /// Requests that were not answered with a prediction.
    pub failed: Sums,
    pub preprocess: Summed,
    pub queue: Summed,
    pub inference: Summed,
    pub postprocess: Summed,
    pub batch_size: Histogram,
    pub workers: Gauge,
    pub restarts: Counter,
}

/// How a prediction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Success,
    Error,
    Rejected,
    Timeout,
    Cancelled,
}

/// Handles of one route.
#[derive(Debug, Clone)]
pub struct RouteMetrics {
    pub route: &'static str,
    pub received: Counter,
    pub duration: Histogram,
    /// The commonest series, looked up once.
    pub post_ok: Counter,
}

/// Counters of the certificate's changes.
#[derive(Debug, Clone)]
pub struct TlsMetrics {
    pub success: Counter,
    pub error: Counter,
}

/// Counters of one cache level.
#[derive(Debug, Clone)]
pub struct TierMetrics {
    pub hit: Counter,
    pub miss: Counter,
    pub error: Counter,
    pub skipped: Counter,
    pub shared: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let metrics = Self {
            predictions: add(&mut registry, &names::ML_PREDICTIONS, Counters::default()),
            prediction_duration: add(
                &mut registry,
                &names::ML_PREDICTION_DURATION,
                Family::new_with_constructor(Seconds),
            ),
            phase_duration: add(
                &mut registry,
                &names::ML_PHASE_DURATION,
                Family::new_with_constructor(Seconds),
            ),
            batch_size: add(
                &mut registry,
                &names::ML_BATCH_SIZE,
                Family::new_with_constructor(Items),
            ),
            http_requests: add(&mut registry, &names::HTTP_REQUESTS, Counters::default()),
            http_received: add(&mut registry, &names::HTTP_REQUESTS_RECEIVED, Counters::default()),
            http_duration: add(
                &mut registry,
                &names::HTTP_REQUEST_DURATION,
                Family::new_with_constructor(Seconds),
            ),
            queue_depth: add(&mut registry, &names::ML_QUEUE_DEPTH, Gauges::default()),
            cache_requests: add(&mut registry, &names::ML_CACHE_REQUESTS, Counters::default()),
            cache_bytes: add(&mut registry, &names::ML_CACHE_BYTES, Gauges::default()),
            model_info: add(&mut registry, &names::ML_MODEL_INFO, Gauges::default()),
            engine_workers: add(&mut registry, &names::ML_ENGINE_WORKERS, Gauges::default()),
            engine_restarts: add(&mut registry, &names::ML_ENGINE_RESTARTS, Counters::default()),
            state: add(&mut registry, &names::SERVER_STATE, Gauges::default()),
            build_info: add(&mut registry, &names::SERVER_BUILD_INFO, Gauges::default()),
            tls_reloads: add(&mut registry, &names::TLS_RELOADS, Counters::default()),
            in_flight: add(&mut registry, &names::ML_REQUESTS_IN_FLIGHT, Gauge::default()),
            connections: add(&mut registry, &names::HTTP_CONNECTIONS, Gauge::default()),
            registry,
        };
        // A series that appears only with the first request would look like missing data to whoever scales on it.
        metrics.queue_depth().set(0);
        let mut metrics = metrics;
        metrics.registry.register_collector(Box::new(Process));
        metrics
    }
}

fn add<M: Registrable + Clone>(registry: &mut Registry, metric: &Metric, handle: M) -> M {
    registry.register(metric.registered_name(), metric.help, handle.clone());
    handle
}

fn labels<const N: usize>(metric: &Metric, values: [&str; N]) -> Labels {
    debug_assert_eq!(metric.labels.len(), N, "{}", metric.name);
    metric.labels.iter().copied().zip(values.map(str::to_owned)).collect()
}

impl Metrics {
    /// Handles of one model; each series exists from now on.
    pub fn model(&self, model: &str, version: &str) -> ModelMetrics {
        let prediction = |status: &str| {
            self.predictions
                .get_or_create_owned(&labels(&names::ML_PREDICTIONS, [model, version, status]))
        };
        let phase = |phase: &str| {
            let labels = labels(&names::ML_PHASE_DURATION, [model, version, phase]);
            Summed::new(self.phase_duration.get_or_create_owned(&labels))
        };
        let duration = labels(&names::ML_PREDICTION_DURATION, [model, version]);
        ModelMetrics {
            success: prediction(status::SUCCESS),
            error: prediction(status::ERROR),
            rejected: prediction(status::REJECTED),
            timeout: prediction(status::TIMEOUT),
            cancelled: prediction(status::CANCELLED),
            duration: Summed::new(self.prediction_duration.get_or_create_owned(&duration)),
            failed: Sums::default(),
            preprocess: phase(phase::PREPROCESS),
            queue: phase(phase::QUEUE),
            inference: phase(phase::INFERENCE),
            postprocess: phase(phase::POSTPROCESS),
            batch_size: self
                .batch_size
                .get_or_create_owned(&labels(&names::ML_BATCH_SIZE, [model, version])),
            workers: self
                .engine_workers
                .get_or_create_owned(&labels(&names::ML_ENGINE_WORKERS, [model, version])),
            restarts: self
                .engine_restarts
                .get_or_create_owned(&labels(&names::ML_ENGINE_RESTARTS, [model, version])),
        }
    }

    /// Says which file runs where.
    pub fn set_model_info(&self, model: &str, version: &str, digest: &str, provider: &str) {
        self.model_info
            .get_or_create(&labels(&names::ML_MODEL_INFO, [model, version, digest, provider]))
            .set(1);
    }

    /// Handles of one route template.
    pub fn route(&self, route: &'static str) -> RouteMetrics {
        RouteMetrics {
            route,
            received: self
                .http_received
                .get_or_create_owned(&labels(&names::HTTP_REQUESTS_RECEIVED, [route])),
            duration: self
                .http_duration
                .get_or_create_owned(&labels(&names::HTTP_REQUEST_DURATION, [route])),
            post_ok: self
                .http_requests
                .get_or_create_owned(&labels(&names::HTTP_REQUESTS, [route, "POST", "200"])),
        }
    }

    /// Counts an answer.
    pub fn answered(&self, route: &RouteMetrics, method: &str, code: u16) {
        if method == "POST" && code == 200 {
            route.post_ok.inc();
        } else {
            let code = code.to_string();
            self.http_requests
                .get_or_create(&labels(&names::HTTP_REQUESTS, [route.route, method, &code]))
                .inc();
        }
    }

    /// The gauge of waiting requests.
    pub fn queue_depth(&self) -> Gauge {
        self.queue_depth
            .get_or_create_owned(&labels(&names::ML_QUEUE_DEPTH, [queue::BATCH]))
    }

    /// Counters of one level of the result cache.
    pub fn tier(&self, tier: &str) -> TierMetrics {
        let counter = |outcome: &str| {
            self.cache_requests
                .get_or_create_owned(&labels(&names::ML_CACHE_REQUESTS, [cache::RESULT, tier, outcome]))
        };
        TierMetrics {
            hit: counter(outcome::HIT),
            miss: counter(outcome::MISS),
            error: counter(outcome::ERROR),
            skipped: counter(outcome::SKIPPED),
            shared: counter(outcome::SHARED),
        }
    }

    /// Counters of the certificate's changes; each series exists from now on.
    pub fn tls(&self) -> TlsMetrics {
        let counter = |outcome: &str| {
            self.tls_reloads
                .get_or_create_owned(&labels(&names::TLS_RELOADS, [outcome]))
        };
        TlsMetrics {
            success: counter(reload::SUCCESS),
            error: counter(reload::ERROR),
        }
    }

    /// Gauge of the bytes that a level holds.
    pub fn cache_bytes(&self, tier: &str) -> Gauge {
        self.cache_bytes
            .get_or_create_owned(&labels(&names::ML_CACHE_BYTES, [cache::RESULT, tier]))
    }

    /// Says which versions are in use.
    pub fn set_build_info(&self, version: &str, runtime_version: &str) {
        self.build_info
            .get_or_create(&labels(&names::SERVER_BUILD_INFO, [version, runtime_version]))
            .set(1);
    }

    /// The text of a scrape; `state` is the server's state now.
    pub fn scrape(&self, state: State) -> Result<String, std::fmt::Error> {
        for other in STATES {
            let gauge = self
                .state
                .get_or_create_owned(&labels(&names::SERVER_STATE, [other.as_str()]));
            gauge.set(i64::from(other == state));
        }
        let mut text = String::with_capacity(16 * 1024);
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl ModelMetrics {
    /// Counts `items` predictions that ended so.
    pub fn ended(&self, status: Status, items: usize) {
        let counter = match status {
            Status::Success => &self.success,
            Status::Error => &self.error,
            Status::Rejected => &self.rejected,
            Status::Timeout => &self.timeout,
            Status::Cancelled => &self.cancelled,
        };
        counter.inc_by(items as u64);
    }

    /// Items of all answered requests.
    pub fn items(&self) -> u64 {
        self.success.get()
    }

    /// Records the time of one answered request.
    pub fn took(&self, duration: Duration) {
        self.duration.observe(duration.as_secs_f64());
    }
}

/// Shared by everyone who counts.
pub type SharedMetrics = Arc<Metrics>;

// The gauges and counters above are these atomics; naming them keeps a change of the library's defaults from going unnoticed.
const _: fn(Gauge<i64, AtomicI64>) -> Gauge = |gauge| gauge;
const _: fn(Counter<u64, AtomicU64>) -> Counter = |counter| counter;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scrape_shows_the_contract_s_names_and_no_others() {
        let metrics = Metrics::default();
        let model = metrics.model("digits", "1");
        model.ended(Status::Success, 3);
        metrics.set_model_info("digits", "1", "sha256:0", "cpu");
        metrics.set_build_info("0.1.0", "1.32.0");
        let route = metrics.route(tidewright_contract::routes::PREDICT);
        metrics.answered(&route, "POST", 200);
        metrics.tls().success.inc();
        metrics.tier("memory").hit.inc();
        metrics.cache_bytes("memory").set(5);
        let text = metrics.scrape(State::Ready).unwrap();
        for metric in names::ALL {
            assert!(text.contains(metric.name), "{} is missing in\n{text}", metric.name);
            for label in metric.labels {
                let series = text.lines().find(|line| line.starts_with(metric.name)).unwrap();
                assert!(series.contains(&format!("{label}=\"")), "{series} has no label {label}");
            }
        }
        for line in text.lines().filter(|line| line.starts_with("# TYPE ")) {
            let name = line.split(' ').nth(2).unwrap();
            assert!(
                names::ALL.iter().any(|metric| metric.registered_name() == name),
                "{name} is not in the contract"
            );
        }
        assert!(text.contains("ml_predictions_total{model=\"digits\",model_version=\"1\",status=\"success\"} 3"));
        assert!(text.contains("inference_server_state{state=\"ready\"} 1"));
        assert!(text.contains("inference_server_state{state=\"loading\"} 0"));
        assert!(text.contains("ml_queue_depth{queue=\"batch\"} 0"));
    }
}
