//! `serve`: opens the ports, loads the models, serves, drains.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tidewright_contract::config::{CacheConfig, ServeConfig};
use tidewright_contract::exit::{self, Reason, TerminationMessage};
use tidewright_contract::metrics::tier;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use super::load::{self, Failure, Started};
use super::ports::{Bound, Ports};
use super::repository::Repository;
use crate::args::ServeArgs;
use crate::cache::levels::{Levels, MemoryLevel};
use crate::cache::memory::Memory;
use crate::cache::redis::{self, Redis};
use crate::catalog::{Catalog, Loaded, Order};
use crate::clock::{self, Instant};
use crate::engine::ort::{Runtime, library_path};
use crate::engine::pool::Pool;
use crate::http::access::AccessLog;
use crate::http::app::App;
use crate::http::metadata::SERVER_VERSION;
use crate::http::tls::Certificate;
use crate::lifecycle::{Lifecycle, State};
use crate::metrics::{Metrics, SharedMetrics};
use crate::model::directory;
use crate::model::source::LoadError;
use crate::pipeline::express;
use crate::telemetry;
use crate::trace::Tracing;

/// After the last connection was accepted: time for a request that is on its way on it.
const LINGER: Duration = Duration::from_millis(500);

/// For a model that is being loaded when everything else has ended.
const LOADING_ENDS_WITHIN: Duration = Duration::from_secs(5);

/// From the command line to the exit code.
pub fn main(args: &ServeArgs) -> ExitCode {
    let started = clock::now();
    let config = match args.config() {
        Ok(config) => config,
        Err(message) => {
            let _ = writeln!(io::stderr(), "{message}");
            let path = Path::new(exit::TERMINATION_LOG_PATH);
            return last_words(path, &failure(None, Reason::InvalidConfig, message));
        }
    };
    if let Err(message) = telemetry::start(&config.log) {
        let _ = writeln!(io::stderr(), "{message}");
        return last_words(
            &config.termination_log_path,
            &failure(None, Reason::InvalidConfig, message),
        );
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .on_thread_park(express::turn_ends)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            return last_words(
                &config.termination_log_path,
                &failure(None, Reason::Failure, error.to_string()),
            );
        }
    };
    let ended = runtime.block_on(run(&config, started));
    // Dropping the runtime would wait for a model that is still being loaded, or a run that nobody waits for.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::from(exit::OK),
        Err(failure) => {
            let reason = failure.error.reason;
            tracing::error!(
                reason = reason.as_str(),
                model = failure.model,
                "{}",
                failure.error.message
            );
            last_words(&config.termination_log_path, &failure)
        }
    }
}

fn failure(model: Option<String>, reason: Reason, message: impl Into<String>) -> Failure {
    Failure {
        model,
        error: LoadError::new(reason, message),
    }
}

/// Leaves the reason where Kubernetes looks for it, and turns it into the exit code.
fn last_words(path: &Path, failure: &Failure) -> ExitCode {
    let reason = failure.error.reason;
    let message: String = failure
        .error
        .message
        .chars()
        .take(exit::TERMINATION_MESSAGE_BYTES_MAX / 4)
        .collect();
    let words = TerminationMessage {
        reason,
        message,
        model: failure.model.clone(),
    };
    // Only a file that is there is written: outside a container nobody asked for one.
    let written = serde_json::to_string(&words)
        .map_err(io::Error::other)
        .and_then(|text| {
            let mut file = std::fs::OpenOptions::new().write(true).truncate(true).open(path)?;
            file.write_all(text.as_bytes())
        });
    if let Err(error) = written
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %path.display(), "cannot leave a termination message");
    }
    ExitCode::from(reason.exit_code())
}

async fn run(config: &ServeConfig, started: Instant) -> Result<(), Failure> {
    let io = |error: io::Error| failure(None, Reason::Failure, error.to_string());
    let mut signals = Signals::new().map_err(io)?;
    let lifecycle = Arc::new(Lifecycle::default());
    let metrics: SharedMetrics = Arc::new(Metrics::default());
    let (catalog, orders) = catalog(config).map_err(|message| failure(None, Reason::InvalidConfig, message))?;
    let app = Arc::new(App::new(
        config.limits.clone(),
        AccessLog::new(config.log.access_one_in),
        config.repository.clone(),
        Arc::clone(&catalog),
        Arc::clone(&lifecycle),
        Arc::clone(&metrics),
    ));
    let tls = tls(config, &metrics)
        .await
        .map_err(|message| failure(None, Reason::InvalidConfig, message))?;
    let tracing = Tracing::start(config.tracing.as_ref(), metrics.spans())
        .map_err(|message| failure(None, Reason::InvalidConfig, message))?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let bound = Bound::open(config, &app).await.map_err(io)?;
    let loaded = tokio::select! {
        loaded = load_models(config, &metrics, &lifecycle) => loaded?,
        name = signals.next() => {
            tracing::info!(signal = name, "asked to end before the models were loaded");
            return Ok(());
        }
    };
    let (runtime, loaded) = loaded;
    metrics.set_build_info(SERVER_VERSION, runtime.version());
    let mut summary: Vec<String> = loaded
        .iter()
        .map(|(_, Started { serving, .. })| {
            let facts = &serving.facts;
            format!("{} ({}, {} workers)", facts.name, facts.provider, facts.workers)
        })
        .collect();
    let dormant = catalog.index().len() - loaded.len();
    if dormant > 0 {
        summary.push(format!("{dormant} models on demand"));
    }
    let cache = cache(&config.cache, &metrics).map_err(|message| failure(None, Reason::InvalidConfig, message))?;
    // Set once, here.
    if let Some(cache) = cache {
        app.pipeline.set_cache(cache);
    }
    let repository = Repository::new(config, runtime, Arc::clone(&metrics), Arc::clone(&catalog), loaded);
    let loading = repository.loading();
    tokio::spawn(repository.run(orders));
    lifecycle.wait_for(Vec::new());
    lifecycle.advance(State::Ready);
    let ports = bound.serve(config, &app, tls, &tracing).map_err(io)?;
    // The one line that scripts wait for, on standard output.
    let _ = writeln!(
        io::stdout(),
        "ready: {scheme}://{} (metrics and probes: http://{}), gRPC on {}, serving {} after {:.3} s",
        ports.http,
        ports.admin,
        ports.grpc,
        summary.join(", "),
        clock::now().duration_since(started).as_secs_f64()
    );
    let name = signals.next().await;
    tracing::info!(signal = name, grace_seconds = config.drain.grace_seconds, "draining");
    let lost = drain(config, &app, &mut signals, ports).await;
    let models = catalog.take_all();
    for model in &models {
        if lost > 0 {
            // A worker that went on would still be in the runtime when the process ends, which takes both down.
            model.serving.queue.abandon();
        } else {
            model.serving.queue.close();
        }
    }
    // A thread that is still in the runtime when the process ends takes it down.
    if tokio::time::timeout(LOADING_ENDS_WITHIN, loading.lock()).await.is_err() {
        tracing::warn!("a model is still being loaded that nobody waits for");
    }
    end_pools(models.iter().filter_map(Loaded::take_pool).collect()).await;
    tracing.end().await;
    if lost > 0 {
        let message = format!(
            "{lost} requests were unanswered when the drain timeout of {} s passed",
            config.drain.timeout_seconds
        );
        return Err(failure(None, Reason::DrainTimeout, message));
    }
    tracing::info!("ended, every accepted request was answered");
    Ok(())
}

/// The models of the config, and those of its directory.
///
/// # Errors
/// A sentence when the directory cannot be read.
pub fn catalog(config: &ServeConfig) -> Result<(Arc<Catalog>, mpsc::Receiver<Order>), String> {
    let waiting_max = config.limits.queue_capacity as usize;
    let (catalog, orders) = Catalog::new(&config.models, waiting_max);
    if let Some(directory) = &config.repository.directory {
        let found = directory::scan(directory)?;
        tracing::info!(directory = %directory.display(), models = found.len(), "models that are loaded when they are asked for");
        catalog.add(found);
    }
    Ok((Arc::new(catalog), orders))
}

/// What accepts TLS connections, if they are wanted; its certificate is followed from now on.
async fn tls(config: &ServeConfig, metrics: &Metrics) -> Result<Option<TlsAcceptor>, String> {
    let Some(config) = &config.tls else {
        return Ok(None);
    };
    let certificate = Certificate::read(config).await?;
    let acceptor = certificate.acceptor()?;
    tokio::spawn(certificate.follow(metrics.tls()));
    Ok(Some(acceptor))
}

async fn load_models(
    config: &ServeConfig,
    metrics: &SharedMetrics,
    lifecycle: &Arc<Lifecycle>,
) -> Result<(Runtime, Vec<(usize, Started)>), Failure> {
    let (config, metrics, lifecycle) = (config.clone(), Arc::clone(metrics), Arc::clone(lifecycle));
    let loading = tokio::task::spawn_blocking(move || {
        let runtime = Runtime::load(&library_path()).map_err(|error| Failure { model: None, error })?;
        let loaded = load::load(&config, &runtime, &metrics, &lifecycle)?;
        Ok((runtime, loaded))
    });
    loading.await.unwrap_or_else(|error| {
        Err(failure(
            None,
            Reason::Failure,
            format!("loading ended unexpectedly: {error}"),
        ))
    })
}

/// The cache levels that are configured; must be called inside the runtime.
///
/// # Errors
/// A sentence when the URL of Redis cannot be made out.
pub fn cache(config: &CacheConfig, metrics: &SharedMetrics) -> Result<Option<Levels>, String> {
    if config.memory.is_none() && config.redis.is_none() {
        return Ok(None);
    }
    let memory = config.memory.as_ref().map(|memory| MemoryLevel {
        memory: Memory::new(memory),
        metrics: metrics.tier(tier::MEMORY),
        bytes: metrics.cache_bytes(tier::MEMORY),
    });
    let redis = match &config.redis {
        None => None,
        Some(redis) => {
            let url = redis::url(redis, |name| std::env::var(name).ok())?;
            Some(Redis::new(redis, &url, metrics.tier(tier::REDIS))?)
        }
    };
    Ok(Some(Levels::new(memory, redis, metrics.tier(tier::MEMORY))))
}

/// Ends serving without losing what was accepted; answers how many requests were lost all the same.
async fn drain(config: &ServeConfig, app: &App, signals: &mut Signals, ports: Ports) -> u32 {
    // Readiness is false from here, and every answer closes its connection, so that clients go elsewhere while we still accept.
    app.lifecycle.advance(State::Draining);
    tokio::select! {
        () = tokio::time::sleep(Duration::from_secs(u64::from(config.drain.grace_seconds))) => {}
        name = signals.next() => tracing::info!(signal = name, "asked again, the grace ends now"),
    }
    ports.end_accepting();
    let ending = async {
        tokio::time::sleep(LINGER).await;
        ports.end_serving().await;
    };
    let limit = Duration::from_secs(u64::from(config.drain.timeout_seconds));
    let ended = tokio::time::timeout(limit, ending).await;
    app.lifecycle.advance(State::Stopped);
    if ended.is_ok() {
        return 0;
    }
    let waiting = u32::try_from(app.catalog.waiting()).unwrap_or(u32::MAX);
    app.pipeline.under_way().saturating_add(waiting)
}

/// Waits for the workers; one that is in a long run is left behind when everyone has been answered or given up.
async fn end_pools(pools: Vec<Pool>) {
    let ended = tokio::task::spawn_blocking(move || pools.into_iter().for_each(Pool::join));
    if tokio::time::timeout(Duration::from_secs(1), ended).await.is_err() {
        tracing::warn!("a worker is still in a run that nobody waits for");
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
