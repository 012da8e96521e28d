//! From the config's models to serving ones: opened, warmed up, with a queue and workers.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tidewright_contract::config::{BatchingPolicy, ModelConfig, ServeConfig};
use tidewright_contract::exit::Reason;
use tidewright_contract::metrics::cause;

use super::feed::{Feed, express};
use super::open::{Opened, open};
use crate::batcher::cost::{CostTable, size_class};
use crate::batcher::policy::Policy;
use crate::cache::key::Prefix;
use crate::engine::ort::{OrtEngine, Runtime};
use crate::engine::pool::Pool;
use crate::engine::worker::{Event, OnEvent};
use crate::engine::{Engine, Factory, served_sizes, warmup};
use crate::lifecycle::{Lifecycle, State};
use crate::metrics::SharedMetrics;
use crate::model::directory::file_bytes;
use crate::model::registry::Facts;
use crate::model::signature::{Rows, Signature};
use crate::model::source::LoadError;
use crate::pipeline::Serving;
use crate::pipeline::express::Express;
use crate::pipeline::pace::Pace;
use crate::queue::task::Queue;

/// A failure with the model it is about, if one.
#[derive(Debug)]
pub struct Failure {
    pub model: Option<String>,
    pub error: LoadError,
}

/// A model that serves, with its threads.
#[derive(Debug)]
pub struct Started {
    pub serving: Arc<Serving>,
    pub pool: Pool,
    /// Of the weights in all sessions.
    pub bytes: u64,
}

/// Loads and warms up the config's models, as many as fit; answers each with its position. Blocks; runs on a thread of its own.
pub fn load(
    config: &ServeConfig,
    runtime: &Runtime,
    metrics: &SharedMetrics,
    lifecycle: &Lifecycle,
) -> Result<Vec<(usize, Started)>, Failure> {
    // Before the state says so: whoever sees it may ask what it waits for.
    lifecycle.wait_for(
        config
            .models
            .iter()
            .map(|model| format!("model {}", model.name))
            .collect(),
    );
    lifecycle.advance(State::Loading);
    tracing::info!(version = runtime.version(), "ONNX Runtime");
    let limit = config.repository.loaded_bytes_max;
    let mut held = 0;
    let mut opened = Vec::with_capacity(config.models.len());
    for (index, model) in config.models.iter().enumerate() {
        let named = |error| Failure {
            model: Some(model.name.clone()),
            error,
        };
        // The first request for it loads it, in the place of another.
        if limit > 0 && held + file_bytes(&model.path).map_err(named)? > limit {
            tracing::info!(
                model = model.name,
                "not loaded yet: repository.loadedBytesMax is reached"
            );
            lifecycle.done(&format!("model {}", model.name));
            continue;
        }
        let one = open(model, &config.execution, runtime).map_err(named)?;
        held += one.bytes;
        opened.push((index, model, one));
    }
    lifecycle.advance(State::Warming);
    let mut started = Vec::with_capacity(opened.len());
    for (index, model, opened) in opened {
        let named = |error| Failure {
            model: Some(model.name.clone()),
            error,
        };
        started.push((
            index,
            warm_and_start(model, opened, config, metrics, runtime).map_err(named)?,
        ));
        metrics.loads(cause::START, true);
        lifecycle.done(&format!("model {}", model.name));
    }
    Ok(started)
}

/// Loads and warms up one model. Blocks.
pub fn start_one(
    model: &ModelConfig,
    config: &ServeConfig,
    runtime: &Runtime,
    metrics: &SharedMetrics,
) -> Result<Started, LoadError> {
    warm_and_start(
        model,
        open(model, &config.execution, runtime)?,
        config,
        metrics,
        runtime,
    )
}

/// Runs every engine with what will be served, corrects the meaning of the first dimension, and answers what runs cost.
fn warm(
    model: &ModelConfig,
    engines: &mut [OrtEngine],
    signature: &mut Signature,
    batch_size_max: usize,
) -> Result<CostTable, LoadError> {
    let free = served_sizes::wanted(model, signature);
    let least = free.iter().min().copied().unwrap_or(1);
    let costs = CostTable::default();
    for (position, engine) in engines.iter_mut().enumerate() {
        let mut finding = warmup::warm_up(engine, signature, batch_size_max, least)?;
        signature.rows = finding.rows;
        // They are all alike: the others are only warmed.
        let is_measured = position == 0;
        let plan = served_sizes::Plan {
            batch_size_max,
            sizes: &free,
            ones: finding.ones,
            budget: if is_measured {
                served_sizes::BUDGET
            } else {
                Duration::ZERO
            },
        };
        finding.times.extend(served_sizes::run(engine, signature, plan));
        for time in finding.times.iter().filter(|_| is_measured) {
            costs.learn(size_class(time.elements), time.items, time.duration);
        }
    }
    Ok(costs)
}

fn warm_and_start(
    model: &ModelConfig,
    opened: Opened,
    config: &ServeConfig,
    metrics: &SharedMetrics,
    runtime: &Runtime,
) -> Result<Started, LoadError> {
    let Opened {
        digest,
        plan,
        mut signature,
        mut engines,
        bytes,
    } = opened;
    let batch_size_max = config.batcher.max_batch_size as usize;
    let costs = warm(model, &mut engines, &mut signature, batch_size_max)?;
    let items_max = match signature.rows {
        Rows::Dynamic => batch_size_max,
        Rows::Fixed(count) => count,
        Rows::None => 1,
    };
    // A batch that cannot grow is not worth waiting for.
    let latency_millis = if signature.rows == Rows::Dynamic {
        config.batcher.max_latency_millis
    } else {
        0
    };
    let costs = Arc::new(costs);
    let policy = Policy {
        items_max,
        latency_max: Duration::from_millis(u64::from(latency_millis)),
        costs: match config.batcher.policy() {
            BatchingPolicy::Adaptive => Some(Arc::clone(&costs)),
            BatchingPolicy::FixedDelay => None,
        },
    };
    let depth = metrics.queue_depth();
    let queue = Queue::new(
        config.limits.queue_capacity as usize,
        policy,
        Box::new(move |change| {
            depth.inc_by(change);
        }),
    );
    let alive = Arc::new(AtomicUsize::new(0));
    let model_metrics = metrics.model(&model.name, &model.version);
    let preferred_provider = config.execution.providers.first().copied();
    let preferred_provider = preferred_provider.unwrap_or(plan.provider);
    let serving = Arc::new(Serving {
        key_prefix: Prefix::new(&digest, runtime.build(), plan.provider.as_str()),
        output_datatypes: signature.outputs.iter().map(|slot| slot.datatype).collect(),
        facts: Facts {
            name: model.name.as_str().into(),
            version: model.version.as_str().into(),
            digest,
            provider: plan.provider,
            preferred_provider,
            signature: Arc::new(signature),
            batch_size_max: items_max,
            alive: Arc::clone(&alive),
            workers: engines.len(),
        },
        queue,
        metrics: model_metrics.clone(),
        pace: Pace::default(),
        costs,
        express: Express::default(),
        latency_objective: (config.limits.latency_objective_millis > 0)
            .then(|| Duration::from_millis(u64::from(config.limits.latency_objective_millis))),
    });
    metrics.set_model_info(serving.facts.info());
    let factory: Factory = Arc::new(move || plan.open().map(|(engine, _)| Box::new(engine) as Box<dyn Engine>));
    let (gauge, restarts) = (model_metrics.workers, model_metrics.restarts);
    // One that is loaded anew has the same series as the one before, whose workers will take themselves off.
    gauge.inc_by(i64::try_from(engines.len()).unwrap_or(0));
    let on_event: OnEvent = Arc::new(move |event| match event {
        Event::Lost => {
            restarts.inc();
            gauge.dec();
        }
        Event::Rebuilt => {
            gauge.inc();
        }
        Event::Ended => {
            gauge.dec();
        }
    });
    let engines: Vec<Box<dyn Engine>> = engines
        .into_iter()
        .map(|engine| Box::new(engine) as Box<dyn Engine>)
        .collect();
    let pool = Pool::start(
        &model.name,
        engines,
        factory,
        Arc::new(Feed(Arc::clone(&serving))),
        on_event,
        alive,
    )
    .map_err(|error| LoadError::new(Reason::Failure, format!("cannot start a worker thread: {error}")))?;
    if config.batcher.policy() == BatchingPolicy::Adaptive {
        serving.express.open(express(&serving, pool.express()));
    }
    Ok(Started { serving, pool, bytes })
}
