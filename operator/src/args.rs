//! The command line and the environment as typed values.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// Runs InferenceServices on Kubernetes: reconciles them, scales them, says why.
#[derive(Debug, Parser)]
#[command(name = "tidewright-operator", version, about, max_term_width = 120)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the operator until SIGTERM.
    Run(Box<RunArgs>),
    /// Print the CustomResourceDefinitions as YAML, ready for `kubectl apply -f -`.
    Crd,
    /// Print a completion script for a shell.
    Completion {
        /// The shell.
        shell: Shell,
    },
}

/// Shape of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object per line.
    Json,
}

/// Options of `run`. Each can also be given by the environment.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Namespace the operator runs in: its Lease and its certificate live there.
    #[arg(long, env = "POD_NAMESPACE", default_value = "tidewright-system")]
    pub namespace: String,
    /// Name of this process in the Lease and in events; must differ between replicas.
    #[arg(long, env = "POD_NAME", default_value = "tidewright-operator")]
    pub pod_name: String,

    /// Image of the inference server.
    #[arg(long, env = "TIDEWRIGHT_SERVER_IMAGE")]
    pub server_image: String,
    /// Image of Redis, for the cache beside each server.
    #[arg(long, env = "TIDEWRIGHT_REDIS_IMAGE")]
    pub redis_image: String,
    /// Pull policy of both images: IfNotPresent, Always or Never.
    #[arg(long, env = "TIDEWRIGHT_IMAGE_PULL_POLICY", default_value = "IfNotPresent")]
    pub image_pull_policy: String,
    /// Seconds for which a server that was told to end still takes requests, until every node has taken it out of its Services.
    #[arg(long, env = "TIDEWRIGHT_DRAIN_GRACE_SECONDS", default_value_t = 5)]
    pub drain_grace_seconds: u32,
    /// Namespace whose pods may read the servers' metrics; without it every namespace may.
    #[arg(long, env = "TIDEWRIGHT_MONITORING_NAMESPACE")]
    pub monitoring_namespace: Option<String>,

    /// Address of Prometheus, e.g. http://prometheus.monitoring:9090. Without it there is no request rate and no queue depth.
    #[arg(long, env = "TIDEWRIGHT_PROMETHEUS_URL")]
    pub prometheus_url: Option<String>,
    /// File with the CA that signed Prometheus' certificate (PEM), instead of the system's.
    #[arg(long, env = "TIDEWRIGHT_PROMETHEUS_CA_FILE")]
    pub prometheus_ca_file: Option<PathBuf>,
    /// File with a bearer token for Prometheus; it is read anew for each query, and sent to no other address.
    #[arg(long, env = "TIDEWRIGHT_PROMETHEUS_TOKEN_FILE")]
    pub prometheus_token_file: Option<PathBuf>,
    /// Further Prometheus addresses that an External metric's `serverAddress` may name.
    #[arg(
        long = "allowed-prometheus-url",
        env = "TIDEWRIGHT_ALLOWED_PROMETHEUS_URLS",
        value_delimiter = ','
    )]
    pub allowed_prometheus_urls: Vec<String>,
    /// Seconds between two rounds of queries.
    #[arg(long, env = "TIDEWRIGHT_QUERY_INTERVAL_SECONDS", default_value = "5", value_parser = seconds)]
    pub query_interval_seconds: Duration,
    /// Seconds between two scrapes of a server, as Prometheus is configured: windows and ages follow from it.
    #[arg(long, env = "TIDEWRIGHT_SCRAPE_INTERVAL_SECONDS", default_value = "5", value_parser = seconds)]
    pub scrape_interval_seconds: Duration,
    /// Seconds for which the last good value stands in for a missing one. 0: a missing value is an error at once, and the HorizontalPodAutoscaler holds.
    #[arg(long, env = "TIDEWRIGHT_HOLD_SECONDS", default_value = "0", value_parser = seconds_or_none)]
    pub hold_seconds: Duration,

    /// Seconds between two decisions of the operator's own autoscaler about a service in mode Advise or Direct. In mode Hpa, 15.
    #[arg(long, env = "TIDEWRIGHT_SCALING_INTERVAL_SECONDS", default_value = "1", value_parser = seconds)]
    pub scaling_interval_seconds: Duration,
    /// Seconds from the operator's first decision about a service in which it shrinks nothing: it has to see enough first, and after each start anew.
    #[arg(long, env = "TIDEWRIGHT_SCALING_RELEARN_SECONDS", default_value = "300", value_parser = seconds_or_none)]
    pub scaling_relearn_seconds: Duration,

    /// Ask the pods themselves what they do at each such decision (GET /signals on their admin port), beside Prometheus. Then nothing shrinks unless
    /// both are known. Needs a way to the pods' addresses.
    #[arg(long, env = "TIDEWRIGHT_ASK_PODS", default_value_t = true, action = clap::ArgAction::Set)]
    pub ask_pods: bool,

    /// Bytes of memory for the ledger: every decision, in every mode, with what it was made of, for `kubectl tide`. 0: none is kept.
    #[arg(long, env = "TIDEWRIGHT_LEDGER_BYTES", default_value_t = 8 << 20)]
    pub ledger_bytes: usize,

    /// Serve custom.metrics.k8s.io for HorizontalPodAutoscalers.
    #[arg(long, env = "TIDEWRIGHT_METRICS_API", default_value_t = true, action = clap::ArgAction::Set)]
    pub metrics_api: bool,
    /// Where the metrics API listens.
    #[arg(long, env = "TIDEWRIGHT_METRICS_API_ADDRESS", default_value = "0.0.0.0:8443")]
    pub metrics_api_address: SocketAddr,
    /// Service through which the API server reaches the metrics API.
    #[arg(long, env = "TIDEWRIGHT_SERVICE_NAME", default_value = "tidewright-operator")]
    pub service_name: String,
    /// Port of that Service.
    #[arg(long, env = "TIDEWRIGHT_SERVICE_PORT", default_value_t = 443)]
    pub service_port: u16,
    /// ClusterRole that owns the APIServices, so that they go when it is uninstalled.
    #[arg(long, env = "TIDEWRIGHT_OWNER_CLUSTER_ROLE")]
    pub owner_cluster_role: Option<String>,

    /// Where metrics and probes are served.
    #[arg(long, env = "TIDEWRIGHT_ADMIN_ADDRESS", default_value = "0.0.0.0:8081")]
    pub admin_address: SocketAddr,

    /// Let only the holder of a Lease write; needed with more than one replica.
    #[arg(long, env = "TIDEWRIGHT_LEADER_ELECT", default_value_t = true, action = clap::ArgAction::Set)]
    pub leader_elect: bool,
    /// Name of the Lease.
    #[arg(long, env = "TIDEWRIGHT_LEASE_NAME", default_value = "tidewright-operator")]
    pub lease_name: String,
    /// Seconds after which another may take the Lease of a holder that has gone silent.
    #[arg(long, env = "TIDEWRIGHT_LEASE_DURATION_SECONDS", default_value = "15", value_parser = seconds)]
    pub lease_duration_seconds: Duration,

    /// Services that are reconciled at a time.
    #[arg(long, env = "TIDEWRIGHT_RECONCILE_CONCURRENCY", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub reconcile_concurrency: u16,
    /// Longest time of one reconcile.
    #[arg(long, env = "TIDEWRIGHT_RECONCILE_TIMEOUT_SECONDS", default_value = "60", value_parser = seconds)]
    pub reconcile_timeout_seconds: Duration,

    /// Shape of log lines.
    #[arg(long, env = "TIDEWRIGHT_LOG_FORMAT", value_enum, default_value = "human")]
    pub log_format: LogFormat,
    /// What is logged: a level, or a filter such as `info,tidewright_operator=debug`.
    #[arg(long, env = "TIDEWRIGHT_LOG", default_value = "info")]
    pub log: String,
}

fn seconds(text: &str) -> Result<Duration, String> {
    match seconds_or_none(text)? {
        Duration::ZERO => Err("must be at least 1".to_owned()),
        some => Ok(some),
    }
}

fn seconds_or_none(text: &str) -> Result<Duration, String> {
    const DAY_SECONDS: u64 = 86_400;
    let whole: u64 = text
        .parse()
        .map_err(|_| "is not a whole number of seconds".to_owned())?;
    if whole > DAY_SECONDS {
        Err(format!("must be at most {DAY_SECONDS}"))
    } else {
        Ok(Duration::from_secs(whole))
    }
}
