//! Writes the status of a service, if it differs.

use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tidewright_api::{GROUP, InferenceService, InferenceServiceStatus, VERSION, labels};

use super::call::call;
use crate::error::Result;

/// Writes `status` unless `object` has it, and says which version that made. Conditions and `observedGeneration` travel in the one write.
///
/// # Errors
/// What the API server says.
pub async fn write_status(
    client: &Client,
    object: &InferenceService,
    status: &InferenceServiceStatus,
) -> Result<Option<String>> {
    if object.status.as_ref() == Some(status) {
        return Ok(None);
    }
    let namespace = object.namespace().unwrap_or_default();
    let name = object.name_any();
    let api: Api<InferenceService> = Api::namespaced(client.clone(), &namespace);
    let patch = json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": "InferenceService",
        // The uid keeps the status of a deleted object from landing on a new one of the same name.
        "metadata": {"name": name, "uid": object.uid()},
        "status": status,
    });
    let params = PatchParams::apply(labels::STATUS_MANAGER).force();
    let written = call(
        || format!("write the status of {namespace}/{name}"),
        api.patch_status(&name, &params, &Patch::Apply(&patch)),
    )
    .await?;
    Ok(Some(written.resource_version().unwrap_or_default()))
}
