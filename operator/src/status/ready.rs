//! Ready, PredictorReady, ModelLoaded.
//!
//! | situation of a pool | PredictorReady |
//! |---|---|
//! | no Deployment seen, or its controller has not seen this generation (other than another number of replicas) | Unknown, Pending |
//! | its share of a fixed number is zero | True, Ready |
//! | a pod cannot start | False, with the pod's reason |
//! | old pods are left, or new ones missing | False, RollingOut |
//! | whoever scales has not asked for the minimum yet | False, RollingOut |
//! | fewer ready than must be | False, ReplicasStuck if some take too long to become ready, else NotEnoughReplicas |
//! | otherwise | True, Ready |
//!
//! With several pools the first that is not True speaks. A pod that cannot start counts only while the pool lacks replicas that it must have:
//! the twentieth pod of a pool of one to twenty does not make a serving service unready.

use k8s_openapi::api::apps::v1::Deployment;
use tidewright_api::conditions::{ConditionType, Reason};

use super::conditions::{Draft, Truth};
use super::pods::{self, Trouble};
use super::scaling;
use crate::domain::observed::Observed;
use crate::domain::validated::{Pool, Validated};

/// Ready: all of these hold. The first that does not gives reason and message.
pub(super) fn overall(parts: &[&Draft]) -> Draft {
    match parts
        .iter()
        .find(|part| part.truth == Truth::False)
        .or_else(|| parts.iter().find(|part| part.truth == Truth::Unknown))
    {
        Some(part) => Draft::new(ConditionType::Ready, part.truth, part.reason, part.message.clone()),
        None => Draft::new(
            ConditionType::Ready,
            Truth::True,
            Reason::Ready,
            parts
                .iter()
                .find(|p| p.kind == ConditionType::PredictorReady)
                .map(|p| p.message.clone())
                .unwrap_or_default(),
        ),
    }
}

/// PredictorReady.
pub(super) fn predictor(service: &Validated, observed: &Observed) -> Draft {
    let verdicts: Vec<_> = service
        .pools
        .iter()
        .map(|pool| (pool, verdict(pool, service.is_paused, observed)))
        .collect();
    let draft = |truth, reason, message| Draft::new(ConditionType::PredictorReady, truth, reason, message);
    let worst = verdicts
        .iter()
        .find(|(_, v)| v.truth == Truth::False)
        .or_else(|| verdicts.iter().find(|(_, v)| v.truth == Truth::Unknown));
    if let Some((pool, v)) = worst {
        return draft(v.truth, v.reason, format!("pool {}: {}", pool.name, v.message));
    }
    let parts: Vec<_> = verdicts
        .iter()
        .map(|(pool, v)| format!("pool {}: {}", pool.name, v.message))
        .collect();
    draft(Truth::True, Reason::Ready, parts.join("; "))
}

/// ModelLoaded: readiness of a server means that its model is loaded and warm; a failure is what the server itself said when it ended.
pub(super) fn model(service: &Validated, observed: &Observed) -> Draft {
    let draft = |truth, reason, message: String| Draft::new(ConditionType::ModelLoaded, truth, reason, message);
    let failure = service
        .pools
        .iter()
        .filter(|pool| is_short(pool, service.is_paused, observed))
        .filter_map(|pool| Some((pool, worst_trouble(pool, observed)?)))
        .find(|(_, t)| t.is_model());
    if let Some((pool, trouble)) = failure {
        return draft(
            Truth::False,
            trouble.reason,
            format!("pool {}: {}", pool.name, trouble.message),
        );
    }
    let mut is_loading = None;
    for pool in &service.pools {
        let Some(deployment) = observed
            .deployments
            .get(&pool.name)
            .filter(|d| is_caught_up(d, pool, observed))
        else {
            return draft(
                Truth::Unknown,
                Reason::Pending,
                format!("pool {}: not observed yet", pool.name),
            );
        };
        let counts = Counts::of(deployment);
        if pool.fixed == Some(0) {
            continue;
        }
        if counts.updated_ready() == 0 {
            is_loading = Some(pool);
        }
    }
    match is_loading {
        Some(pool) => draft(
            Truth::Unknown,
            Reason::Loading,
            format!(
                "pool {}: no replica of this generation has loaded the model yet",
                pool.name
            ),
        ),
        None => draft(
            Truth::True,
            Reason::Loaded,
            "the model is loaded and has answered its warm-up".to_owned(),
        ),
    }
}

struct Verdict {
    truth: Truth,
    reason: Reason,
    message: String,
}

fn verdict(pool: &Pool, is_paused: bool, observed: &Observed) -> Verdict {
    let verdict = |truth, reason, message: String| Verdict { truth, reason, message };
    let Some(deployment) = observed.deployments.get(&pool.name) else {
        return verdict(
            Truth::Unknown,
            Reason::Pending,
            "its Deployment has not been observed yet".to_owned(),
        );
    };
    if !is_caught_up(deployment, pool, observed) {
        return verdict(
            Truth::Unknown,
            Reason::Pending,
            "the Deployment's controller has not seen this generation yet".to_owned(),
        );
    }
    let counts = Counts::of(deployment);
    if pool.fixed == Some(0) {
        return verdict(Truth::True, Reason::Ready, "0 of a fixed number".to_owned());
    }
    let needed = counts.needed(pool, is_paused);
    let is_rolling = counts.is_rolling(needed);
    if (counts.available < needed || is_rolling)
        && let Some(trouble) = worst_trouble(pool, observed)
    {
        return verdict(
            Truth::False,
            trouble.reason,
            format!("{} ({}/{} ready)", trouble.message, counts.ready, counts.desired),
        );
    }
    if is_rolling {
        return verdict(
            Truth::False,
            Reason::RollingOut,
            format!(
                "{} of {} replicas run this generation, {} older ones are left",
                counts.updated,
                counts.desired,
                (counts.existing - counts.updated).max(0)
            ),
        );
    }
    if counts.desired < needed && counts.available >= counts.desired {
        return verdict(
            Truth::False,
            Reason::RollingOut,
            format!("{} of {needed} needed replicas are asked for so far", counts.desired),
        );
    }
    if counts.available < needed {
        let short = format!("{} of {needed} needed replicas are ready", counts.available);
        return match scaling::stuck(pool, observed) {
            Some(stuck) => verdict(Truth::False, Reason::ReplicasStuck, format!("{short}; {stuck}")),
            None => verdict(Truth::False, Reason::NotEnoughReplicas, short),
        };
    }
    let fixed = if pool.fixed.is_some() { " (fixed)" } else { "" };
    verdict(
        Truth::True,
        Reason::Ready,
        format!("{}/{} ready{fixed}", counts.ready, counts.desired),
    )
}

/// Whether the pool has less than it must have, or is being rolled out: only then a pod that cannot start matters.
fn is_short(pool: &Pool, is_paused: bool, observed: &Observed) -> bool {
    let caught_up = observed.deployments.get(&pool.name);
    caught_up
        .filter(|d| is_caught_up(d, pool, observed))
        .is_some_and(|deployment| {
            let counts = Counts::of(deployment);
            let needed = counts.needed(pool, is_paused);
            counts.available < needed || counts.is_rolling(needed)
        })
}

/// The trouble that matters most, of the pods of this pool's current template and of the Deployment itself.
fn worst_trouble(pool: &Pool, observed: &Observed) -> Option<Trouble> {
    let deployment = observed.deployments.get(&pool.name)?;
    pods::worst(pool, &observed.pods).or_else(|| pods::refused(deployment))
}

/// Whether the numbers speak of the template as it is. An autoscaler's new number of replicas makes a new generation too: a template that
/// was rolled out before it is rolled out still, and a service must not seem unready for a moment at every step.
fn is_caught_up(deployment: &Deployment, pool: &Pool, observed: &Observed) -> bool {
    if observed.settled.contains(&pool.name) {
        return true;
    }
    let observed = deployment
        .status
        .as_ref()
        .and_then(|s| s.observed_generation)
        .unwrap_or(0);
    observed >= deployment.metadata.generation.unwrap_or(i64::MAX)
}

/// Whether the Deployment's controller has seen its newest generation, and no pod of an older template is left.
pub fn is_rolled_out(deployment: &Deployment) -> bool {
    let status = deployment.status.clone().unwrap_or_default();
    let counts = Counts::of(deployment);
    status.observed_generation.unwrap_or(0) >= deployment.metadata.generation.unwrap_or(i64::MAX)
        && counts.existing > 0
        && counts.updated == counts.existing
        && counts.available > 0
}

/// Whether no pod of an older template is left, or wanted.
pub fn is_settled(deployment: &Deployment) -> bool {
    let counts = Counts::of(deployment);
    is_rolled_out(deployment) || (counts.desired == 0 && counts.existing == 0)
}

struct Counts {
    desired: i32,
    existing: i32,
    updated: i32,
    ready: i32,
    available: i32,
}

impl Counts {
    fn of(deployment: &Deployment) -> Self {
        let status = deployment.status.clone().unwrap_or_default();
        Self {
            desired: deployment.spec.replicas.unwrap_or(1),
            existing: status.replicas.unwrap_or(0),
            updated: status.updated_replicas.unwrap_or(0),
            ready: status.ready_replicas.unwrap_or(0),
            available: status.available_replicas.unwrap_or(0),
        }
    }

    /// Replicas that the pool must have to count as serving: its minimum, even before whoever scales it has asked for it. While scaling pauses nobody
    /// asks for more than there are.
    fn needed(&self, pool: &Pool, is_paused: bool) -> i32 {
        let least = pool.fixed.unwrap_or(pool.replicas_min);
        let asked_for = if is_paused { self.desired } else { i32::MAX };
        least.min(asked_for).max(1)
    }

    /// Whether old replicas are left, or new ones missing that are asked for.
    fn is_rolling(&self, needed: i32) -> bool {
        self.updated < self.existing || self.updated < needed.min(self.desired)
    }

    /// Ready replicas that must be of the current template: those that the old ones cannot account for.
    fn updated_ready(&self) -> i32 {
        (self.ready - (self.existing - self.updated)).max(0)
    }
}
