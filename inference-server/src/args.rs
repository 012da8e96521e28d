//! The command line, and how it is laid over the config file: flag over environment over file over default.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use tidewright_contract::config::{
    ExecutionProvider, LogFormat, MemoryCacheConfig, ModelConfig, RedisCacheConfig, ServeConfig, TlsConfig,
};
use tidewright_contract::exit;

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
    /// Execution providers in order of preference: cpu, cuda, tensorrt [default: cpu]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = parse_provider, env = "TIDEWRIGHT_PROVIDERS")]
    pub providers: Vec<ExecutionProvider>,
    /// Sessions per model, each on a thread of its own; 0 is one per core [default: 0]
    #[arg(long, value_name = "COUNT", env = "TIDEWRIGHT_WORKERS")]
    pub workers: Option<u32>,
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
            None if self.models.is_empty() => {
                return Err("nothing to serve: name a --model NAME=PATH or a --config FILE".to_owned());
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
        set(&mut config.limits.queue_capacity, self.queue_capacity.as_ref());
        set(&mut config.limits.max_concurrency, self.max_concurrency.as_ref());
        set(&mut config.limits.timeout_seconds, self.timeout_seconds.as_ref());
        if !self.providers.is_empty() {
            config.execution.providers.clone_from(&self.providers);
        }
        set(&mut config.execution.workers, self.workers.as_ref());
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> ServeArgs {
        match Args::try_parse_from([&["inference-server", "serve"], arguments].concat())
            .unwrap()
            .command
        {
            Command::Serve(args) => *args,
            other => panic!("unexpected {other:?}"),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn flags_stand_above_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("server.json");
        fs::write(
            &file,
            r#"{"models":[{"name":"a","path":"/a"}],"limits":{"timeoutSeconds":7,"queueCapacity":5}}"#,
        )
        .unwrap();
        let file = file.to_str().unwrap();
        let config = parse(&[
            "--config",
            file,
            "--model",
            "b=/b",
            "--model",
            "c=/c",
            "--timeout-seconds",
            "9",
            "--providers",
            "cuda,cpu",
        ])
        .config()
        .unwrap();
        assert_eq!(
            config.models,
            [ModelConfig::new("b", "/b"), ModelConfig::new("c", "/c")]
        );
        assert_eq!((config.limits.timeout_seconds, config.limits.queue_capacity), (9, 5));
        assert_eq!(
            config.execution.providers,
            [ExecutionProvider::Cuda, ExecutionProvider::Cpu]
        );
        assert!(config.cache.memory.is_none() && config.cache.redis.is_none());
        let cached = parse(&["--config", file, "--cache-bytes", "4096", "--redis", "redis://r"])
            .config()
            .unwrap();
        assert_eq!(cached.cache.memory.unwrap().max_bytes, 4096);
        assert_eq!(cached.cache.redis.unwrap().url.as_deref(), Some("redis://r"));
    }

    #[test]
    fn what_is_wrong_is_said_in_full() {
        assert!(parse(&[]).config().unwrap_err().contains("nothing to serve"));
        assert!(
            parse(&["--config", "/nowhere/x.json"])
                .config()
                .unwrap_err()
                .starts_with("cannot read /nowhere/x.json")
        );
        let error = parse(&["--model", "a=/a", "--max-batch-size", "0", "--timeout-seconds", "0"])
            .config()
            .unwrap_err();
        assert_eq!(error.lines().count(), 3, "{error}");
        assert!(Args::try_parse_from(["inference-server", "serve", "--model", "nonsense"]).is_err());
    }
}
