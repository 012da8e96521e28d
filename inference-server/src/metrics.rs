//! The contract's metrics as typed handles. Handles of hot paths are looked up once, when a model is loaded or the server starts.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric as Registrable, Registry};
use tidewright_contract::metrics::{self as names, Metric, cache, load, outcome, phase, queue, reload, span, status};

use self::buckets::{Items, Seconds};
use self::exemplars::{Exemplified, TraceId};
pub use self::handles::{SpanMetrics, TierMetrics, TlsMetrics};
use self::process::Process;
use self::runs::Runs;
use self::summed::{Summed, Sums};
use crate::lifecycle::{STATES, State};

mod buckets;
pub mod exemplars;
mod handles;
mod process;
pub mod runs;
pub mod summed;

type Labels = Vec<(&'static str, String)>;
type Counters = Family<Labels, Counter>;
type Gauges = Family<Labels, Gauge>;

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    predictions: Counters,
    prediction_duration: Family<Labels, Exemplified, Seconds>,
    phase_duration: Family<Labels, Histogram, Seconds>,
    batch_size: Family<Labels, Histogram, Items>,
    http_requests: Counters,
    http_received: Counters,
    http_duration: Family<Labels, Exemplified, Seconds>,
    queue_depth: Gauges,
    cache_requests: Counters,
    cache_bytes: Gauges,
    model_info: Gauges,
    engine_workers: Gauges,
    engine_restarts: Counters,
    state: Gauges,
    build_info: Gauges,
    tls_reloads: Counters,
    model_loads: Counters,
    model_unloads: Counters,
    express_runs: Counters,
    /// From the order to load a model until it serves.
    pub load_duration: Histogram,
    pub models_loaded: Gauge,
    pub models_loaded_bytes: Gauge,
    trace_spans: Counters,
    /// Answered requests, ever, and the time of work on requests: waiting excluded, a run once for each request in it.
    pub work: Sums,
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
    pub duration: Summed<Exemplified>,
    /// Requests that were not answered with a prediction.
    pub failed: Sums,
    pub preprocess: Summed,
    pub queue: Summed,
    pub inference: Summed,
    pub runs: Runs,
    pub work: Sums,
    pub postprocess: Summed,
    pub batch_size: Histogram,
    pub express_runs: Counter,
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
    pub duration: Exemplified,
    /// The commonest series, looked up once.
    pub post_ok: Counter,
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
            model_loads: add(&mut registry, &names::ML_MODEL_LOADS, Counters::default()),
            model_unloads: add(&mut registry, &names::ML_MODEL_UNLOADS, Counters::default()),
            express_runs: add(&mut registry, &names::ML_EXPRESS_RUNS, Counters::default()),
            load_duration: add(&mut registry, &names::ML_MODEL_LOAD_DURATION, Seconds.new_metric()),
            models_loaded: add(&mut registry, &names::ML_MODELS_LOADED, Gauge::default()),
            models_loaded_bytes: add(&mut registry, &names::ML_MODELS_LOADED_BYTES, Gauge::default()),
            trace_spans: add(&mut registry, &names::TRACE_SPANS, Counters::default()),
            work: Sums::default(),
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
            runs: Runs::default(),
            work: self.work.clone(),
            postprocess: phase(phase::POSTPROCESS),
            batch_size: self
                .batch_size
                .get_or_create_owned(&labels(&names::ML_BATCH_SIZE, [model, version])),
            express_runs: self
                .express_runs
                .get_or_create_owned(&labels(&names::ML_EXPRESS_RUNS, [model, version])),
            workers: self
                .engine_workers
                .get_or_create_owned(&labels(&names::ML_ENGINE_WORKERS, [model, version])),
            restarts: self
                .engine_restarts
                .get_or_create_owned(&labels(&names::ML_ENGINE_RESTARTS, [model, version])),
        }
    }

    /// Says which file runs where, by the values of the metric's labels.
    pub fn set_model_info(&self, info: [&str; 5]) {
        self.model_info
            .get_or_create(&labels(&names::ML_MODEL_INFO, info))
            .set(1);
    }

    /// A model that ran there does so no more.
    pub fn forget_model_info(&self, info: [&str; 5]) {
        self.model_info.remove(&labels(&names::ML_MODEL_INFO, info));
    }

    /// Counts a load of a model.
    pub fn loads(&self, cause: &str, success: bool) {
        let outcome = if success { load::SUCCESS } else { load::ERROR };
        self.model_loads
            .get_or_create(&labels(&names::ML_MODEL_LOADS, [cause, outcome]))
            .inc();
    }

    /// Counts an unload of a model.
    pub fn unloaded(&self, cause: &str) {
        self.model_unloads
            .get_or_create(&labels(&names::ML_MODEL_UNLOADS, [cause]))
            .inc();
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

    /// Counters of spans; each series exists from now on.
    pub fn spans(&self) -> SpanMetrics {
        let counter = |outcome: &str| {
            self.trace_spans
                .get_or_create_owned(&labels(&names::TRACE_SPANS, [outcome]))
        };
        SpanMetrics {
            recorded: counter(span::RECORDED),
            sent: counter(span::SENT),
            failed: counter(span::FAILED),
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

    /// Records the time of one answered request, and its trace where it has one.
    pub fn took(&self, duration: Duration, trace: Option<TraceId>) {
        self.duration.observe_traced(duration.as_secs_f64(), trace);
    }
}

/// Shared by everyone who counts.
pub type SharedMetrics = Arc<Metrics>;

// The gauges and counters above are these atomics; naming them keeps a change of the library's defaults from going unnoticed.
const _: fn(Gauge<i64, AtomicI64>) -> Gauge = |gauge| gauge;
const _: fn(Counter<u64, AtomicU64>) -> Counter = |counter| counter;

#[cfg(test)]
mod tests;
