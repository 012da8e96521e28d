//! Why a pod cannot start: what people would otherwise look up with `kubectl describe pod`.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};
use tidewright_api::conditions::Reason;
use tidewright_api::labels;
use tidewright_contract::exit::TerminationMessage;

use crate::domain::validated::Pool;

/// Why a pod does not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) reason: Reason,
    pub(super) message: String,
}

impl Trouble {
    fn new(reason: Reason, message: String) -> Self {
        Self { reason, message }
    }

    /// Whether the model is to blame.
    pub(super) fn is_model(&self) -> bool {
        matches!(self.reason, Reason::ModelLoadFailed | Reason::DigestMismatch)
    }
}

/// The trouble of the youngest pod of the pool that has one: the youngest runs the newest template.
pub(super) fn worst(pool: &Pool, pods: &[Arc<Pod>]) -> Option<Trouble> {
    let mut of_pool: Vec<&Arc<Pod>> = pods
        .iter()
        .filter(|pod| pod.metadata.labels.as_ref().and_then(|l| l.get(labels::POOL)) == Some(&pool.name))
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .collect();
    of_pool.sort_by_key(|pod| {
        std::cmp::Reverse((
            pod.metadata.creation_timestamp.as_ref().map(|t| t.0),
            pod.metadata.name.clone(),
        ))
    });
    of_pool.into_iter().find_map(|pod| diagnose(pod, pool))
}

/// Why the Deployment's pods cannot even be created: quota, Pod Security, another admission.
pub(super) fn refused(deployment: &Deployment) -> Option<Trouble> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    let failure = conditions
        .iter()
        .find(|c| c.type_.as_deref() == Some("ReplicaFailure") && c.status.as_deref() == Some("True"))?;
    Some(Trouble::new(
        Reason::PodsRefused,
        failure.message.clone().unwrap_or_default(),
    ))
}

fn diagnose(pod: &Pod, pool: &Pool) -> Option<Trouble> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let status = pod.status.as_ref()?;
    let unscheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|c| c.type_ == "PodScheduled" && c.status == "False");
    if let Some(condition) = unscheduled {
        let message = condition.message.clone().unwrap_or_default();
        return Some(Trouble::new(
            unschedulable(&message, pool),
            format!("pod {name} cannot be scheduled: {message}"),
        ));
    }
    let statuses = status
        .init_container_statuses
        .iter()
        .flatten()
        .chain(status.container_statuses.iter().flatten());
    statuses
        .filter(|c| !c.ready)
        .find_map(container)
        .map(|trouble| Trouble::new(trouble.reason, format!("pod {name}: {}", trouble.message)))
}

fn unschedulable(message: &str, pool: &Pool) -> Reason {
    if message.contains("persistentvolumeclaim") || message.contains("PersistentVolume") {
        Reason::VolumeUnavailable
    } else if pool.accelerator.as_ref().is_some_and(|a| message.contains(&a.resource)) {
        Reason::GPUUnschedulable
    } else {
        Reason::Unschedulable
    }
}

fn container(status: &ContainerStatus) -> Option<Trouble> {
    let name = &status.name;
    let state = status.state.as_ref();
    if let Some(waiting) = state.and_then(|s| s.waiting.as_ref()) {
        let reason = waiting.reason.as_deref().unwrap_or_default();
        let message = waiting.message.as_deref().unwrap_or_default();
        match reason {
            "ErrImagePull"
            | "ImagePullBackOff"
            | "InvalidImageName"
            | "ErrImageNeverPull"
            | "ImageInspectError"
            | "RegistryUnavailable" => {
                return Some(Trouble::new(
                    Reason::ImageUnavailable,
                    format!("container {name}: {reason}: {message}"),
                ));
            }
            "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" | "PostStartHookError" => {
                return Some(Trouble::new(
                    Reason::ContainerNotCreated,
                    format!("container {name}: {reason}: {message}"),
                ));
            }
            _ => {}
        }
    }
    let terminated = state
        .and_then(|s| s.terminated.as_ref())
        .or_else(|| status.last_state.as_ref().and_then(|s| s.terminated.as_ref()))
        // An init container that has done its work is terminated, and well.
        .filter(|t| t.exit_code != 0 || status.restart_count > 0)?;
    Some(ended(name, status.restart_count, terminated))
}

fn ended(container: &str, restarts: i32, terminated: &ContainerStateTerminated) -> Trouble {
    let text = terminated.message.as_deref().unwrap_or_default().trim();
    if terminated.reason.as_deref() == Some("OOMKilled") {
        return Trouble::new(
            Reason::OutOfMemory,
            format!("container {container} used more memory than its limit and was killed ({restarts} restarts)"),
        );
    }
    if let Ok(said) = serde_json::from_str::<TerminationMessage>(text) {
        use tidewright_contract::exit::Reason as Said;
        let reason = match said.reason {
            Said::DigestMismatch => Reason::DigestMismatch,
            Said::ModelNotFound
            | Said::ModelLoadFailed
            | Said::UnsupportedOperator
            | Said::ModelTooLarge
            | Said::UnsafeExternalData
            | Said::UnsupportedModel
            | Said::WarmupFailed
            | Said::ProviderUnavailable => Reason::ModelLoadFailed,
            Said::InvalidConfig | Said::RuntimeUnavailable | Said::DrainTimeout | Said::Failure => Reason::Crashing,
        };
        return Trouble::new(
            reason,
            format!("{}: {} ({restarts} restarts)", said.reason.as_str(), said.message),
        );
    }
    Trouble::new(
        Reason::Crashing,
        format!(
            "container {container} ended with exit code {} ({restarts} restarts): {}",
            terminated.exit_code,
            telling_lines(text)
        ),
    )
}

/// What of a log's end says most: the last error and the line after it. Programs often end with advice, and a panic's message is on its second line.
fn telling_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let is_telling = |line: &&str| {
        let lower = line.to_lowercase();
        ["error", "panicked", "fatal"].iter().any(|word| lower.contains(word))
    };
    match lines.iter().rposition(is_telling) {
        Some(at) => lines.iter().skip(at).take(2).copied().collect::<Vec<_>>().join(" "),
        None => lines.last().copied().unwrap_or("no message").to_owned(),
    }
}
