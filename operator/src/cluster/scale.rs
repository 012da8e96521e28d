//! Writes a number of replicas through the scale subresource.

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tidewright_api::labels;

use super::call::call;
use crate::error::{Error, Result};

/// Sets the replicas of this very Deployment to `to`, if they are still `from`: what was decided on another number is decided anew.
///
/// # Errors
/// `Invalid` if they are not; what the API server says otherwise.
pub async fn scale(client: &Client, namespace: &str, name: &str, uid: &str, from: i32, to: i32) -> Result<()> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let steps = json!([
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "test", "path": "/spec/replicas", "value": from},
        {"op": "replace", "path": "/spec/replicas", "value": to},
    ]);
    let patch = serde_json::from_value(steps).map_err(|error| Error::Undecodable(error.to_string()))?;
    let params = PatchParams {
        field_manager: Some(labels::SCALE_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    call(
        || format!("scale Deployment {namespace}/{name} from {from} to {to}"),
        api.patch_scale(name, &params, &Patch::<()>::Json(patch)),
    )
    .await?;
    Ok(())
}
