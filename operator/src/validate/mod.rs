//! From a spec to a [`Validated`] service, or every problem in it. Pure.
//!
//! The API server has checked the schema and its rules already; what is checked here needs arithmetic, another field's default, or the
//! operator's own settings. What the rules say is checked again where building would otherwise not be total: an object may have been
//! stored under an older schema.

mod annotations;
mod cache;
mod model;
mod pools;
mod quantity;
mod scaling;
mod schedules;

pub use scaling::Prometheus;

use kube::Resource;
use tidewright_api::InferenceService;

use crate::domain::problem::Problem;
use crate::domain::validated::{Server, Validated};

/// Reads the spec.
///
/// # Errors
/// Every problem, each with the path of its field.
pub fn validate(object: &InferenceService, prometheus: &Prometheus) -> Result<Validated, Vec<Problem>> {
    let mut problems = Vec::new();
    let predictor = &object.spec.predictor;
    let name = object.metadata.name.clone().unwrap_or_default();
    if name.len() > tidewright_api::names::SERVICE_NAME_CHARS_MAX {
        problems.push(Problem::new(
            "metadata.name",
            format!(
                "has {} characters; {} are possible, because names of children are built from it",
                name.len(),
                tidewright_api::names::SERVICE_NAME_CHARS_MAX
            ),
        ));
    }
    if let Some(given) = &object.metadata.annotations {
        annotations::validate(given, &mut problems);
    }
    let model = model::validate(&predictor.model, &mut problems);
    let pools = pools::validate(&object.spec, &mut problems);
    let metrics = scaling::validate(
        predictor.auto_scaling.as_ref(),
        object.metadata.namespace.as_deref().unwrap_or_default(),
        prometheus,
        &mut problems,
    );
    let auto_scaling = predictor.auto_scaling.as_ref();
    let objective = scaling::objective(auto_scaling.and_then(|a| a.slo.as_ref()), &mut problems);
    let paused_until = auto_scaling.and_then(|a| a.paused_until.as_deref());
    let paused_until = scaling::paused_until(paused_until, &mut problems);
    let override_ttl = auto_scaling.and_then(|a| a.override_ttl.as_deref());
    let override_lasts = schedules::override_lasts(override_ttl, &mut problems);
    let given = auto_scaling.map(|a| a.schedules.as_slice()).unwrap_or_default();
    let schedules = schedules::validate(given, &pools, &mut problems);
    let (memory_cache, redis_cache) = cache::validate(object.spec.cache.as_ref(), &pools, &mut problems);
    let batcher = predictor.batcher.as_ref();
    // Both are of the whole time that a request is in the server: it knows one.
    let timeout_seconds = batcher
        .and_then(|batcher| batcher.timeout)
        .map_or(predictor.timeout, |of_batch| of_batch.min(predictor.timeout));
    let server = Server {
        timeout_seconds: u32::try_from(timeout_seconds).unwrap_or(60),
        concurrency_max: u32::try_from(predictor.container_concurrency).unwrap_or(0),
        batch_size_max: u32::try_from(
            batcher.map_or_else(tidewright_api::defaults::max_batch_size, |b| b.max_batch_size),
        )
        .unwrap_or(1),
        batch_latency_max_millis: u32::try_from(batcher.map_or(0, |b| b.max_latency)).unwrap_or(0),
        memory_cache,
        redis_cache,
    };
    if u64::from(server.batch_latency_max_millis) >= u64::from(server.timeout_seconds) * 1000 {
        problems.push(Problem::new(
            "spec.predictor.batcher.maxLatency",
            "must be less than the timeout: a request would be given up while its batch fills",
        ));
    }
    let owner = object.controller_owner_ref(&()).unwrap_or_default();
    match model {
        Some(model) if problems.is_empty() => Ok(Validated {
            owner,
            namespace: object.metadata.namespace.clone().unwrap_or_default(),
            name,
            generation: object.metadata.generation.unwrap_or_default(),
            model,
            pools,
            is_fixed: !object.is_scaled_automatically(),
            metrics,
            are_metrics_implied: auto_scaling.is_none_or(|a| a.metrics.is_empty()),
            mode: auto_scaling.map(|a| a.mode).unwrap_or_default(),
            objective,
            is_paused: auto_scaling.is_some_and(|a| a.paused),
            paused_until,
            override_lasts,
            schedules,
            windows: Vec::new(),
            behavior: auto_scaling.and_then(|a| a.behavior.clone()),
            server,
            service_account: predictor.service_account_name.clone(),
            labels: predictor.labels.clone(),
            annotations: predictor.annotations.clone(),
        }),
        _ => Err(problems),
    }
}

#[cfg(test)]
mod tests;
