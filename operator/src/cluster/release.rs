//! Takes back a number of replicas that a user has set by hand, when its time is over.

use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tidewright_api::scaling::REPLICAS_AUTOMATIC;
use tidewright_api::{InferenceService, labels};

use super::call::call;
use crate::error::{Error, Result};

/// Sets the replicas of this very InferenceService to "scaled automatically", if they are still `replicas`. Says whether it did: who has changed the
/// number meanwhile has the last word.
///
/// # Errors
/// What the API server says otherwise.
pub async fn release(client: &Client, namespace: &str, name: &str, uid: &str, replicas: i32) -> Result<bool> {
    let api: Api<InferenceService> = Api::namespaced(client.clone(), namespace);
    let steps = json!([
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "test", "path": "/spec/replicas", "value": replicas},
        {"op": "replace", "path": "/spec/replicas", "value": REPLICAS_AUTOMATIC},
    ]);
    let patch = serde_json::from_value(steps).map_err(|error| Error::Undecodable(error.to_string()))?;
    let params = PatchParams {
        field_manager: Some(labels::SCALE_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let released = call(
        || format!("take back {replicas} replicas of InferenceService {namespace}/{name}"),
        api.patch_scale(name, &params, &Patch::<()>::Json(patch)),
    )
    .await;
    match released {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.category(), "Conflict" | "Invalid" | "NotFound") => Ok(false),
        Err(error) => Err(error),
    }
}
