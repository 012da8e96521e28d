//! One service for the tests, and small changes to it.

use k8s_openapi::api::apps::v1::Deployment;
use serde_json::{Value, json};
use tidewright_api::InferenceService;

use crate::domain::settings::PodSettings;
use crate::domain::validated::Validated;
use crate::validate::{Prometheus, validate};

/// A service as the API server stores it: with defaults, a uid and a generation. `changes` is merged into it, RFC 7386.
pub(crate) fn inference_service(changes: Value) -> InferenceService {
    let mut object = json!({
        "apiVersion": "serving.tidewright.dev/v1alpha1",
        "kind": "InferenceService",
        "metadata": {"name": "digits", "namespace": "demo", "uid": "11111111-2222-3333-4444-555555555555", "generation": 2},
        "spec": {"predictor": {
            "model": {"modelFormat": {"name": "onnx"}, "storageUri": "pvc://models/digits.onnx"},
            "minReplicas": 1, "maxReplicas": 10, "timeout": 60, "containerConcurrency": 0, "replicas": 0
        }}
    });
    merge(&mut object, changes);
    serde_json::from_value(object).unwrap()
}

/// The service after validation, which must succeed.
pub(crate) fn validated(changes: Value) -> Validated {
    validate(&inference_service(changes), &prometheus()).unwrap()
}

/// The one address beside the operator's own that is accepted.
pub(crate) const OTHER_PROMETHEUS: &str = "http://other:9090";

/// Accepts every query but `bad`.
pub(crate) fn prometheus() -> Prometheus {
    Prometheus {
        query_refusal: Box::new(|query, _| (query == "bad").then(|| "does not parse".to_owned())),
        address_refusal: Box::new(|address, _| {
            let refusal = || "is not an address that the operator was started with".to_owned();
            (address != OTHER_PROMETHEUS).then(refusal)
        }),
    }
}

/// Images and times.
pub(crate) fn pod_settings() -> PodSettings {
    PodSettings {
        server_image: "tidewright/inference-server:1".to_owned(),
        redis_image: "tidewright/redis:1".to_owned(),
        image_pull_policy: "IfNotPresent".to_owned(),
        drain_grace_seconds: 5,
        monitoring_namespace: Some("monitoring".to_owned()),
        asking_namespace: Some("tidewright-system".to_owned()),
    }
}

/// The Deployment of a pool, with a status.
pub(crate) fn deployment(pool: &str, generation: i64, spec_replicas: i32, status: Value) -> Deployment {
    serde_json::from_value(json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": format!("digits-{pool}"), "namespace": "demo", "generation": generation,
                     "labels": {"serving.tidewright.dev/pool": pool}},
        "spec": {"replicas": spec_replicas, "selector": {}, "template": {}},
        "status": status
    }))
    .unwrap()
}

fn merge(into: &mut Value, changes: Value) {
    match (into, changes) {
        (Value::Object(into), Value::Object(changes)) => {
            for (key, change) in changes {
                if change.is_null() {
                    into.remove(&key);
                } else {
                    merge(into.entry(key).or_insert(Value::Null), change);
                }
            }
        }
        (into, change) => *into = change,
    }
}
