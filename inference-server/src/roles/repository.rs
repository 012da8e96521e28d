//! Loads and unloads models while the server runs, one order after the other, and makes room for them.

use std::sync::Arc;
use std::time::Duration;

use tidewright_contract::config::{ModelConfig, ServeConfig};
use tidewright_contract::exit::Reason;
use tidewright_contract::metrics::cause;
use tokio::sync::{Mutex, mpsc};

use super::examine::examine;
use super::load::{Started, start_one};
use crate::catalog::table::{Cause, Phase};
use crate::catalog::{Catalog, Kind, Loaded, Order};
use crate::clock;
use crate::engine::ort::Runtime;
use crate::metrics::SharedMetrics;
use crate::model::source::LoadError;

/// Beyond the longest time of a request: its answer has to be written, too.
const RELEASE_MARGIN: Duration = Duration::from_secs(5);

/// Carries out orders.
#[derive(Debug, Clone)]
pub struct Repository {
    config: Arc<ServeConfig>,
    runtime: Runtime,
    metrics: SharedMetrics,
    catalog: Arc<Catalog>,
    /// Held while a model is being loaded.
    loading: Arc<Mutex<()>>,
}

impl Repository {
    /// With the models that have been loaded already, by their positions in the catalog.
    pub fn new(
        config: &ServeConfig,
        runtime: Runtime,
        metrics: SharedMetrics,
        catalog: Arc<Catalog>,
        loaded: Vec<(usize, Started)>,
    ) -> Self {
        for (index, Started { serving, pool, bytes }) in loaded {
            catalog.install(index, Loaded::new(serving, pool), bytes);
        }
        let repository = Self {
            config: Arc::new(config.clone()),
            runtime,
            metrics,
            catalog,
            loading: Arc::default(),
        };
        repository.count();
        repository
    }

    /// Held while a model is being loaded.
    pub fn loading(&self) -> Arc<Mutex<()>> {
        Arc::clone(&self.loading)
    }

    /// Until nobody can give an order any more.
    pub async fn run(self, mut orders: mpsc::Receiver<Order>) {
        while let Some(Order { index, kind, reply }) = orders.recv().await {
            match kind {
                Kind::Load => {
                    let cause = if reply.is_some() { cause::REQUEST } else { cause::DEMAND };
                    let result = self.load(index, cause).await;
                    if let Some(reply) = reply {
                        // Whoever asked may have left.
                        let _ = reply.send(result);
                    }
                }
                Kind::Unload => {
                    let loaded = self.catalog.withdraw(index, Cause::Request);
                    let repository = self.clone();
                    // What it has accepted may take a while; others need not wait for that.
                    tokio::spawn(async move {
                        if let Some(loaded) = loaded {
                            repository.retire(index, loaded, Cause::Request).await;
                        }
                        if let Some(reply) = reply {
                            let _ = reply.send(Ok(()));
                        }
                    });
                }
            }
        }
    }

    async fn load(&self, index: usize, cause: &'static str) -> Result<(), LoadError> {
        let began = clock::now();
        let config = self.catalog.change(|table| {
            let entry = table.get_mut(index)?;
            // Between a request's order and now somebody may have unloaded it, as asked.
            if cause == cause::DEMAND && entry.phase != Phase::Loading {
                return None;
            }
            entry.phase = Phase::Loading;
            Some(entry.config.clone())
        });
        let Some(config) = config else {
            return Err(LoadError::new(Reason::ModelNotFound, "it is not wanted any more"));
        };
        let result = self.load_model(index, config.clone()).await;
        match &result {
            Ok(()) => {
                let took = clock::now().saturating_duration_since(began);
                self.metrics.load_duration.observe(took.as_secs_f64());
                tracing::info!(
                    model = config.name,
                    version = config.version,
                    cause,
                    millis = took.as_millis(),
                    "loaded"
                );
            }
            Err(error) => {
                tracing::error!(
                    model = config.name,
                    version = config.version,
                    cause,
                    reason = error.reason.as_str(),
                    "{}",
                    error.message
                );
                self.catalog.failed(index, error);
            }
        }
        self.metrics.loads(cause, result.is_ok());
        self.count();
        result
    }

    async fn load_model(&self, index: usize, model: ModelConfig) -> Result<(), LoadError> {
        if self.config.repository.loaded_bytes_max > 0 {
            // Nobody makes room for a file that is none, or not the right one.
            let (path, digest) = (model.path.clone(), model.digest.clone());
            let (examined, ()) = blocking(move || examine(&path, digest.as_deref(), |_| ())).await?;
            self.make_room(index, examined.file_bytes + examined.external_bytes)
                .await?;
        }
        let (config, runtime, metrics) = (
            Arc::clone(&self.config),
            self.runtime.clone(),
            Arc::clone(&self.metrics),
        );
        let started = {
            let _loading = self.loading.lock().await;
            blocking(move || start_one(&model, &config, &runtime, &metrics)).await?
        };
        let Started { serving, pool, bytes } = started;
        let loaded = Loaded::new(serving, pool);
        // The file said less than its sessions take.
        if let Err(error) = self.make_room(index, bytes).await {
            end(loaded).await;
            return Err(error);
        }
        let facts = loaded.serving.facts.clone();
        if let Some(before) = self.catalog.install(index, loaded, bytes) {
            let old = &before.serving.facts;
            if old.info() != facts.info() {
                self.metrics.forget_model_info(old.info());
            }
            tokio::spawn(release(before, self.release_within()));
        }
        Ok(())
    }

    /// Unloads models until so many bytes more may be held: idle ones first, of them the least recently used.
    async fn make_room(&self, index: usize, bytes: u64) -> Result<(), LoadError> {
        let limit = self.config.repository.loaded_bytes_max;
        if limit == 0 {
            return Ok(());
        }
        let victims = self
            .catalog
            .read(|table| table.victims(bytes, limit, index, Loaded::is_busy))
            .map_err(|free| {
                LoadError::new(
                    Reason::ModelTooLarge,
                    format!(
                        "it needs {bytes} bytes; of repository.loadedBytesMax ({limit}) at most {free} can be free"
                    ),
                )
            })?;
        for victim in victims {
            if let Some(loaded) = self.catalog.withdraw(victim, Cause::Memory) {
                self.retire(victim, loaded, Cause::Memory).await;
            }
        }
        Ok(())
    }

    /// Waits for the requests that have the model, and takes it down.
    async fn retire(&self, index: usize, loaded: Loaded, cause: Cause) {
        let facts = &loaded.serving.facts;
        let (name, version) = (Arc::clone(&facts.name), Arc::clone(&facts.version));
        self.metrics.forget_model_info(facts.info());
        release(loaded, self.release_within()).await;
        self.catalog.gone(index, cause);
        let cause = match cause {
            Cause::Request => cause::REQUEST,
            Cause::Memory => cause::MEMORY,
        };
        self.metrics.unloaded(cause);
        self.count();
        tracing::info!(model = &*name, version = &*version, cause, "unloaded");
    }

    fn release_within(&self) -> Duration {
        Duration::from_secs(u64::from(self.config.limits.timeout_seconds)) + RELEASE_MARGIN
    }

    /// Tells the metrics how many models there are.
    fn count(&self) {
        let (count, bytes) = self.catalog.read(|table| {
            let loaded = table.entries().iter().filter(|entry| entry.loaded.is_some());
            (loaded.count(), table.loaded_bytes())
        });
        let gauge = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.metrics.models_loaded.set(gauge(count as u64));
        self.metrics.models_loaded_bytes.set(gauge(bytes));
    }
}

/// Takes a model down that no request gets any more, once those that have it are answered.
async fn release(loaded: Loaded, within: Duration) {
    if !loaded.released(within).await {
        let facts = &loaded.serving.facts;
        tracing::warn!(
            model = &*facts.name,
            version = &*facts.version,
            "requests still hold a model that is unloaded"
        );
    }
    end(loaded).await;
}

async fn end(loaded: Loaded) {
    loaded.serving.queue.close();
    if let Some(pool) = loaded.take_pool() {
        // A panic of a thread is in the log already.
        let _ = tokio::task::spawn_blocking(move || pool.join()).await;
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LoadError> + Send + 'static,
) -> Result<T, LoadError> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.unwrap_or_else(|error| {
        Err(LoadError::new(
            Reason::Failure,
            format!("loading ended unexpectedly: {error}"),
        ))
    })
}
