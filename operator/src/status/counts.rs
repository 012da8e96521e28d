//! How many replicas there are, by pool and in all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use tidewright_api::status::{InferenceServiceStatus, PoolStatus};

/// The numbers of one pool; `desired` stands for those that a Deployment does not say.
pub(super) fn of(pool: &str, deployment: Option<&Deployment>, desired: i32) -> PoolStatus {
    let status = deployment.and_then(|d| d.status.as_ref());
    let ready = status.and_then(|s| s.ready_replicas).unwrap_or(0);
    let exist = status.and_then(|s| s.replicas).unwrap_or(0);
    PoolStatus {
        name: pool.to_owned(),
        desired: deployment.and_then(|d| d.spec.replicas).unwrap_or(desired),
        ready,
        starting: (exist - ready).max(0),
        decision: None,
        advice: None,
    }
}

/// Puts the pools into the status, with their sums and columns.
pub(super) fn set(
    mut status: InferenceServiceStatus,
    pools: Vec<PoolStatus>,
    is_gpu: impl Fn(&str) -> bool,
) -> InferenceServiceStatus {
    let total = |count: fn(&PoolStatus) -> i32| Some(pools.iter().map(count).sum::<i32>());
    status.replicas = total(|p| p.ready + p.starting);
    status.ready_replicas = total(|p| p.ready);
    status.desired_replicas = total(|p| p.desired);
    status.gpu = Some(column(pools.iter().filter(|p| is_gpu(&p.name))));
    status.cpu = Some(column(pools.iter().filter(|p| !is_gpu(&p.name))));
    status.pools = pools;
    status
}

/// Counts anew what runs, where the spec says nothing that could be used.
pub(super) fn recount(
    status: InferenceServiceStatus,
    deployments: &BTreeMap<String, Arc<Deployment>>,
) -> InferenceServiceStatus {
    let pools = deployments.iter().map(|(name, deployment)| {
        let before = status.pools.iter().find(|p| p.name == *name).cloned();
        PoolStatus {
            decision: before.as_ref().and_then(|b| b.decision.clone()),
            advice: before.and_then(|b| b.advice),
            ..of(name, Some(deployment), 1)
        }
    });
    // In the order in which they stood.
    let mut pools: Vec<PoolStatus> = pools.collect();
    let place = |pool: &PoolStatus| status.pools.iter().position(|p| p.name == pool.name);
    pools.sort_by_key(|pool| place(pool).unwrap_or(usize::MAX));
    let gpu: BTreeSet<&String> = deployments
        .iter()
        .filter(|(_, deployment)| has_accelerator(deployment))
        .map(|(name, _)| name)
        .collect();
    set(status, pools, |pool| gpu.iter().any(|name| *name == pool))
}

/// Whether its pods ask for a device: resources beside those of Kubernetes itself are named with a domain.
fn has_accelerator(deployment: &Deployment) -> bool {
    let pod = deployment.spec.template.spec.as_ref();
    pod.into_iter()
        .flat_map(|pod| &pod.containers)
        .filter_map(|container| container.resources.as_ref()?.limits.as_ref())
        .any(|limits| limits.keys().any(|name| name.contains('/')))
}

/// `ready/desired`, or `-` without pools of the kind.
fn column<'a>(pools: impl Iterator<Item = &'a PoolStatus>) -> String {
    let (mut ready, mut desired, mut any) = (0, 0, false);
    for pool in pools {
        ready += pool.ready;
        desired += pool.desired;
        any = true;
    }
    if any {
        format!("{ready}/{desired}")
    } else {
        "-".to_owned()
    }
}
