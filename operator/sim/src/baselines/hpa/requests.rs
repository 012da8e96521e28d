//! The request that a pod's usage is measured against.
//!
//! Kubernetes 1.37.2, `calculateRequests` in `replica_calculator.go`, with `PodLevelResources` on (its default).

use std::collections::BTreeMap;

use super::input::{Pod, PodName};
use super::spec::Resource;

/// Request of every pod in milli-units. One pod without a request fails them all.
pub fn of_pods(pods: &[Pod], container: Option<&str>, resource: Resource) -> Result<BTreeMap<PodName, i64>, String> {
    let one = |pod: &Pod| Ok((pod.name.clone(), of_pod(pod, container, resource)?));
    pods.iter().map(one).collect()
}

fn of_pod(pod: &Pod, container: Option<&str>, resource: Resource) -> Result<i64, String> {
    match (container, pod.pod_level_requests) {
        (None, Some(requests)) => requests
            .of(resource)
            .ok_or_else(|| format!("missing pod-level request for {} in Pod {}", resource.name(), pod.name)),
        _ => of_containers(pod, container, resource),
    }
}

fn of_containers(pod: &Pod, wanted: Option<&str>, resource: Resource) -> Result<i64, String> {
    let mut sum = 0_i64;
    let counted = |name: &str| wanted.is_none_or(|wanted| wanted == name);
    for container in pod.containers.iter().filter(|container| counted(&container.name)) {
        let request = container.requests.of(resource).ok_or_else(|| {
            let (resource, container) = (resource.name(), &container.name);
            format!(
                "missing request for {resource} in container {container} of Pod {}",
                pod.name
            )
        })?;
        sum = sum.wrapping_add(request);
        if wanted.is_some() {
            return Ok(sum);
        }
    }
    match wanted {
        Some(container) => Err(format!("container {container} not found in Pod {}", pod.name)),
        None => Ok(sum),
    }
}
