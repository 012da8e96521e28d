//! The reconcile: gather, validate, build, apply, prune, summarise, write, announce.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use jiff::SignedDuration;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use tidewright_api::conditions::Reason;
use tidewright_api::{InferenceService, InferenceServiceStatus};

use super::context::Context;
use super::{requeue, subscribe};
use crate::cluster::caches::Caches;
use crate::cluster::{apply_all, prune, write_status};
use crate::domain::observed::Observed;
use crate::domain::published::{Reading, ServiceKey, Signal};
use crate::domain::validated::Validated;
use crate::error::{Error, Result};
use crate::status::Failure;
use crate::{autoscaler, desired, events, status, validate};

/// One reconcile, which can fail, take too long or panic without harm to any other.
///
/// # Errors
/// Whatever kept the service from being as it should be; the status says so already, if it could be written.
pub async fn reconcile(object: Arc<InferenceService>, ctx: Arc<Context>) -> Result<Action> {
    let key = ServiceKey::new(object.namespace().unwrap_or_default(), object.name_any());
    let begun = ctx.clock.now();
    let object = ctx.written.over(&key, object, begun);
    let limit = ctx.reconcile_timeout;
    let guarded = AssertUnwindSafe(tokio::time::timeout(limit, steps(&object, &key, &ctx))).catch_unwind();
    let outcome = match guarded.await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(Error::Timeout {
            what: "the reconcile".to_owned(),
            limit,
        }),
        Err(panic) => Err(Error::Panic(panic_message(panic.as_ref()))),
    };
    let seconds = ctx.clock.now().duration_since(begun).as_secs_f64();
    match outcome {
        Ok(()) => {
            ctx.metrics.reconciled("Ok", seconds);
            ctx.failures.forget(&key);
            Ok(Action::requeue(requeue::LOOK_AGAIN))
        }
        Err(error) if error.is_namespace_ending() => {
            // Nothing can be made there any more, and what is left goes with the namespace.
            tracing::debug!(service = %key, "its namespace is being deleted");
            Ok(Action::requeue(requeue::LOOK_AGAIN))
        }
        Err(error) => {
            ctx.metrics.reconciled(error.category(), seconds);
            tracing::warn!(service = %key, category = error.category(), %error, "reconcile failed");
            // What made the reconcile panic may be what is told of it, too: neither may end the others.
            let reporting = tokio::time::timeout(limit, report(&object, &key, &ctx, &error));
            if AssertUnwindSafe(reporting).catch_unwind().await.is_err() {
                tracing::error!(service = %key, "telling of the failure panicked");
            }
            Err(error)
        }
    }
}

async fn steps(object: &Arc<InferenceService>, key: &ServiceKey, ctx: &Context) -> Result<()> {
    if object.metadata.deletion_timestamp.is_some() {
        // Children go by their owner references; there is nothing outside the cluster to undo.
        return Ok(());
    }
    let owner_uid = object.uid().unwrap_or_default();
    let deployments = ctx.caches.deployments.controlled_if_listed(key, &owner_uid);
    let deployments = deployments.map(Caches::by_pool);
    let service = match validate::validate(object, &ctx.prometheus) {
        Ok(service) => service,
        Err(problems) => {
            let last = ctx.subscriptions.get(key);
            let kept = subscribe::of_refused(last.as_deref(), deployments.as_ref());
            ctx.subscriptions.set(key.clone(), kept);
            let now = ctx.clock.now();
            let queue = ctx.published.reading(key, None, &Signal::QueueDepth, now);
            let status = status::refused(object, &problems, deployments.as_ref(), Some(&queue), now);
            return publish(object, key, status, ctx).await;
        }
    };
    ctx.subscriptions
        .set(key.clone(), subscribe::of_valid(&service, deployments.as_ref()));
    ctx.plans.set(key, autoscaler::plan(&service, &ctx.times));
    if !ctx.may_write.now() {
        return Ok(());
    }
    let pods = ctx.caches.pods(key);
    let are_served = match ctx.signals.borrow().are_served() {
        Some(known) => known,
        // A fixed number reads no signals.
        None if service.is_fixed => true,
        // While it is not known who serves them, an autoscaler stays as it is, which has to be known.
        None => match ctx.caches.autoscalers.controlled_if_listed(key, &owner_uid) {
            Some(autoscalers) => autoscalers.iter().all(|a| desired::reads_signals(a)),
            None => return Ok(()),
        },
    };
    let wanted = desired::build(&service, &ctx.pods, are_served);
    let stopped = prune::prune_autoscalers(
        &ctx.client,
        &ctx.caches,
        &ctx.may_write,
        key,
        &service.owner.uid,
        &wanted,
    )
    .await?;
    ctx.metrics.wrote("delete", stopped);
    let applied = apply_all::apply_all(&ctx.client, &ctx.caches, &ctx.may_write, &service, &wanted).await?;
    ctx.metrics.wrote("apply", applied.writes);
    if !ctx.may_write.now() {
        return Err(Error::NotLeader);
    }
    // While an older ReplicaSet is left, it makes its pods anew, with the ConfigMap of their time.
    let is_rolled_out = applied.deployments.values().all(|d| status::is_settled(d));
    let deleted = prune::prune(
        &ctx.client,
        &ctx.caches,
        &ctx.may_write,
        key,
        &service.owner.uid,
        &wanted,
        pods.as_deref().filter(|_| is_rolled_out),
    )
    .await?;
    ctx.metrics.wrote("delete", deleted);
    let settled = ctx.settled.look(key, &applied.deployments, applied.writes > 0);
    let observed = Observed {
        settled,
        ..observe(&service, key, applied.deployments, pods.unwrap_or_default(), ctx)
    };
    publish(
        object,
        key,
        status::summarise(object, &service, &observed, ctx.clock.now()),
        ctx,
    )
    .await
}

fn observe(
    service: &Validated,
    key: &ServiceKey,
    deployments: BTreeMap<String, Arc<k8s_openapi::api::apps::v1::Deployment>>,
    pods: Vec<Arc<k8s_openapi::api::core::v1::Pod>>,
    ctx: &Context,
) -> Observed {
    let now = ctx.clock.now();
    let read =
        |pools: Option<&[String]>, signal: &Signal| -> Reading { ctx.published.reading(key, pools, signal, now) };
    let readings = service.pools.iter().map(|pool| {
        let of_pool = [pool.name.clone()];
        let all = service
            .metrics
            .iter()
            .map(|metric| metric.signal().map(|signal| read(Some(&of_pool), &signal)));
        (pool.name.clone(), all.collect())
    });
    Observed {
        deployments,
        settled: BTreeSet::new(),
        autoscalers: Caches::by_pool(ctx.caches.autoscalers.controlled(key, &service.owner.uid)),
        pods,
        readings: readings.collect(),
        queue: Some(read(None, &Signal::QueueDepth)),
        digests: ctx
            .published
            .service(key, now)
            .map(|readings| readings.digests.clone())
            .unwrap_or_default(),
        decided: ctx.decisions.get(key),
        signals: ctx.signals.borrow().clone(),
    }
}

/// Writes a status that differs, and tells of what changed.
async fn publish(
    object: &InferenceService,
    key: &ServiceKey,
    status: InferenceServiceStatus,
    ctx: &Context,
) -> Result<()> {
    if !ctx.may_write.now() {
        return Ok(());
    }
    if let Some(version) = write_status::write_status(&ctx.client, object, &status).await? {
        ctx.written.note(key, object, version, &status, ctx.clock.now());
        ctx.metrics.wrote("status", 1);
        for event in events::between(object.status.as_ref(), &status) {
            if !ctx.may_write.now() {
                return Err(Error::NotLeader);
            }
            ctx.recorder.publish(object, event, ctx.clock.now()).await;
        }
    }
    Ok(())
}

/// Says in the status that the reconcile failed, unless it may have been a hiccup. If that fails too, the log and the metrics have said it.
async fn report(object: &InferenceService, key: &ServiceKey, ctx: &Context, error: &Error) {
    let failure = kind_of(error, ctx.failures.lasting(key, ctx.clock.now()));
    let reason = match error {
        Error::Panic(_) => Reason::Panic,
        Error::NotOurs { .. } => Reason::NotOurs,
        _ => Reason::ApiError,
    };
    let Some(status) = status::failed(object, failure, reason, &error.to_string(), ctx.clock.now()) else {
        return;
    };
    if let Err(second) = publish(object, key, status, ctx).await {
        tracing::debug!(%second, "the failure could not be written to the status either");
    }
}

/// `lasting` is for how long nothing but failures has come before it.
fn kind_of(error: &Error, lasting: SignedDuration) -> Failure {
    match error {
        Error::Panic(_) | Error::NotOurs { .. } => Failure::Permanent,
        // What the API server does not take of this spec it never will.
        _ if error.category() == "Invalid" => Failure::Permanent,
        _ if error.is_transient() && lasting < requeue::BRIEF_MAX => Failure::Brief,
        // Of what stays until somebody does something, too: it says nothing of what serves.
        _ => Failure::Lasting,
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_what_may_pass_is_brief_and_only_what_is_about_the_service_is_permanent() {
        let slow = || Error::Timeout {
            what: "a call".to_owned(),
            limit: Duration::from_secs(10),
        };
        let taken = Error::NotOurs {
            kind: "Service",
            name: "digits".to_owned(),
        };
        let refused = Error::Undecodable("x".to_owned());
        let api = |code: u16| {
            let status = kube::core::Status::failure("no", "No").with_code(code);
            Error::api("apply Service a/b")(kube::Error::Api(status.boxed()))
        };
        let (no_rights, invalid) = (api(403), api(422));
        let first = SignedDuration::ZERO;
        assert_eq!(kind_of(&slow(), first), Failure::Brief);
        assert_eq!(kind_of(&slow(), SignedDuration::from_secs(29)), Failure::Brief);
        assert_eq!(kind_of(&slow(), requeue::BRIEF_MAX), Failure::Lasting);
        assert_eq!(kind_of(&no_rights, first), Failure::Brief, "roles may be being written");
        assert_eq!(kind_of(&refused, first), Failure::Lasting);
        assert_eq!(kind_of(&invalid, first), Failure::Permanent);
        assert_eq!(kind_of(&taken, first), Failure::Permanent);
        assert_eq!(kind_of(&Error::Panic("x".to_owned()), first), Failure::Permanent);
    }
}
