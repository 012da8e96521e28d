//! Hands `spec.replicas` of a Deployment over to its HorizontalPodAutoscaler.

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tidewright_api::labels;

use super::call::call;
use crate::error::Result;

/// Keeps `replicas` under a manager of its own. Without this, the next apply would drop our claim and the API server would reset the field to 1,
/// which ends all pods but one.
///
/// # Errors
/// What the API server says.
pub async fn hand_over(client: &Client, deployment: &Deployment, replicas: i32) -> Result<()> {
    let namespace = deployment.namespace().unwrap_or_default();
    let name = deployment.name_any();
    let api: Api<Deployment> = Api::namespaced(client.clone(), &namespace);
    let patch = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "uid": deployment.uid()},
        "spec": {"replicas": replicas},
    });
    let params = PatchParams::apply(labels::HANDOVER_MANAGER).force();
    call(
        || format!("hand over replicas of Deployment {namespace}/{name}"),
        api.patch(&name, &params, &Patch::Apply(&patch)),
    )
    .await?;
    Ok(())
}

/// Whether the Deployment's replicas were written by us until now.
pub fn were_fixed(deployment: &Deployment) -> bool {
    deployment
        .annotations()
        .get(labels::REPLICAS_WRITER)
        .is_some_and(|w| w == labels::REPLICAS_FIXED)
}
