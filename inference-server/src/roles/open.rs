//! From a configured model to its sessions: checked, tried out, optimised once, opened once per worker with the weights shared.

use std::sync::Arc;

use tidewright_contract::config::{ExecutionConfig, ExecutionProvider, ModelConfig};
use tidewright_contract::exit::Reason;

use super::examine::{Examined, examine};
use crate::engine::child::Prober;
use crate::engine::optimized_cache::{Key, OptimizedCache, Parts, cpu_features};
use crate::engine::ort::{OrtEngine, Runtime, SessionPlan, memory_file, read_back};
use crate::engine::provider::first_working;
use crate::engine::shared::SharedModel;
use crate::model::onnx::Limits;
use crate::model::precheck;
use crate::model::signature::Signature;
use crate::model::source::{LoadError, Pinned};

/// A model between loading and serving.
#[derive(Debug)]
pub struct Opened {
    pub digest: String,
    /// How to make another session, after one was lost.
    pub plan: SessionPlan,
    pub signature: Signature,
    pub engines: Vec<OrtEngine>,
    /// Of the weights in all sessions.
    pub bytes: u64,
}

/// Opens a model with the first provider that works.
pub fn open(model: &ModelConfig, config: &ExecutionConfig, runtime: &Runtime) -> Result<Opened, LoadError> {
    let cache = config.optimized_model_cache.as_ref().map(|folder| {
        OptimizedCache::new(folder, config.optimized_model_cache_bytes_max).map_err(|error| {
            LoadError::new(
                Reason::Failure,
                format!(
                    "cannot use {} (execution.optimizedModelCache): {error}",
                    folder.display()
                ),
            )
        })
    });
    let cache = cache.transpose()?;
    let expected = model.digest.as_deref();
    let plan = |model: Pinned, provider| SessionPlan {
        runtime: runtime.clone(),
        model,
        provider,
        intra_op_threads: config.intra_op_threads as usize,
        spinning: config.spinning,
        graph_optimization: config.graph_optimization,
        shared: None,
    };
    // Where the cache is asked first, of the file nothing is needed but its digest: a start that finds nothing reads it once more.
    let is_cpu_first = config.providers.first() == Some(&ExecutionProvider::Cpu);
    let kept = match cache.as_ref().filter(|_| is_cpu_first) {
        Some(cache) => open_kept(plan(Pinned::of(&model.path, expected)?, ExecutionProvider::Cpu), cache),
        None => None,
    };
    let (plan, first, signature, file_bytes) = if let Some((plan, first, signature)) = kept {
        (plan, first, signature, 0)
    } else {
        let (examined, ()) = examine(&model.path, expected, |_| ())?;
        let (_, (plan, first, signature)) = first_working(&config.providers, |provider| {
            // Accelerators keep weights in their own memory and optimise for themselves; and the digest says nothing about weights beside the file.
            let is_kept = provider == ExecutionProvider::Cpu && examined.external_bytes == 0;
            let cache = cache.as_ref().filter(|_| is_kept);
            if let Some(found) = cache
                .filter(|_| !is_cpu_first)
                .and_then(|cache| open_kept(plan(examined.model.clone(), provider), cache))
            {
                return Ok(found);
            }
            let mut plan = plan(examined.model.clone(), provider);
            prepare(&mut plan, &examined, config, cache)?;
            let (engine, signature) = open_first(&mut plan)?;
            Ok((plan, engine, signature))
        })?;
        (plan, first, signature, examined.file_bytes + examined.external_bytes)
    };
    let workers = workers(config, plan.provider);
    let mut engines = vec![first];
    for _ in 1..workers {
        engines.push(plan.open()?.0);
    }
    tracing::info!(
        model = model.name,
        digest = plan.model.digest,
        provider = %plan.provider,
        workers,
        rows = ?signature.rows,
        shared_bytes = plan.shared.as_ref().map_or(0, |shared| shared.bytes()),
        "model loaded"
    );
    let (once, each) = match &plan.shared {
        Some(shared) => (shared.bytes(), shared.skeleton().len() as u64),
        None => (0, file_bytes),
    };
    let bytes = once + each.saturating_mul(workers as u64);
    Ok(Opened {
        digest: plan.model.digest.clone(),
        plan,
        signature,
        engines,
        bytes,
    })
}

fn key(plan: &SessionPlan) -> Key {
    let runtime = format!("{} {}", plan.runtime.version(), plan.runtime.build());
    Key::new(Parts {
        digest: &plan.model.digest,
        runtime: &runtime,
        cpu: &cpu_features(),
        provider: plan.provider,
        level: plan.graph_optimization,
    })
}

/// The first session from what an earlier start has kept: it was checked and tried out before it was stored.
fn open_kept(mut plan: SessionPlan, cache: &OptimizedCache) -> Option<(SessionPlan, OrtEngine, Signature)> {
    let entry = cache.load(&key(&plan))?;
    if !share(&mut plan, entry.model()) {
        return None;
    }
    // It is copied by now, and the session takes as much again for a moment.
    drop(entry);
    match plan.open() {
        Ok((engine, signature)) => Some((plan, engine, signature)),
        Err(error) => {
            tracing::warn!(%error, "a kept model does not load, it is made anew");
            None
        }
    }
}

/// Tries the model out, and optimises it where that pays.
fn prepare(
    plan: &mut SessionPlan,
    examined: &Examined,
    config: &ExecutionConfig,
    cache: Option<&OptimizedCache>,
) -> Result<(), LoadError> {
    let is_cpu = plan.provider == ExecutionProvider::Cpu;
    // One session has nothing to share.
    let is_wanted = is_cpu && (cache.is_some() || workers(config, plan.provider) > 1);
    let optimized = if config.load_in_child {
        let file = is_wanted.then(memory_file).transpose()?;
        // One item: crashes come from loading and from the first run, the sizes are tried by the warm-up.
        let prober = Prober::this_program()?;
        let report = examined.try_out(
            &prober,
            plan.provider,
            plan.intra_op_threads,
            plan.graph_optimization,
            1,
            file.as_ref(),
        )?;
        tracing::debug!(file = %plan.model.file.display(), load_millis = report.load_millis, "loaded on trial");
        file.as_ref().map(read_back)
    } else {
        is_wanted.then(|| plan.optimize())
    };
    let optimized = match optimized {
        None => return Ok(()),
        Some(Ok(optimized)) if !optimized.is_empty() => optimized,
        // If the model is to blame, opening it says so; a graph of more than 2 GiB cannot be saved, and is served all the same.
        Some(saved) => {
            let error = saved.err().map(|error| error.message);
            tracing::warn!(error, "no optimised model, every session gets weights of its own");
            return Ok(());
        }
    };
    // What the child wrote is no more trusted than what it read.
    if let Err(error) = precheck::check(&optimized, Limits::default()) {
        tracing::warn!(%error, "the optimised model is not used, every session gets weights of its own");
        return Ok(());
    }
    if let Some(cache) = cache
        && let Err(error) = cache.store(&key(plan), &optimized)
    {
        tracing::warn!(%error, "the optimised model is not kept");
    }
    share(plan, &optimized);
    Ok(())
}

/// Makes the plan's sessions share the weights of an optimised model; `false` when that cannot be done.
fn share(plan: &mut SessionPlan, optimized: &[u8]) -> bool {
    match SharedModel::new(optimized) {
        Ok(shared) => plan.shared = Some(Arc::new(shared)),
        Err(error) => tracing::warn!(%error, "the weights cannot be shared"),
    }
    plan.shared.is_some()
}

/// The first session. What the runtime saved it should be able to read; where it is not, the file is loaded as it is.
fn open_first(plan: &mut SessionPlan) -> Result<(OrtEngine, Signature), LoadError> {
    let opened = plan.open();
    match opened {
        Err(error) if plan.shared.take().is_some() => {
            tracing::warn!(%error, "the optimised model does not load, every session gets weights of its own");
            plan.open()
        }
        opened => opened,
    }
}

/// As many sessions as cores, each with its threads; one session keeps an accelerator busy.
fn workers(config: &ExecutionConfig, provider: ExecutionProvider) -> usize {
    if config.workers > 0 {
        return config.workers as usize;
    }
    match provider {
        ExecutionProvider::Cpu => (cores() / (config.intra_op_threads.max(1) as usize)).max(1),
        ExecutionProvider::Cuda | ExecutionProvider::Tensorrt => 1,
    }
}

/// Cores that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
