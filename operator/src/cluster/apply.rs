//! Makes an object be what it should be, and writes nothing if it is.

use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tidewright_api::labels;

use super::call::call;
use super::covers::covers;
use crate::domain::hex::hex;
use crate::error::{Error, Result};

/// Enough to tell two versions of one object apart.
const HASH_BYTES: usize = 8;

/// What a child must be able to do.
pub trait Child:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}
impl<K> Child for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// Applies one child; `live` is what the cache has of it. Returns the object as it is now, and whether it was written.
///
/// # Errors
/// [`Error::NotOurs`] if somebody else controls an object of this name; what the API server says otherwise.
pub async fn apply<K: Child>(client: &Client, wanted: &K, live: Option<Arc<K>>) -> Result<(Arc<K>, bool)> {
    let namespace = wanted.namespace().unwrap_or_default();
    let name = wanted.name_any();
    let kind = kind_name::<K>();
    let mut value = prepared(wanted)?;
    if let Some(live) = &live {
        refuse_foreign(live.as_ref(), wanted, kind)?;
        if has_all_of(live.as_ref(), &value) {
            return Ok((Arc::clone(live), false));
        }
    }
    let api: Api<K> = Api::namespaced(client.clone(), &namespace);
    let mut uid = live.as_ref().and_then(|live| live.uid());
    if live.is_none() {
        // The cache may not have it yet, and forcing would take over what another made under this name.
        let found = call(|| format!("get {kind} {namespace}/{name}"), api.get_opt(&name)).await?;
        if let Some(found) = found {
            refuse_foreign(&found, wanted, kind)?;
            if has_all_of(&found, &value) {
                return Ok((Arc::new(found), false));
            }
            uid = found.uid();
        }
    }
    // What was looked at, and not what somebody else has made under its name meanwhile.
    if let (Some(uid), Some(metadata)) = (uid, value["metadata"].as_object_mut()) {
        metadata.insert("uid".to_owned(), Value::String(uid));
    }
    let params = PatchParams::apply(labels::FIELD_MANAGER).force();
    let applied = call(
        || format!("apply {kind} {namespace}/{name}"),
        api.patch(&name, &params, &Patch::Apply(&value)),
    )
    .await?;
    Ok((Arc::new(applied), true))
}

/// Whether applying `wanted` would change nothing of `live`.
///
/// # Errors
/// `wanted` cannot be written down.
pub fn is_current<K: Child>(live: &K, wanted: &K) -> Result<bool> {
    Ok(has_all_of(live, &prepared(wanted)?))
}

fn has_all_of<K: Child>(live: &K, wanted: &Value) -> bool {
    live.meta().deletion_timestamp.is_none() && serde_json::to_value(live).is_ok_and(|have| covers(&have, wanted))
}

/// Deletes exactly the object that the cache shows: one that was made anew under the same name stays.
///
/// # Errors
/// What the API server says, except that the object is gone already.
pub async fn delete<K: Child>(client: &Client, object: &K) -> Result<()> {
    let namespace = object.namespace().unwrap_or_default();
    let name = object.name_any();
    let api: Api<K> = Api::namespaced(client.clone(), &namespace);
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: object.uid(),
            resource_version: None,
        }),
        ..DeleteParams::background()
    };
    match call(
        || format!("delete {} {namespace}/{name}", kind_name::<K>()),
        api.delete(&name, &params),
    )
    .await
    {
        Err(error) if matches!(error.category(), "NotFound" | "Conflict") => Ok(()),
        other => other.map(|_| ()),
    }
}

/// The kind's name, e.g. `Deployment`.
pub fn kind_name<K: Child>() -> &'static str {
    // k8s-openapi's kinds are static; `Resource::kind` hides that behind a Cow.
    match K::kind(&()) {
        std::borrow::Cow::Borrowed(kind) => kind,
        std::borrow::Cow::Owned(_) => "object",
    }
}

/// Whether `object` is controlled by `owner_uid`.
pub fn is_controlled_by<K: Child>(object: &K, owner_uid: &str) -> bool {
    object
        .owner_references()
        .iter()
        .any(|o| o.controller == Some(true) && o.uid == owner_uid)
}

fn refuse_foreign<K: Child>(live: &K, wanted: &K, kind: &'static str) -> Result<()> {
    let owner = wanted
        .owner_references()
        .first()
        .map(|o| o.uid.clone())
        .unwrap_or_default();
    if is_controlled_by(live, &owner) {
        Ok(())
    } else {
        Err(Error::NotOurs {
            kind,
            name: live.name_any(),
        })
    }
}

/// The object as it is sent: with the hash of everything that we want of it, so that a field we no longer want shows as a difference.
fn prepared<K: Child>(wanted: &K) -> Result<Value> {
    let encode = |error: serde_json::Error| Error::Undecodable(error.to_string());
    let text = serde_json::to_vec(wanted).map_err(encode)?;
    let hash = hex(&Sha256::digest(&text), HASH_BYTES);
    let mut object = wanted.clone();
    object.annotations_mut().insert(labels::APPLIED_HASH.to_owned(), hash);
    serde_json::to_value(&object).map_err(encode)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http::{Request, Response};
    use http_body_util::BodyExt as _;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    /// An API server that has nothing, takes everything, and remembers what it was sent.
    fn client(sent: &Arc<Mutex<Vec<Value>>>) -> Client {
        let sent = Arc::clone(sent);
        let service = tower::service_fn(move |request: Request<Body>| {
            let sent = Arc::clone(&sent);
            async move {
                let is_get = request.method() == http::Method::GET;
                let body = request.into_body().collect().await?.to_bytes();
                let (status, answer) = if is_get {
                    let status = json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "message": "", "code": 404});
                    (404, serde_json::to_vec(&status)?)
                } else {
                    sent.lock().unwrap().push(serde_json::from_slice(&body)?);
                    (200, body.to_vec())
                };
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(
                    Response::builder().status(status).body(Body::from(answer))?,
                )
            }
        });
        Client::new(service, "default")
    }

    fn config_map(value: &str, uid: Option<&str>) -> ConfigMap {
        serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": {"a": value},
            "metadata": {"name": "digits-cpu-1", "namespace": "demo", "uid": uid,
                "ownerReferences": [{"apiVersion": "x/v1", "kind": "X", "name": "digits", "uid": "owner", "controller": true}]},
        }))
        .unwrap()
    }

    #[tokio::test]
    async fn what_is_applied_is_what_was_looked_at_and_not_another_of_its_name() {
        let sent = Arc::default();
        let client = client(&sent);
        let live = Some(Arc::new(config_map("old", Some("u1"))));
        let (_, is_written) = apply(&client, &config_map("new", None), live).await.unwrap();
        assert!(is_written);
        let (_, is_written) = apply(&client, &config_map("new", None), None).await.unwrap();
        assert!(is_written);
        let uids: Vec<Value> = sent
            .lock()
            .unwrap()
            .iter()
            .map(|body| body["metadata"]["uid"].clone())
            .collect();
        assert_eq!(uids, [json!("u1"), Value::Null], "a new one has no uid yet");
    }

    #[tokio::test]
    async fn what_another_controls_is_not_taken() {
        let sent = Arc::default();
        let client = client(&sent);
        let mut foreign = config_map("old", Some("u1"));
        foreign.metadata.owner_references = None;
        let refused = apply(&client, &config_map("new", None), Some(Arc::new(foreign))).await;
        assert!(matches!(refused, Err(Error::NotOurs { .. })));
        assert!(sent.lock().unwrap().is_empty());
    }
}
