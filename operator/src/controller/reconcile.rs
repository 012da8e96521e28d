//! The reconcile: gather, validate, build, apply, prune, summarise, write, announce.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use tidewright_api::conditions::Reason;
use tidewright_api::{InferenceService, InferenceServiceStatus};

use super::context::Context;
use super::{requeue, subscribe};
use crate::cluster::caches::Caches;
use crate::cluster::{apply_all, prune, release, write_status};
use crate::domain::observed::Observed;
use crate::domain::problem::Problem;
use crate::domain::published::{Reading, ServiceKey, Signal};
use crate::domain::validated::Validated;
use crate::error::{Error, Result};
use crate::status::Failure;
use crate::{autoscaler, desired, events, status, validate};

/// A service's Deployments by pool.
type Deployments = BTreeMap<String, Arc<Deployment>>;

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
        Ok(edge) => {
            ctx.metrics.reconciled("Ok", seconds);
            ctx.failures.forget(&key);
            Ok(Action::requeue(requeue::look_again(edge, ctx.clock.now())))
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

/// Says when something of the service begins or ends by itself.
async fn steps(object: &Arc<InferenceService>, key: &ServiceKey, ctx: &Context) -> Result<Option<Timestamp>> {
    if object.metadata.deletion_timestamp.is_some() {
        // Children go by their owner references; there is nothing outside the cluster to undo.
        return Ok(None);
    }
    let owner_uid = object.uid().unwrap_or_default();
    let deployments = ctx.caches.deployments.controlled_if_listed(key, &owner_uid);
    let deployments = deployments.map(Caches::by_pool);
    match validate::validate(object, &ctx.prometheus) {
        Ok(service) => {
            ctx.last_valid.note(key, &service);
            honour(object, key, service, deployments.as_ref(), ctx).await
        }
        Err(problems) => match ctx.last_valid.of(key, &owner_uid) {
            Some(last) => keep(object, key, &problems, &last, deployments.as_ref(), ctx).await,
            None => refuse(object, key, &problems, None, deployments.as_ref(), ctx).await,
        },
    }
}

/// Acts on a spec.
async fn honour(
    object: &InferenceService,
    key: &ServiceKey,
    service: Validated,
    deployments: Option<&Deployments>,
    ctx: &Context,
) -> Result<Option<Timestamp>> {
    let begun = ctx.clock.now();
    let service = service.at(begun);
    let edge = service.changes_at(begun);
    tell(key, &service, deployments, ctx);
    if !ctx.may_write.now() {
        return Ok(edge);
    }
    let seen = object.status.as_ref().and_then(|status| status.r#override.as_ref());
    if let Some(replicas) = status::over(&service, seen, begun) {
        match take_back(key, &service, replicas, ctx).await {
            // What becomes of it follows when the watch brings the change.
            Ok(true) => return Ok(edge),
            Ok(false) => {}
            // The number stays, as set, and so does everything else: it is tried again at the next look.
            Err(error) => {
                tracing::warn!(service = %key, replicas, %error, "the number that was set by hand has had its time, and stays");
            }
        }
    }
    let Some(observed) = act(key, &service, ctx).await? else {
        return Ok(edge);
    };
    let status = status::summarise(object, &service, &observed, ctx.clock.now());
    let override_ends_at = status.r#override.as_ref().map(|seen| seen.until.0);
    publish(object, key, status, ctx).await?;
    Ok(edge.into_iter().chain(override_ends_at).min())
}

/// Refuses a spec, and acts on the one before it: what ran runs on, and what of it begins or ends by time does.
async fn keep(
    object: &InferenceService,
    key: &ServiceKey,
    problems: &[Problem],
    last: &Validated,
    deployments: Option<&Deployments>,
    ctx: &Context,
) -> Result<Option<Timestamp>> {
    let begun = ctx.clock.now();
    let mut service = last.clone();
    let seen = object.status.as_ref().and_then(|status| status.r#override.as_ref());
    let is_another = service.fixed_total() != Some(object.spec.predictor.replicas);
    if service.override_lasts.is_some() && seen.is_none() && is_another {
        // Who led before us took it back.
        service = service.released();
    } else if let Some(replicas) = status::over(&service, seen, begun).filter(|_| ctx.may_write.now()) {
        match take_back(key, &service, replicas, ctx).await {
            // Who has changed the number has the last word in a spec that is acted on. This one ends.
            Ok(_) => service = service.released(),
            Err(error) => {
                tracing::warn!(service = %key, replicas, %error, "the number that was set by hand has had its time, and stays");
            }
        }
    }
    ctx.last_valid.note(key, &service);
    let service = service.at(begun);
    tell(key, &service, deployments, ctx);
    let override_ends_at = refuse(object, key, problems, Some(&service), deployments, ctx).await?;
    // The status says what is wrong with the spec: a failure here must not say something else in its place.
    if ctx.may_write.now()
        && let Err(error) = act(key, &service, ctx).await
    {
        tracing::warn!(service = %key, category = error.category(), %error, "what runs could not be kept as the last valid spec says");
    }
    let edge = service.changes_at(begun);
    Ok(edge.into_iter().chain(override_ends_at).min())
}

/// Says in the status that a spec is refused; when a number that was set by hand ends, if one counts.
async fn refuse(
    object: &InferenceService,
    key: &ServiceKey,
    problems: &[Problem],
    runs: Option<&Validated>,
    deployments: Option<&Deployments>,
    ctx: &Context,
) -> Result<Option<Timestamp>> {
    if runs.is_none() {
        ctx.subscriptions.set(key.clone(), subscribe::of_running(deployments));
    }
    let now = ctx.clock.now();
    let queue = ctx.published.reading(key, None, &Signal::QueueDepth, now);
    let status = status::refused(object, problems, runs, deployments, Some(&queue), now);
    let counting = runs.and(status.r#override.as_ref());
    let override_ends_at = counting.map(|seen| seen.until.0);
    publish(object, key, status, ctx).await?;
    Ok(override_ends_at)
}

/// Tells those that measure and those that decide.
fn tell(key: &ServiceKey, service: &Validated, deployments: Option<&Deployments>, ctx: &Context) {
    ctx.subscriptions
        .set(key.clone(), subscribe::of_valid(service, deployments));
    ctx.plans.set(key, autoscaler::plan(service, &ctx.times));
}

/// Takes back a number that was set by hand; whether it was still there.
async fn take_back(key: &ServiceKey, service: &Validated, replicas: i32, ctx: &Context) -> Result<bool> {
    let uid = &service.owner.uid;
    let is_done = release::release(&ctx.client, &key.namespace, &key.name, uid, replicas).await?;
    if is_done {
        tracing::info!(service = %key, replicas, "the number that was set by hand has had its time");
        ctx.metrics.wrote("scale", 1);
    }
    Ok(is_done)
}

/// Makes the children be what they should be; `None` while it is not known what that is.
async fn act(key: &ServiceKey, service: &Validated, ctx: &Context) -> Result<Option<Observed>> {
    let owner_uid = &service.owner.uid;
    let pods = ctx.caches.pods(key);
    let are_served = match ctx.signals.borrow().are_served() {
        Some(known) => known,
        // A fixed number reads no signals.
        None if service.is_fixed => true,
        // While it is not known who serves them, an autoscaler stays as it is, which has to be known.
        None => match ctx.caches.autoscalers.controlled_if_listed(key, owner_uid) {
            Some(autoscalers) => autoscalers.iter().all(|a| desired::reads_signals(a)),
            None => return Ok(None),
        },
    };
    let wanted = desired::build(service, &ctx.pods, are_served);
    let stopped = prune::prune_autoscalers(&ctx.client, &ctx.caches, &ctx.may_write, key, owner_uid, &wanted).await?;
    ctx.metrics.wrote("delete", stopped);
    let applied = apply_all::apply_all(&ctx.client, &ctx.caches, &ctx.may_write, service, &wanted).await?;
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
        owner_uid,
        &wanted,
        pods.as_deref().filter(|_| is_rolled_out),
    )
    .await?;
    ctx.metrics.wrote("delete", deleted);
    let settled = ctx.settled.look(key, &applied.deployments, applied.writes > 0);
    Ok(Some(Observed {
        settled,
        ..observe(service, key, applied.deployments, pods.unwrap_or_default(), ctx)
    }))
}

fn observe(
    service: &Validated,
    key: &ServiceKey,
    deployments: Deployments,
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
        let mode = object.spec.predictor.auto_scaling.as_ref().map(|a| a.mode);
        for event in events::between(object.status.as_ref(), &status, mode.unwrap_or_default()) {
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
