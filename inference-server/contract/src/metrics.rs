//! Every metric the server exposes: name, kind, help, label keys. Units: seconds, bytes, ratios 0..1, as in the name.
//!
//! Names are written as a scrape shows them. Prometheus client libraries that follow OpenMetrics append `_total` to counters themselves, and
//! the server registers them through [`Metric::registered_name`]; queries use [`Metric::name`].

/// What kind of series a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; ends in `_total`.
    Counter,
    /// Goes both ways.
    Gauge,
    /// Buckets, `_sum` and `_count`.
    Histogram,
}

/// One metric of the vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// As in a scrape.
    pub name: &'static str,
    /// Kind of series.
    pub kind: Kind,
    /// One sentence.
    pub help: &'static str,
    /// Label keys, in order.
    pub labels: &'static [&'static str],
}

impl Metric {
    /// The name to give to a client library that appends `_total` to counters by itself.
    pub fn registered_name(&self) -> &'static str {
        match self.kind {
            Kind::Counter => self.name.strip_suffix("_total").unwrap_or(self.name),
            Kind::Gauge | Kind::Histogram => self.name,
        }
    }
}

/// Label keys.
pub mod label {
    /// Name of the model.
    pub const MODEL: &str = "model";
    /// Version of the model.
    pub const MODEL_VERSION: &str = "model_version";
    /// Outcome of a prediction, one of [`super::status`].
    pub const STATUS: &str = "status";
    /// Route template, one of [`crate::routes::ALL`] or [`crate::routes::UNMATCHED`].
    pub const ROUTE: &str = "route";
    /// HTTP method; `other` for anything unusual.
    pub const METHOD: &str = "method";
    /// HTTP status code.
    pub const CODE: &str = "code";
    /// Part of the work, one of [`super::phase`].
    pub const PHASE: &str = "phase";
    /// Which queue, one of [`super::queue`].
    pub const QUEUE: &str = "queue";
    /// Which cache, one of [`super::cache`].
    pub const CACHE: &str = "cache";
    /// Level of a cache, one of [`super::tier`].
    pub const TIER: &str = "tier";
    /// Result of asking a cache level, one of [`super::outcome`], of taking up a certificate, one of [`super::reload`],
    /// or of sending a span, one of [`super::span`].
    pub const OUTCOME: &str = "outcome";
    /// Content address of the model file.
    pub const DIGEST: &str = "digest";
    /// Execution provider that runs the model.
    pub const PROVIDER: &str = "provider";
    /// Execution provider that should run it: another one where that does not work.
    pub const PREFERRED_PROVIDER: &str = "preferred_provider";
    /// State of the server or of a worker.
    pub const STATE: &str = "state";
    /// Why a model was loaded or unloaded, one of [`super::cause`].
    pub const CAUSE: &str = "cause";
    /// Version of the server.
    pub const VERSION: &str = "version";
    /// Version of ONNX Runtime.
    pub const RUNTIME_VERSION: &str = "runtime_version";
}

/// Values of the label `status`.
pub mod status {
    /// Answered with a prediction.
    pub const SUCCESS: &str = "success";
    /// Failed: bad input or an engine failure.
    pub const ERROR: &str = "error";
    /// Refused: queue full, too many at once, not ready.
    pub const REJECTED: &str = "rejected";
    /// Not done before its deadline.
    pub const TIMEOUT: &str = "timeout";
    /// The caller left before it was answered.
    pub const CANCELLED: &str = "cancelled";
    /// All of them.
    pub const ALL: [&str; 5] = [SUCCESS, ERROR, REJECTED, TIMEOUT, CANCELLED];
}

/// Values of the label `phase`.
pub mod phase {
    /// Parse and check the request.
    pub const PREPROCESS: &str = "preprocess";
    /// Wait for a worker.
    pub const QUEUE: &str = "queue";
    /// The model's run, for the whole batch.
    pub const INFERENCE: &str = "inference";
    /// Write the answer.
    pub const POSTPROCESS: &str = "postprocess";
    /// All of them.
    pub const ALL: [&str; 4] = [PREPROCESS, QUEUE, INFERENCE, POSTPROCESS];
}

/// Values of the label `queue`.
pub mod queue {
    /// Requests that wait for a place in a batch.
    pub const BATCH: &str = "batch";
}

/// Values of the label `cache`.
pub mod cache {
    /// Predictions for identical input.
    pub const RESULT: &str = "result";
}

/// Values of the label `tier`.
pub mod tier {
    /// This process.
    pub const MEMORY: &str = "memory";
    /// Redis.
    pub const REDIS: &str = "redis";
}

/// Values of the label `outcome` of [`super::ML_CACHE_REQUESTS`].
pub mod outcome {
    /// Found.
    pub const HIT: &str = "hit";
    /// Not found.
    pub const MISS: &str = "miss";
    /// The level failed or was too slow, and was skipped.
    pub const ERROR: &str = "error";
    /// The level is known to be down, and was not asked.
    pub const SKIPPED: &str = "skipped";
    /// An identical request was under way; its result was shared.
    pub const SHARED: &str = "shared";
    /// All of them.
    pub const ALL: [&str; 5] = [HIT, MISS, ERROR, SKIPPED, SHARED];
}

/// Values of the label `state` of [`super::SERVER_STATE`].
pub mod state {
    /// All of them, in the order in which they follow each other.
    pub const ALL: [&str; 6] = ["starting", "loading", "warming", "ready", "draining", "stopped"];
}

const fn counter(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Metric {
    Metric {
        name,
        kind: Kind::Counter,
        help,
        labels,
    }
}

const fn gauge(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Metric {
    Metric {
        name,
        kind: Kind::Gauge,
        help,
        labels,
    }
}

const fn histogram(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Metric {
    Metric {
        name,
        kind: Kind::Histogram,
        help,
        labels,
    }
}

/// Predictions by outcome; a batch of n counts n.
pub const ML_PREDICTIONS: Metric = counter(
    "ml_predictions_total",
    "Predictions by outcome; a batch of n counts n",
    &[label::MODEL, label::MODEL_VERSION, label::STATUS],
);
/// Time from a complete request to its answer.
pub const ML_PREDICTION_DURATION: Metric = histogram(
    "ml_prediction_duration_seconds",
    "Time from a parsed request to its answer, cache hits included",
    &[label::MODEL, label::MODEL_VERSION],
);
/// Answered HTTP requests.
pub const HTTP_REQUESTS: Metric = counter(
    "http_requests_total",
    "Answered HTTP requests and gRPC calls",
    &[label::ROUTE, label::METHOD, label::CODE],
);
/// HTTP requests that arrived, refused ones included: the signal for scaling by request rate.
pub const HTTP_REQUESTS_RECEIVED: Metric = counter(
    "http_requests_received_total",
    "HTTP requests and gRPC calls that arrived, counted before any is refused",
    &[label::ROUTE],
);
/// Time from a request's head to the end of its answer's head.
pub const HTTP_REQUEST_DURATION: Metric = histogram(
    "http_request_duration_seconds",
    "Time from a request's head to its answer",
    &[label::ROUTE],
);
/// Where the time goes.
pub const ML_PHASE_DURATION: Metric = histogram(
    "ml_inference_phase_duration_seconds",
    "Time of one phase of a prediction",
    &[label::MODEL, label::MODEL_VERSION, label::PHASE],
);
/// Items per run of the model.
pub const ML_BATCH_SIZE: Metric = histogram(
    "ml_batch_size",
    "Items in one run of the model",
    &[label::MODEL, label::MODEL_VERSION],
);
/// Runs without a queue.
pub const ML_EXPRESS_RUNS: Metric = counter(
    "ml_express_runs_total",
    "Small runs on the thread that read the request, because no other waited",
    &[label::MODEL, label::MODEL_VERSION],
);
/// Requests that wait: the signal for scaling by queue depth.
pub const ML_QUEUE_DEPTH: Metric = gauge(
    "ml_queue_depth",
    "Accepted requests that wait and are not yet being computed",
    &[label::QUEUE],
);
/// Inference requests accepted and not yet answered, those in the queue included.
pub const ML_REQUESTS_IN_FLIGHT: Metric = gauge(
    "ml_requests_in_flight",
    "Inference requests accepted and not yet answered",
    &[],
);
/// Cache look-ups by level.
pub const ML_CACHE_REQUESTS: Metric = counter(
    "ml_cache_requests_total",
    "Look-ups of a cache level by outcome",
    &[label::CACHE, label::TIER, label::OUTCOME],
);
/// Bytes held by a cache level of this process.
pub const ML_CACHE_BYTES: Metric = gauge(
    "ml_cache_bytes",
    "Bytes held by a cache level of this process",
    &[label::CACHE, label::TIER],
);
/// 1 for each loaded model.
pub const ML_MODEL_INFO: Metric = gauge(
    "ml_model_info",
    "1 for each loaded model, with what runs it",
    &[
        label::MODEL,
        label::MODEL_VERSION,
        label::DIGEST,
        label::PROVIDER,
        label::PREFERRED_PROVIDER,
    ],
);
/// Loads of models.
pub const ML_MODEL_LOADS: Metric = counter(
    "ml_model_loads_total",
    "Loads of models by why they were made and how they ended",
    &[label::CAUSE, label::OUTCOME],
);
/// Unloads of models.
pub const ML_MODEL_UNLOADS: Metric = counter(
    "ml_model_unloads_total",
    "Unloads of models by why they were made",
    &[label::CAUSE],
);
/// Time of a load.
pub const ML_MODEL_LOAD_DURATION: Metric = histogram(
    "ml_model_load_duration_seconds",
    "Time from the order to load a model until it serves",
    &[],
);
/// Loaded models.
pub const ML_MODELS_LOADED: Metric = gauge("ml_models_loaded", "Models that are loaded", &[]);
/// Bytes of the loaded models.
pub const ML_MODELS_LOADED_BYTES: Metric = gauge(
    "ml_models_loaded_bytes",
    "Bytes of the loaded models' weights, in all their sessions",
    &[],
);
/// Engine workers by state.
pub const ML_ENGINE_WORKERS: Metric = gauge(
    "ml_engine_workers",
    "Engine workers that can run the model",
    &[label::MODEL, label::MODEL_VERSION],
);
/// Engine workers that were replaced after a panic.
pub const ML_ENGINE_RESTARTS: Metric = counter(
    "ml_engine_restarts_total",
    "Engine workers replaced after a panic or a lost session",
    &[label::MODEL, label::MODEL_VERSION],
);
/// 1 for the current state.
pub const SERVER_STATE: Metric = gauge(
    "inference_server_state",
    "1 for the state the server is in, 0 for the others",
    &[label::STATE],
);
/// Constant 1.
pub const SERVER_BUILD_INFO: Metric = gauge(
    "inference_server_build_info",
    "Constant 1, with the versions in use",
    &[label::VERSION, label::RUNTIME_VERSION],
);
/// Open connections on the serving ports, HTTP and gRPC.
pub const HTTP_CONNECTIONS: Metric = gauge("http_connections", "Open connections on the serving ports", &[]);
/// Changes of the certificate's files.
pub const TLS_RELOADS: Metric = counter(
    "inference_server_tls_reloads_total",
    "Changes of the files of the TLS certificate, by whether the new one is served",
    &[label::OUTCOME],
);
/// Spans of traced requests.
pub const TRACE_SPANS: Metric = counter(
    "inference_server_trace_spans_total",
    "Spans of traced requests: recorded, and of these sent to the collector or failed",
    &[label::OUTCOME],
);
/// CPU time of the process.
pub const PROCESS_CPU: Metric = counter(
    "process_cpu_seconds_total",
    "User and system CPU time of the process in seconds",
    &[],
);
/// Resident memory of the process.
pub const PROCESS_RESIDENT_MEMORY: Metric = gauge(
    "process_resident_memory_bytes",
    "Resident memory of the process in bytes",
    &[],
);
/// Open file descriptors of the process.
pub const PROCESS_OPEN_FDS: Metric = gauge("process_open_fds", "Open file descriptors of the process", &[]);
/// Threads of the process.
pub const PROCESS_THREADS: Metric = gauge("process_threads", "Threads of the process", &[]);

/// The whole vocabulary.
pub const ALL: [Metric; 29] = [
    ML_PREDICTIONS,
    ML_PREDICTION_DURATION,
    HTTP_REQUESTS,
    HTTP_REQUESTS_RECEIVED,
    HTTP_REQUEST_DURATION,
    ML_PHASE_DURATION,
    ML_BATCH_SIZE,
    ML_EXPRESS_RUNS,
    ML_QUEUE_DEPTH,
    ML_REQUESTS_IN_FLIGHT,
    ML_CACHE_REQUESTS,
    ML_CACHE_BYTES,
    ML_MODEL_INFO,
    ML_MODEL_LOADS,
    ML_MODEL_UNLOADS,
    ML_MODEL_LOAD_DURATION,
    ML_MODELS_LOADED,
    ML_MODELS_LOADED_BYTES,
    ML_ENGINE_WORKERS,
    ML_ENGINE_RESTARTS,
    SERVER_STATE,
    SERVER_BUILD_INFO,
    HTTP_CONNECTIONS,
    TLS_RELOADS,
    TRACE_SPANS,
    PROCESS_CPU,
    PROCESS_RESIDENT_MEMORY,
    PROCESS_OPEN_FDS,
    PROCESS_THREADS,
];

#[path = "metrics_values.rs"]
mod values;

pub use values::{cause, load, reload, span};
