//! The config file of `inference-server serve`: JSON, camelCase, unknown fields refused, every field but `models` with a default.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::problems::{Problem, Problems};
use crate::{exit, routes};

/// Everything `serve` needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServeConfig {
    /// The models to serve; the first one answers `/api/v1/predict`. At least one, unless there is a repository's directory.
    #[serde(default)]
    pub models: Vec<ModelConfig>,
    /// The serving port.
    #[serde(default = "default_http", skip_serializing_if = "is_default_http")]
    pub http: ListenConfig,
    /// The serving port for gRPC.
    #[serde(default = "default_grpc", skip_serializing_if = "is_default_grpc")]
    pub grpc: ListenConfig,
    /// The port of metrics and probes.
    #[serde(default = "default_admin", skip_serializing_if = "is_default_admin")]
    pub admin: AdminConfig,
    /// TLS on the two serving ports; without it they speak in the clear. The admin port always does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
    /// Models that come and go while the server runs.
    #[serde(default, skip_serializing_if = "is_default")]
    pub repository: RepositoryConfig,
    /// How requests become batches.
    #[serde(default)]
    pub batcher: BatcherConfig,
    /// What is refused.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// Where results are kept.
    #[serde(default)]
    pub cache: CacheConfig,
    /// What runs the models.
    #[serde(default)]
    pub execution: ExecutionConfig,
    /// How the server ends.
    #[serde(default)]
    pub drain: DrainConfig,
    /// What is logged.
    #[serde(default)]
    pub log: LogConfig,
    /// Where traces of requests are sent; without it nothing is traced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracing: Option<TracingConfig>,
    /// Where the reason of a failed start is written; ignored when the file does not exist.
    #[serde(default = "default_termination_log_path")]
    pub termination_log_path: PathBuf,
}

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListenConfig {
    /// IP address and port; port 0 takes a free one (the ready line says which).
    pub address: SocketAddr,
}

/// A certificate, in files that are read again when they change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate and those that vouch for it, in this order, as PEM.
    pub certificate: PathBuf,
    /// Its private key, as PEM.
    pub key: PathBuf,
}

/// How requests become batches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BatcherConfig {
    /// Most items in one run of the model.
    pub max_batch_size: u32,
    /// Longest time that a free worker waits for a fuller batch. 0: never waits, takes what is there (the best choice on CPU).
    pub max_latency_millis: u32,
    /// When a batch is closed. By default `adaptive`; `fixedDelay` where `max_latency_millis` asks for a delay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<BatchingPolicy>,
}

/// When a batch is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum BatchingPolicy {
    /// By what runs of the model cost here: as many items as still make each cheaper, as few as the oldest deadline needs, and no waiting that
    /// does not pay.
    Adaptive,
    /// When it is full or its oldest item has waited for `maxLatencyMillis`: Triton's dynamic batcher, KServe's `batcher`. Without a delay: whatever waits.
    FixedDelay,
}

impl BatcherConfig {
    /// The policy that is meant.
    pub fn policy(&self) -> BatchingPolicy {
        self.policy.unwrap_or(if self.max_latency_millis == 0 {
            BatchingPolicy::Adaptive
        } else {
            BatchingPolicy::FixedDelay
        })
    }
}

/// Largest `limits.latencyObjectiveMillis`: an hour, as the longest timeout.
pub const LATENCY_OBJECTIVE_MILLIS_MAX: u32 = 3_600_000;

/// What is refused, so that memory and time stay bounded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Requests that may wait per model; beyond it 429.
    pub queue_capacity: u32,
    /// Requests that may be accepted and unanswered at once (KServe's `containerConcurrency`); beyond it 429. 0: unlimited.
    pub max_concurrency: u32,
    /// Time for one request, from its head to its answer; beyond it 504.
    pub timeout_seconds: u32,
    /// Time in which callers want their answers. A request that, as far as is known, would be answered later is refused with 429, at once or when those
    /// before it have taken longer than was known, so that what is answered is in time under any load, as far as estimates are right. 0: nobody has said.
    #[serde(skip_serializing_if = "is_default")]
    pub latency_objective_millis: u32,
    /// Largest request body; beyond it 413.
    pub body_bytes_max: u64,
    /// Bodies of all requests that are being read or computed, together; beyond it 429. One of the largest always fits.
    pub bodies_bytes_max: u64,
    /// Open connections on the serving port; beyond it new ones wait in the kernel's backlog.
    pub connections_max: u32,
    /// Time for a client to send a request's head on an open connection, idle time between requests included; and time in which nothing can
    /// be written to it because it does not read.
    pub idle_timeout_seconds: u32,
}

/// Result caches; both levels are optional and asked in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CacheConfig {
    /// Level 1: this process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryCacheConfig>,
    /// Level 2: Redis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisCacheConfig>,
}

/// Level 1: this process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MemoryCacheConfig {
    /// Bytes of results and keys to hold; the least useful go first.
    pub max_bytes: u64,
    /// Age at which a result is computed anew.
    pub ttl_seconds: u32,
}

/// Level 2: Redis.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RedisCacheConfig {
    /// `redis://[user[:password]@]host[:port][/database]`. `${NAME}` is replaced by the environment variable, so that no password need stand
    /// in the file. Never logged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// A file that holds the URL (a mounted Secret), instead of `url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_file: Option<PathBuf>,
    /// Age at which Redis forgets a result.
    #[serde(default = "default_ttl_seconds")]
    pub ttl_seconds: u32,
    /// Longest time to wait for one answer of Redis; slower is a miss.
    #[serde(default = "default_redis_timeout_millis")]
    pub timeout_millis: u32,
}

/// How the server ends after SIGTERM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DrainConfig {
    /// Time during which readiness is already false and requests are still accepted: removal from the endpoints takes a moment.
    pub grace_seconds: u32,
    /// Time for what was accepted, after the grace; what is then unanswered is given up, counted and logged.
    pub timeout_seconds: u32,
}

/// What is logged, to standard error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LogConfig {
    /// Lines for machines or for people.
    pub format: LogFormat,
    /// Filter in the notation of tracing: `info`, `tidewright_server=debug,warn`.
    pub filter: String,
    /// One line for so many requests; 1: for each, 0: for none. Where it is not 0, each request that failed for a reason of the server's has one.
    pub access_one_in: u32,
}

/// Shape of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Human,
}

impl ServeConfig {
    /// A config with these models and a default for everything else.
    pub fn new(models: Vec<ModelConfig>) -> Self {
        Self {
            models,
            http: default_http(),
            grpc: default_grpc(),
            admin: default_admin(),
            tls: None,
            repository: RepositoryConfig::default(),
            batcher: BatcherConfig::default(),
            limits: LimitsConfig::default(),
            cache: CacheConfig::default(),
            execution: ExecutionConfig::default(),
            drain: DrainConfig::default(),
            log: LogConfig::default(),
            tracing: None,
            termination_log_path: default_termination_log_path(),
        }
    }

    /// Time a pod needs to end in the worst case: the least value of Kubernetes' `terminationGracePeriodSeconds`.
    pub fn termination_seconds(&self) -> u32 {
        self.drain.grace_seconds.saturating_add(self.drain.timeout_seconds)
    }

    /// Checks every bound and every rule between fields.
    ///
    /// # Errors
    /// All problems, each with the path of the field.
    pub fn validate(&self) -> Result<(), Vec<Problem>> {
        let mut problems = Problems::default();
        crate::config::rules::check(self, &mut problems);
        problems.into_result()
    }
}

impl RedisCacheConfig {
    /// A Redis at this URL, with defaults for the rest.
    pub fn with_url(url: impl Into<String>) -> Self {
        Self {
            url: Some(url.into()),
            url_file: None,
            ttl_seconds: default_ttl_seconds(),
            timeout_millis: default_redis_timeout_millis(),
        }
    }
}

impl fmt::Debug for RedisCacheConfig {
    /// The URL may hold a password: it is never shown.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RedisCacheConfig")
            .field("url", &self.url.as_ref().map(|_| "(hidden)"))
            .field("url_file", &self.url_file)
            .field("ttl_seconds", &self.ttl_seconds)
            .field("timeout_millis", &self.timeout_millis)
            .finish()
    }
}

impl Default for BatcherConfig {
    /// 32 items: the knee of most small models' throughput on CPU. No waiting: a CPU gains nothing from it.
    fn default() -> Self {
        Self {
            max_batch_size: 32,
            max_latency_millis: 0,
            policy: None,
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            queue_capacity: 1024,
            max_concurrency: 0,
            timeout_seconds: 60,
            latency_objective_millis: 0,
            body_bytes_max: 16 * 1024 * 1024,
            bodies_bytes_max: 256 * 1024 * 1024,
            connections_max: 4096,
            idle_timeout_seconds: 75,
        }
    }
}

impl Default for MemoryCacheConfig {
    fn default() -> Self {
        Self {
            max_bytes: 64 * 1024 * 1024,
            ttl_seconds: default_ttl_seconds(),
        }
    }
}

impl Default for DrainConfig {
    /// No grace: someone at a terminal wants Ctrl-C to work at once. The operator writes 5 s.
    fn default() -> Self {
        Self {
            grace_seconds: 0,
            timeout_seconds: 30,
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            format: LogFormat::Human,
            filter: "info".to_owned(),
            access_one_in: 0,
        }
    }
}

fn default_http() -> ListenConfig {
    ListenConfig {
        address: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), routes::HTTP_PORT),
    }
}

fn is_default_http(listen: &ListenConfig) -> bool {
    *listen == default_http()
}

fn default_grpc() -> ListenConfig {
    ListenConfig {
        address: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), routes::GRPC_PORT),
    }
}

fn is_default_grpc(listen: &ListenConfig) -> bool {
    *listen == default_grpc()
}

fn default_admin() -> AdminConfig {
    AdminConfig {
        address: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), routes::ADMIN_PORT),
        profiling: false,
    }
}

fn is_default_admin(admin: &AdminConfig) -> bool {
    *admin == default_admin()
}

/// What is so by default is not written: a server from before the field reads the rest.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// 5 minutes: the short end of what result caches are given.
fn default_ttl_seconds() -> u32 {
    300
}

/// Ten times a slow answer on loopback, and less than most models take.
fn default_redis_timeout_millis() -> u32 {
    50
}

fn default_termination_log_path() -> PathBuf {
    PathBuf::from(exit::TERMINATION_LOG_PATH)
}

#[path = "config_execution.rs"]
mod execution;
#[path = "config_models.rs"]
mod models;
#[path = "config_rules.rs"]
mod rules;
#[path = "config_telemetry.rs"]
mod telemetry;

pub use execution::{ExecutionConfig, ExecutionProvider, GraphOptimization};
pub use models::{ModelConfig, RepositoryConfig, is_name};
pub use telemetry::{AdminConfig, TracingConfig};
