//! Says of a pod how early it is removed when its ReplicaSet shrinks.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tidewright_api::labels;

use super::call::call;
use crate::error::Result;

/// What a pod shall cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletionCost {
    /// Name of the pod.
    pub pod: String,
    /// Its UID: another pod of this name is left alone.
    pub uid: String,
    /// The cost; `None` takes back what we have said.
    pub cost: Option<i32>,
}

/// Sets it, unless somebody else has: what a person says of a pod stays. Says whether it did.
///
/// # Errors
/// What the API server says otherwise, except that the pod is gone.
pub async fn set(client: &Client, namespace: &str, wanted: &DeletionCost) -> Result<bool> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let mut patch = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": wanted.pod, "uid": wanted.uid},
    });
    if let Some(cost) = wanted.cost {
        patch["metadata"]["annotations"] = json!({labels::DELETION_COST: cost.to_string()});
    }
    let params = PatchParams::apply(labels::DELETION_COST_MANAGER);
    let set = call(
        || format!("set the deletion cost of Pod {namespace}/{}", wanted.pod),
        api.patch_metadata(&wanted.pod, &params, &Patch::Apply(&patch)),
    )
    .await;
    match set {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.category(), "Conflict" | "NotFound") => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http::{Request, Response};
    use http_body_util::BodyExt as _;
    use kube::client::Body;
    use serde_json::Value;

    use super::*;

    /// What was asked of the API server: the query, and the body.
    type Asked = Arc<Mutex<Vec<(String, Value)>>>;

    /// An API server that answers with this status.
    fn client(code: u16, asked: &Asked) -> Client {
        let asked = Arc::clone(asked);
        let service = tower::service_fn(move |request: Request<Body>| {
            let asked = Arc::clone(&asked);
            async move {
                let query = request.uri().query().unwrap_or_default().to_owned();
                let body = serde_json::from_slice(&request.into_body().collect().await?.to_bytes())?;
                asked.lock().unwrap().push((query, body));
                let answer = match code {
                    200 => {
                        json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {"name": "a"}})
                    }
                    _ => json!({"kind": "Status", "status": "Failure", "reason": "No", "message": "no", "code": code}),
                };
                let answer = Body::from(serde_json::to_vec(&answer)?);
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(Response::builder().status(code).body(answer)?)
            }
        });
        Client::new(service, "default")
    }

    fn wanted(cost: Option<i32>) -> DeletionCost {
        DeletionCost {
            pod: "a".to_owned(),
            uid: "u".to_owned(),
            cost,
        }
    }

    #[tokio::test]
    async fn it_is_said_of_this_very_pod_and_never_over_what_somebody_else_says() {
        let asked = Asked::default();
        let client = client(200, &asked);
        for cost in [Some(-3), None] {
            assert!(set(&client, "demo", &wanted(cost)).await.unwrap());
        }
        let asked = asked.lock().unwrap();
        for (query, body) in asked.iter() {
            assert!(query.contains("fieldManager=tidewright-deletion-cost"), "{query}");
            assert!(!query.contains("force=true"), "{query}");
            assert_eq!((&body["kind"], &body["metadata"]["uid"]), (&json!("Pod"), &json!("u")));
        }
        let annotations = |index: usize| &asked[index].1["metadata"]["annotations"];
        assert_eq!(
            annotations(0),
            &json!({"controller.kubernetes.io/pod-deletion-cost": "-3"})
        );
        assert_eq!(annotations(1), &Value::Null, "what is left out is taken back");
    }

    #[tokio::test]
    async fn a_pod_that_is_gone_or_not_ours_to_say_is_no_failure() {
        let of = async |code| set(&client(code, &Asked::default()), "demo", &wanted(Some(-1))).await;
        assert!(!of(404).await.unwrap());
        assert!(!of(409).await.unwrap());
        assert_eq!(of(403).await.unwrap_err().category(), "Forbidden");
    }
}
