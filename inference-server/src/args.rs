//! The command line, and how it is laid over the config file: flag over environment over file over default.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use tidewright_contract::config::{
    BatchingPolicy, ExecutionProvider, GraphOptimization, LogFormat, MemoryCacheConfig, ModelConfig, RedisCacheConfig,
    ServeConfig, TlsConfig,
};
use tidewright_contract::exit;

mod telemetry;

/// Serves ONNX models over HTTP and gRPC: Open Inference Protocol v2, KServe v1, and /api/v1/predict.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Load models and serve them until SIGTERM.
    ///
    /// Exit codes: 0 ended as asked; 1 unexpected failure; 2 wrong usage; 3 the config cannot be used; 4 a model cannot be loaded; 5 ONNX Runtime or
    /// every execution provider is missing; 6 the drain timeout passed with requests unanswered.
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(Box<ServeArgs>),
    /// Read a config file and say everything that is wrong with it. Exit codes: 0 usable, 3 not.
    CheckConfig(CheckConfigArgs),
    /// Say what a model takes and gives, what it is made of, whether it can be batched, and how much memory it needs.
    ///
    /// Exit codes: 0; 4 the model cannot be served; 5 ONNX Runtime or the execution provider is missing.
    Inspect(InspectArgs),
    /// Measure what a run of a model costs on this machine, by the number of items in it. Exit codes as for inspect.
    Bench(BenchArgs),
    /// Load a model on trial: what the server starts as a child process. Request and answer are JSON on standard input and output.
    #[command(hide = true)]
    ProbeModel,
    /// Print a completion script for a shell.
    Completion(CompletionArgs),
}

const SERVE_EXAMPLES: &str = "\
Examples:
  inference-server serve --model digits=digits.onnx
  inference-server serve --config /etc/tidewright/server.json
  inference-server serve --model a=a.onnx --model b=b.onnx --cache-bytes 67108864 --redis redis://127.0.0.1

The library of ONNX Runtime is named by the environment variable ORT_DYLIB_PATH.";

/// Flags of `serve`. Each stands above the same field of the config file.
#[derive(Debug, Default, clap::Args)]
pub struct ServeArgs {
    /// Config file (JSON); flags stand above it
    #[arg(long, value_name = "FILE", env = "TIDEWRIGHT_CONFIG")]
    pub config: Option<PathBuf>,
    /// Model to serve, may be repeated; replaces the models of the file. PATH is an ONNX file, or a directory with one
    #[arg(long = "model", value_name = "NAME=PATH", value_parser = parse_model, env = "TIDEWRIGHT_MODELS", value_delimiter = ',')]
    pub models: Vec<ModelConfig>,
    /// Whether models can be loaded and unloaded through the admin port [default: false]
    #[arg(long, value_name = "BOOL", env = "TIDEWRIGHT_REPOSITORY")]
    pub repository: Option<bool>,
    /// Folder of further models (NAME.onnx, NAME/, NAME/VERSION/), each loaded at its first request
    #[arg(long, value_name = "DIR", env = "TIDEWRIGHT_REPOSITORY_DIRECTORY")]
    pub repository_directory: Option<PathBuf>,
    /// Bytes of models loaded at once, of the idle ones the least recently used goes first; 0 is unlimited [default: 0]
    #[arg(long, value_name = "BYTES", env = "TIDEWRIGHT_LOADED_BYTES_MAX")]
    pub loaded_bytes_max: Option<u64>,
    /// Address of the inference API [default: 0.0.0.0:8080]
    #[arg(long, value_name = "ADDR", env = "TIDEWRIGHT_HTTP")]
    pub http: Option<SocketAddr>,
    /// Address of the inference API over gRPC [default: 0.0.0.0:9000]
    #[arg(long, value_name = "ADDR", env = "TIDEWRIGHT_GRPC")]
    pub grpc: Option<SocketAddr>,
    /// Address of metrics and probes [default: 0.0.0.0:8081]
    #[arg(long, value_name = "ADDR", env = "TIDEWRIGHT_ADMIN")]
    pub admin: Option<SocketAddr>,
    /// Certificate for TLS on the HTTP and gRPC ports (PEM, with those that vouch for it); read again when it changes
    #[arg(long, value_name = "FILE", env = "TIDEWRIGHT_TLS_CERTIFICATE")]
    pub tls_certificate: Option<PathBuf>,
    /// Private key of the certificate (PEM); read again when it changes
    #[arg(long, value_name = "FILE", env = "TIDEWRIGHT_TLS_KEY")]
    pub tls_key: Option<PathBuf>,
    /// Redis for the second cache level; ${NAME} is replaced by the environment variable
    #[arg(long, value_name = "URL", env = "TIDEWRIGHT_REDIS", hide_env_values = true)]
    pub redis: Option<String>,
    /// Bytes of the memory cache; without it there is none
    #[arg(long, value_name = "BYTES", env = "TIDEWRIGHT_CACHE_BYTES")]
    pub cache_bytes: Option<u64>,
    /// Most items in one run of a model [default: 32]
    #[arg(long, value_name = "ITEMS", env = "TIDEWRIGHT_MAX_BATCH_SIZE")]
    pub max_batch_size: Option<u32>,
    /// When a batch is closed: adaptive, or fixedDelay [default: adaptive; fixedDelay with a --max-latency-millis]
    #[arg(long, value_name = "POLICY", value_parser = parse_policy, env = "TIDEWRIGHT_BATCHER_POLICY")]
    pub batcher_policy: Option<BatchingPolicy>,
    /// Longest wait for a fuller batch; 0 never waits [default: 0]
    #[arg(long, value_name = "MILLIS", env = "TIDEWRIGHT_MAX_LATENCY_MILLIS")]
    pub max_latency_millis: Option<u32>,
    /// Requests that may wait per model, beyond it 429 [default: 1024]
    #[arg(long, value_name = "REQUESTS", env = "TIDEWRIGHT_QUEUE_CAPACITY")]
    pub queue_capacity: Option<u32>,
    /// Requests under way at once, beyond it 429; 0 is unlimited [default: 0]
    #[arg(long, value_name = "REQUESTS", env = "TIDEWRIGHT_MAX_CONCURRENCY")]
    pub max_concurrency: Option<u32>,
    /// Time for one request, beyond it 504 [default: 60]
    #[arg(long, value_name = "SECONDS", env = "TIDEWRIGHT_TIMEOUT_SECONDS")]
    pub timeout_seconds: Option<u32>,
    /// Time in which callers want their answers; what would be answered later is refused with 429; 0: nobody has said [default: 0]
    #[arg(long, value_name = "MILLIS", env = "TIDEWRIGHT_LATENCY_OBJECTIVE_MILLIS")]
    pub latency_objective_millis: Option<u32>,
    /// Execution providers in order of preference: cpu, cuda, tensorrt [default: cpu]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = parse_provider, env = "TIDEWRIGHT_PROVIDERS")]
    pub providers: Vec<ExecutionProvider>,
    /// Sessions per model, each on a thread of its own; 0 is one per core [default: 0]
    #[arg(long, value_name = "COUNT", env = "TIDEWRIGHT_WORKERS")]
    pub workers: Option<u32>,
    /// Threads inside a run wait by spinning: for cores that are nobody else's [default: false]
    #[arg(long, value_name = "BOOL", env = "TIDEWRIGHT_SPINNING")]
    pub spinning: Option<bool>,
    /// How far ONNX Runtime rewrites graphs: disabled, basic, extended, all [default: all]
    #[arg(long, value_name = "LEVEL", value_parser = parse_graph_optimization, env = "TIDEWRIGHT_GRAPH_OPTIMIZATION")]
    pub graph_optimization: Option<GraphOptimization>,
    /// Load each model in a child process first, so that one that crashes ONNX Runtime does not take the server along [default: true]
    #[arg(long, value_name = "BOOL", env = "TIDEWRIGHT_LOAD_IN_CHILD")]
    pub load_in_child: Option<bool>,
    /// Folder of the server's own for optimised models, which load faster and without a trial; without it none are kept
    #[arg(long, value_name = "DIR", env = "TIDEWRIGHT_OPTIMIZED_MODEL_CACHE")]
    pub optimized_model_cache: Option<PathBuf>,
    /// After SIGTERM: time in which requests are still accepted [default: 0]
    #[arg(long, value_name = "SECONDS", env = "TIDEWRIGHT_DRAIN_GRACE_SECONDS")]
    pub drain_grace_seconds: Option<u32>,
    /// After the grace: time for what was accepted [default: 30]
    #[arg(long, value_name = "SECONDS", env = "TIDEWRIGHT_DRAIN_TIMEOUT_SECONDS")]
    pub drain_timeout_seconds: Option<u32>,
    /// Log lines for machines or for people [default: human]
    #[arg(long, value_enum, env = "TIDEWRIGHT_LOG_FORMAT")]
    pub log_format: Option<Format>,
    /// Log filter, as in `info` or `tidewright_server=debug,warn` [default: info]
    #[arg(long, value_name = "FILTER", env = "TIDEWRIGHT_LOG")]
    pub log: Option<String>,
    /// A line for one request in so many, and for each that the server failed; 0 is none [default: 0]
    #[arg(long, value_name = "COUNT", env = "TIDEWRIGHT_ACCESS_LOG_ONE_IN")]
    pub access_log_one_in: Option<u32>,
    #[command(flatten)]
    pub telemetry: telemetry::TelemetryArgs,
}

/// Shape of log lines.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Format {
    Json,
    Human,
}

/// Shape of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Text,
    Json,
}

/// Flags of `inspect`.
#[derive(Debug, clap::Args)]
pub struct InspectArgs {
    /// ONNX file, or a directory with one
    pub model: PathBuf,
    /// Execution provider to load it with: cpu, cuda, tensorrt
    #[arg(long, default_value = "cpu", value_parser = parse_provider)]
    pub provider: ExecutionProvider,
    /// For people or for machines
    #[arg(long, value_enum, default_value = "text")]
    pub output: Output,
}

/// Flags of `bench`.
#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    /// ONNX file, or a directory with one
    pub model: PathBuf,
    /// Time for all batch sizes together; each is run at least three times
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(..=3600))]
    pub seconds: u64,
    /// Largest batch
    #[arg(long, value_name = "ITEMS", default_value_t = 32, value_parser = parse_positive)]
    pub max_batch_size: usize,
    /// Size of free dimensions other than the first, for example the tokens of a text
    #[arg(long, value_name = "SIZE", default_value_t = 1, value_parser = parse_positive)]
    pub free_dimension: usize,
    /// Threads inside a run
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = parse_positive)]
    pub intra_op_threads: usize,
    /// Execution provider: cpu, cuda, tensorrt
    #[arg(long, default_value = "cpu", value_parser = parse_provider)]
    pub provider: ExecutionProvider,
    /// For people or for machines
    #[arg(long, value_enum, default_value = "text")]
    pub output: Output,
}

/// Flags of `check-config`.
#[derive(Debug, clap::Args)]
pub struct CheckConfigArgs {
    /// Config file (JSON)
    pub file: PathBuf,
}

/// Flags of `completion`.
#[derive(Debug, clap::Args)]
pub struct CompletionArgs {
    /// bash, elvish, fish, powershell or zsh
    pub shell: Shell,
}

impl CompletionArgs {
    /// Writes the script to standard output.
    pub fn print(&self) -> ExitCode {
        clap_complete::generate(self.shell, &mut Args::command(), "inference-server", &mut io::stdout());
        ExitCode::from(exit::OK)
    }
}

fn parse_model(text: &str) -> Result<ModelConfig, String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok(ModelConfig::new(name, path)),
        _ => Err("expected NAME=PATH, as in digits=models/digits.onnx".to_owned()),
    }
}

fn parse_positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=65_536) => Ok(number),
        _ => Err("expected a number from 1 to 65536".to_owned()),
    }
}

fn parse_policy(text: &str) -> Result<BatchingPolicy, String> {
    match text {
        "adaptive" => Ok(BatchingPolicy::Adaptive),
        "fixedDelay" => Ok(BatchingPolicy::FixedDelay),
        _ => Err("expected adaptive or fixedDelay".to_owned()),
    }
}

fn parse_provider(text: &str) -> Result<ExecutionProvider, String> {
    [
        ExecutionProvider::Cpu,
        ExecutionProvider::Cuda,
        ExecutionProvider::Tensorrt,
    ]
    .into_iter()
    .find(|provider| provider.as_str() == text)
    .ok_or_else(|| "expected cpu, cuda or tensorrt".to_owned())
}

fn parse_graph_optimization(text: &str) -> Result<GraphOptimization, String> {
    let level = GraphOptimization::ALL.into_iter().find(|level| level.as_str() == text);
    level.ok_or_else(|| "expected disabled, basic, extended or all".to_owned())
}

/// Reads and parses a config file; it is not validated yet.
///
/// # Errors
/// A sentence with the file and, for a syntax error or unknown field, the line.
pub fn read_config(file: &Path) -> Result<ServeConfig, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))
}

impl ServeArgs {
    /// The config file, or defaults, with the flags laid over it; validated.
    ///
    /// # Errors
    /// Everything that is wrong, one line each.
    pub fn config(&self) -> Result<ServeConfig, String> {
        let mut config = match &self.config {
            Some(file) => read_config(file)?,
            None if self.models.is_empty() && self.repository_directory.is_none() => {
                return Err(
                    "nothing to serve: name a --model NAME=PATH, a --config FILE or a --repository-directory DIR"
                        .to_owned(),
                );
            }
            None => ServeConfig::new(Vec::new()),
        };
        self.lay_over(&mut config);
        config.validate().map_err(|problems| {
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            lines.join("\n")
        })?;
        Ok(config)
    }

    fn lay_over(&self, config: &mut ServeConfig) {
        fn set<T: Clone>(field: &mut T, flag: Option<&T>) {
            if let Some(value) = flag {
                field.clone_from(value);
            }
        }
        if !self.models.is_empty() {
            config.models.clone_from(&self.models);
        }
        set(&mut config.repository.enabled, self.repository.as_ref());
        if self.repository_directory.is_some() {
            config.repository.directory.clone_from(&self.repository_directory);
        }
        set(&mut config.repository.loaded_bytes_max, self.loaded_bytes_max.as_ref());
        set(&mut config.http.address, self.http.as_ref());
        set(&mut config.grpc.address, self.grpc.as_ref());
        set(&mut config.admin.address, self.admin.as_ref());
        if self.tls_certificate.is_some() || self.tls_key.is_some() {
            let tls = config.tls.get_or_insert_with(TlsConfig::default);
            set(&mut tls.certificate, self.tls_certificate.as_ref());
            set(&mut tls.key, self.tls_key.as_ref());
        }
        if let Some(max_bytes) = self.cache_bytes {
            config
                .cache
                .memory
                .get_or_insert_with(MemoryCacheConfig::default)
                .max_bytes = max_bytes;
        }
        if let Some(url) = &self.redis {
            let redis = config.cache.redis.get_or_insert_with(|| RedisCacheConfig::with_url(""));
            redis.url = Some(url.clone());
            redis.url_file = None;
        }
        set(&mut config.batcher.max_batch_size, self.max_batch_size.as_ref());
        set(&mut config.batcher.max_latency_millis, self.max_latency_millis.as_ref());
        if self.batcher_policy.is_some() {
            config.batcher.policy = self.batcher_policy;
        }
        set(&mut config.limits.queue_capacity, self.queue_capacity.as_ref());
        set(&mut config.limits.max_concurrency, self.max_concurrency.as_ref());
        set(&mut config.limits.timeout_seconds, self.timeout_seconds.as_ref());
        set(
            &mut config.limits.latency_objective_millis,
            self.latency_objective_millis.as_ref(),
        );
        if !self.providers.is_empty() {
            config.execution.providers.clone_from(&self.providers);
        }
        set(&mut config.execution.workers, self.workers.as_ref());
        set(&mut config.execution.spinning, self.spinning.as_ref());
        set(
            &mut config.execution.graph_optimization,
            self.graph_optimization.as_ref(),
        );
        set(&mut config.execution.load_in_child, self.load_in_child.as_ref());
        if self.optimized_model_cache.is_some() {
            config
                .execution
                .optimized_model_cache
                .clone_from(&self.optimized_model_cache);
        }
        set(&mut config.drain.grace_seconds, self.drain_grace_seconds.as_ref());
        set(&mut config.drain.timeout_seconds, self.drain_timeout_seconds.as_ref());
        if let Some(format) = self.log_format {
            config.log.format = match format {
                Format::Json => LogFormat::Json,
                Format::Human => LogFormat::Human,
            };
        }
        set(&mut config.log.filter, self.log.as_ref());
        set(&mut config.log.access_one_in, self.access_log_one_in.as_ref());
        self.telemetry.lay_over(config);
    }
}

#[cfg(test)]
mod tests;
