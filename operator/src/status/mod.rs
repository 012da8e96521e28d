//! From facts to a status. Pure: `now` is an argument, and the previous status keeps its transition times.

mod conditions;
mod counts;
mod decision;
mod digest;
mod moments;
mod overridden;
mod pods;
mod ready;
mod scaling;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use tidewright_api::conditions::{ConditionType, Reason};
use tidewright_api::status::{InferenceServiceStatus, ModelStatus, PoolStatus};
use tidewright_api::{InferenceService, labels};

use crate::domain::observed::Observed;
use crate::domain::problem::Problem;
use crate::domain::published::Reading;
use crate::domain::validated::{Pool, Validated};
use conditions::{Draft, Truth};

pub use decision::queue_text;
pub use overridden::over;
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
        .map(|pool| pool_status(pool, service, observed, &previous, now))
        .collect();
    let honoured = Draft::new(
        ConditionType::SpecHonoured,
        Truth::True,
        Reason::Honoured,
        "every field is acted on",
    );
    let predictor = ready::predictor(service, observed);
    let model = ready::model(service, observed);
    let overridden = overridden::of(service, previous.r#override.as_ref(), now);
    let mut scaling = scaling::scaling(service, observed);
    if let Some(overridden) = &overridden {
        scaling.message = format!("{}; it is set to 0 at {}", scaling.message, overridden.until.0);
    }
    let ready = ready::overall(&[&honoured, &predictor, &model]);
    let transition = match (model.truth, model.reason, predictor.truth) {
        (_, Reason::ModelLoadFailed | Reason::DigestMismatch, _) => "BlockedByFailedLoad",
        (Truth::True, _, Truth::True) => "UpToDate",
        _ => "InProgress",
    };
    let gpu_pools = service.pools.iter().filter(|pool| pool.is_gpu());
    let gpu_pools: BTreeSet<&str> = gpu_pools.map(|pool| pool.name.as_str()).collect();
    let status = InferenceServiceStatus {
        observed_generation: Some(service.generation),
        url: Some(url(service)),
        conditions: conditions::render(
            &[ready, predictor, model, scaling, honoured],
            &previous.conditions,
            service.generation,
            now,
        ),
        selector: Some(format!("{}={}", labels::SERVICE, service.name)),
        queue: Some(queue_text(observed.queue.as_ref())),
        limited_by: decision::limited_by(service, observed),
        r#override: overridden,
        model: Some(ModelStatus {
            digest: digest::of(service, observed, &previous),
            transition_status: transition.to_owned(),
        }),
        ..InferenceServiceStatus::default()
    };
    counts::set(status, pools, |pool| gpu_pools.contains(pool))
}

/// The status of a service whose spec cannot be honoured: what ran before runs on, by `runs` where that is known, and is counted. Without the
/// Deployments (`None`: not listed yet) what was counted last stays.
pub fn refused(
    object: &InferenceService,
    problems: &[Problem],
    runs: Option<&Validated>,
    deployments: Option<&BTreeMap<String, Arc<Deployment>>>,
    queue: Option<&Reading>,
    now: Timestamp,
) -> InferenceServiceStatus {
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
    status.queue = Some(queue_text(queue));
    if let Some(runs) = runs {
        status.r#override = overridden::of(runs, status.r#override.as_ref(), now);
    }
    match deployments {
        Some(deployments) => counts::recount(status, deployments),
        None => status,
    }
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

fn pool_status(
    pool: &Pool,
    service: &Validated,
    observed: &Observed,
    previous: &InferenceServiceStatus,
    now: Timestamp,
) -> PoolStatus {
    let deployment = observed.deployments.get(&pool.name);
    let before = previous.pools.iter().find(|p| p.name == pool.name);
    let counted = counts::of(&pool.name, deployment.map(AsRef::as_ref), pool.replicas_min);
    PoolStatus {
        decision: Some(decision::decide(pool, service, observed, counted.desired, before, now)),
        advice: decision::advice(pool, service, observed, before, now),
        ..counted
    }
}

#[cfg(test)]
mod tests;
