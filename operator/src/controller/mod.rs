//! The reconcile loop.

pub mod context;
pub mod last_valid;
pub mod reconcile;
pub mod requeue;
pub mod settled;
mod subscribe;
pub mod written;

use std::sync::Arc;

use futures::{Stream, StreamExt};
use kube::ResourceExt;
use kube::runtime::controller::{Action, Config, Controller, Error as LoopError};
use kube::runtime::reflector::ObjectRef;
use rand::RngExt;
use tidewright_api::InferenceService;
use tokio_util::sync::CancellationToken;

use crate::domain::published::ServiceKey;
use crate::error::Error;
use context::Context;

/// Runs until `stop`, then waits for the reconciles that have begun. Every reconcile is asked for by name through `changed`: watches run in
/// tasks of their own, each with its own backoff.
pub async fn run(
    ctx: Arc<Context>,
    changed: impl Stream<Item = ServiceKey> + Send + 'static,
    concurrency: u16,
    stop: CancellationToken,
) {
    let requests = changed.map(|key| ObjectRef::<InferenceService>::new(&key.name).within(&key.namespace));
    let store = ctx.caches.inference_services.clone();
    Controller::for_shared_stream(futures::stream::pending::<Arc<InferenceService>>(), store)
        .with_config(Config::default().concurrency(concurrency))
        .reconcile_on(requests)
        .graceful_shutdown_on({
            let stop = stop.clone();
            async move { stop.cancelled().await }
        })
        .run(reconcile::reconcile, again, Arc::clone(&ctx))
        .for_each(|done| {
            if let Err(LoopError::ObjectNotFound(gone)) = done {
                let key = ServiceKey::new(gone.namespace.clone().unwrap_or_default(), gone.name.clone());
                ctx.subscriptions.remove(&key);
                ctx.plans.set(&key, None);
                ctx.failures.forget(&key);
                ctx.last_valid.forget(&key);
                ctx.settled.forget(&key);
                ctx.written.forget(&key);
            }
            ctx.metrics.loop_turned(ctx.clock.now());
            futures::future::ready(())
        })
        .await;
}

/// When to try again after a failure.
fn again(object: Arc<InferenceService>, error: &Error, ctx: Arc<Context>) -> Action {
    let key = ServiceKey::new(object.namespace().unwrap_or_default(), object.name_any());
    let failures = ctx.failures.count(&key, ctx.clock.now());
    let is_conflict = error.category() == "Conflict";
    Action::requeue(requeue::after_failure(
        failures,
        error.is_transient(),
        is_conflict,
        rand::rng().random_range(0.0..1.0),
    ))
}

#[cfg(test)]
mod every_field;
