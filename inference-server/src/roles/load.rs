//! From the config's models to serving ones: opened, warmed up, with a queue and workers.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tidewright_contract::config::{ModelConfig, ServeConfig};
use tidewright_contract::exit::Reason;

use super::feed::Feed;
use super::open::{Opened, open};
use crate::batcher::policy::Policy;
use crate::cache::key::Prefix;
use crate::engine::ort::Runtime;
use crate::engine::pool::Pool;
use crate::engine::worker::{Event, OnEvent};
use crate::engine::{Engine, Factory, warmup};
use crate::lifecycle::{Lifecycle, State};
use crate::metrics::SharedMetrics;
use crate::model::registry::Facts;
use crate::model::signature::Rows;
use crate::model::source::LoadError;
use crate::pipeline::{Pace, Serving};
use crate::queue::task::Queue;

/// A failure with the model it is about, if one.
#[derive(Debug)]
pub struct Failure {
    pub model: Option<String>,
    pub error: LoadError,
}

/// Everything that is loaded.
#[derive(Debug)]
pub struct Loaded {
    pub models: Vec<Arc<Serving>>,
    pub pools: Vec<Pool>,
    pub runtime_version: String,
}

/// Loads and warms up all models. Blocks; runs on a thread of its own.
pub fn load(
    config: &ServeConfig,
    runtime: &Runtime,
    metrics: &SharedMetrics,
    lifecycle: &Lifecycle,
) -> Result<Loaded, Failure> {
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
    let mut opened = Vec::with_capacity(config.models.len());
    for model in &config.models {
        let named = |error| Failure {
            model: Some(model.name.clone()),
            error,
        };
        opened.push((model, open(model, &config.execution, runtime).map_err(named)?));
    }
    lifecycle.advance(State::Warming);
    let mut loaded = Loaded {
        models: Vec::new(),
        pools: Vec::new(),
        runtime_version: runtime.version().to_owned(),
    };
    for (model, opened) in opened {
        let name = model.name.clone();
        let named = |error| Failure {
            model: Some(name.clone()),
            error,
        };
        let (serving, pool) = warm_and_start(model, opened, config, metrics, runtime).map_err(named)?;
        loaded.models.push(serving);
        loaded.pools.push(pool);
        lifecycle.done(&format!("model {name}"));
    }
    Ok(loaded)
}

fn warm_and_start(
    model: &ModelConfig,
    opened: Opened,
    config: &ServeConfig,
    metrics: &SharedMetrics,
    runtime: &Runtime,
) -> Result<(Arc<Serving>, Pool), LoadError> {
    let Opened {
        digest,
        plan,
        mut signature,
        mut engines,
    } = opened;
    let batch_size_max = config.batcher.max_batch_size as usize;
    for engine in &mut engines {
        let finding = warmup::warm_up(engine, &signature, batch_size_max)?;
        signature.rows = finding.rows;
    }
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
    let policy = Policy {
        items_max,
        latency_max: Duration::from_millis(u64::from(latency_millis)),
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
    metrics.set_model_info(&model.name, &model.version, &digest, plan.provider.as_str());
    let serving = Arc::new(Serving {
        key_prefix: Prefix::new(&digest, runtime.build(), plan.provider.as_str()),
        output_datatypes: signature.outputs.iter().map(|slot| slot.datatype).collect(),
        facts: Facts {
            name: model.name.as_str().into(),
            version: model.version.as_str().into(),
            digest,
            provider: plan.provider,
            signature: Arc::new(signature),
            batch_size_max: items_max,
            alive: Arc::clone(&alive),
            workers: engines.len(),
        },
        queue,
        metrics: model_metrics.clone(),
        pace: Pace::default(),
    });
    let factory: Factory = Arc::new(move || plan.open().map(|(engine, _)| Box::new(engine) as Box<dyn Engine>));
    let (gauge, restarts) = (model_metrics.workers, model_metrics.restarts);
    gauge.set(i64::try_from(engines.len()).unwrap_or(0));
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
    Ok((serving, pool))
}
