//! From facts to a status. Pure: `now` is an argument, and the previous status keeps its transition times.

mod conditions;
mod decision;
mod digest;
mod pods;
mod ready;
mod scaling;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use tidewright_api::conditions::{ConditionType, Reason};
use tidewright_api::status::{InferenceServiceStatus, ModelStatus, PoolStatus};
use tidewright_api::{InferenceService, labels};

use crate::domain::observed::Observed;
use crate::domain::problem::Problem;
use crate::domain::validated::{Pool, Validated};
use conditions::{Draft, Truth};

pub use decision::queue_text;
pub use ready::{is_rolled_out, is_settled};

/// The status of a service whose spec is honoured.
pub fn summarise(
    object: &InferenceService,
    service: &Validated,
    observed: &Observed,
    now: Timestamp,
) -> InferenceServiceStatus {
    let previous = object.status.clone().unwrap_or_default();
    let pools: Vec<PoolStatus> = service
        .pools
        .iter()
        .map(|pool| pool_status(pool, service, observed, &previous))
        .collect();
    let honoured = Draft::new(
        ConditionType::SpecHonoured,
        Truth::True,
        Reason::Honoured,
        "every field is acted on",
    );
    let predictor = ready::predictor(service, observed);
    let model = ready::model(service, observed);
    let scaling = scaling::scaling(service, observed);
    let ready = ready::overall(&[&honoured, &predictor, &model]);
    let transition = match (model.truth, model.reason, predictor.truth) {
        (_, Reason::ModelLoadFailed | Reason::DigestMismatch, _) => "BlockedByFailedLoad",
        (Truth::True, _, Truth::True) => "UpToDate",
        _ => "InProgress",
    };
    let total = |count: fn(&PoolStatus) -> i32| pools.iter().map(count).sum::<i32>();
    InferenceServiceStatus {
        observed_generation: Some(service.generation),
        url: Some(url(service)),
        conditions: conditions::render(
            &[ready, predictor, model, scaling, honoured],
            &previous.conditions,
            service.generation,
            now,
        ),
        replicas: Some(total(|p| p.ready + p.starting)),
        ready_replicas: Some(total(|p| p.ready)),
        desired_replicas: Some(total(|p| p.desired)),
        selector: Some(format!("{}={}", labels::SERVICE, service.name)),
        gpu: Some(column(&pools, service, true)),
        cpu: Some(column(&pools, service, false)),
        queue: Some(queue_text(observed.queue.as_ref())),
        limited_by: decision::limited_by(service, observed),
        pools,
        model: Some(ModelStatus {
            digest: digest::of(service, observed, &previous),
            transition_status: transition.to_owned(),
        }),
    }
}

/// The status of a service whose spec cannot be honoured: what was said of its pods stays, because they stay.
pub fn refused(object: &InferenceService, problems: &[Problem], now: Timestamp) -> InferenceServiceStatus {
    let generation = object.metadata.generation.unwrap_or_default();
    let mut status = object.status.clone().unwrap_or_default();
    let message = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    let drafts = [
        Draft::new(ConditionType::Ready, Truth::False, Reason::InvalidSpec, &message),
        Draft::new(ConditionType::SpecHonoured, Truth::False, Reason::InvalidSpec, &message),
        Draft::new(
            ConditionType::PredictorReady,
            Truth::Unknown,
            Reason::InvalidSpec,
            "not acted on: what ran before still runs",
        ),
        Draft::new(
            ConditionType::ModelLoaded,
            Truth::Unknown,
            Reason::InvalidSpec,
            "not acted on: what ran before still runs",
        ),
        Draft::new(
            ConditionType::ScalingReady,
            Truth::Unknown,
            Reason::InvalidSpec,
            "not acted on: what ran before still scales",
        ),
    ];
    status.conditions = conditions::render(&drafts, &status.conditions, generation, now);
    status.observed_generation = Some(generation);
    let digest = status.model.and_then(|m| m.digest);
    status.model = Some(ModelStatus {
        digest,
        transition_status: "InvalidSpec".to_owned(),
    });
    status
}

/// How sure a failure is to stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It may pass by itself, and has lasted for so short a time that what was observed before is still the best that is known.
    Brief,
    /// It has not passed, or will not by itself; what serves may serve on.
    Lasting,
    /// The service itself cannot be acted on.
    Permanent,
}

/// The status of a service that could not be acted on; `reason` and `message` say why. `None` if it stays as it is: Ready tells what was observed,
/// and a call that failed observed nothing.
pub fn failed(
    object: &InferenceService,
    failure: Failure,
    reason: Reason,
    message: &str,
    now: Timestamp,
) -> Option<InferenceServiceStatus> {
    let generation = object.metadata.generation.unwrap_or_default();
    let mut status = object.status.clone().unwrap_or_default();
    let seen = status.observed_generation == Some(generation);
    if seen && failure == Failure::Brief {
        return None;
    }
    let mut drafts = vec![Draft::new(
        ConditionType::Ready,
        // That another has the name is known at once, whatever else has been observed.
        if (seen && failure == Failure::Permanent) || reason == Reason::NotOurs {
            Truth::False
        } else {
            Truth::Unknown
        },
        reason,
        message,
    )];
    for kind in [
        ConditionType::PredictorReady,
        ConditionType::ModelLoaded,
        ConditionType::ScalingReady,
        ConditionType::SpecHonoured,
    ] {
        if !seen || !status.conditions.iter().any(|c| c.type_ == kind.as_str()) {
            drafts.push(Draft::new(kind, Truth::Unknown, Reason::Pending, "not observed yet"));
        }
    }
    status.conditions = conditions::merge(&drafts, &status.conditions, generation, now);
    // Of this generation nothing else has been observed, and the condition says so.
    status.observed_generation = Some(generation);
    Some(status)
}

fn url(service: &Validated) -> String {
    format!("http://{}.{}.svc.cluster.local", service.name, service.namespace)
}

fn pool_status(pool: &Pool, service: &Validated, observed: &Observed, previous: &InferenceServiceStatus) -> PoolStatus {
    let deployment = observed.deployments.get(&pool.name);
    let desired = deployment.and_then(|d| d.spec.replicas).unwrap_or(pool.replicas_min);
    let ready = deployment.map_or(0, |d| ready_replicas(d));
    let exist = deployment.and_then(|d| d.status.as_ref()?.replicas).unwrap_or(0);
    let before = previous.pools.iter().find(|p| p.name == pool.name);
    PoolStatus {
        name: pool.name.clone(),
        desired,
        ready,
        starting: (exist - ready).max(0),
        decision: Some(decision::decide(pool, service, observed, desired, before)),
        advice: decision::advice(pool, service, observed, before),
    }
}

fn ready_replicas(deployment: &Deployment) -> i32 {
    deployment.status.as_ref().and_then(|s| s.ready_replicas).unwrap_or(0)
}

fn column(pools: &[PoolStatus], service: &Validated, gpu: bool) -> String {
    let of_kind = || {
        pools
            .iter()
            .zip(&service.pools)
            .filter(|(_, pool)| pool.is_gpu() == gpu)
            .map(|(status, _)| status)
    };
    if of_kind().next().is_none() {
        return "-".to_owned();
    }
    format!(
        "{}/{}",
        of_kind().map(|p| p.ready).sum::<i32>(),
        of_kind().map(|p| p.desired).sum::<i32>()
    )
}

#[cfg(test)]
mod tests;
