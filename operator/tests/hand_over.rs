//! Where an autoscaler takes over from a fixed number, the number stays: also while the operator has not seen the Deployment yet. Without that the
//! API server resets it to 1, which ends all pods but one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tidewright_api::{InferenceService, labels};
use tidewright_operator::cluster::apply_all::apply_all;
use tidewright_operator::cluster::caches::Caches;
use tidewright_operator::cluster::may_write::{MayWrite, Term};
use tidewright_operator::cluster::watches::Watches;
use tidewright_operator::domain::settings::PodSettings;
use tidewright_operator::validate::{Prometheus, validate};
use tidewright_operator::{desired, error};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const UID: &str = "uid-digits";

/// Field manager and `spec.replicas` of each write of the Deployment.
type Writes = Arc<Mutex<Vec<(String, Value)>>>;

fn reply(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string().into_bytes()));
    *response.status_mut() = status;
    response
}

/// An API server that knows a Deployment of three replicas, fixed by us for the owner of this uid, and never answers a list.
async fn answer(request: Request<Body>, owner: &str, writes: Writes) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    if !path.contains("/namespaces/") {
        std::future::pending::<()>().await;
    }
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "digits-cpu", "namespace": "demo", "uid": "uid-digits-cpu",
            "annotations": {labels::REPLICAS_WRITER: labels::REPLICAS_FIXED},
            "ownerReferences": [{"apiVersion": "serving.tidewright.dev/v1alpha1", "kind": "InferenceService", "name": "digits", "uid": owner, "controller": true}]},
        "spec": {"replicas": 3, "selector": {}, "template": {}}});
    if parts.method == Method::GET {
        if path.ends_with("/deployments/digits-cpu") {
            return Ok(reply(StatusCode::OK, &deployment));
        }
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "not found", "reason": "NotFound", "code": 404});
        return Ok(reply(StatusCode::NOT_FOUND, &status));
    }
    let written: Value = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
    if path.ends_with("/deployments/digits-cpu") {
        let query = parts.uri.query().unwrap_or_default();
        let manager = query.split('&').find_map(|pair| pair.strip_prefix("fieldManager="));
        let write = (
            manager.unwrap_or_default().to_owned(),
            written["spec"]["replicas"].clone(),
        );
        writes.lock().unwrap().push(write);
        return Ok(reply(StatusCode::OK, &deployment));
    }
    Ok(reply(StatusCode::OK, &written))
}

/// What is written to the Deployment by an operator that has listed nothing yet.
async fn writes_of(owner: &'static str) -> (error::Result<()>, Vec<(String, Value)>) {
    let writes = Writes::default();
    let sink = Arc::clone(&writes);
    let service = tower::service_fn(move |request| answer(request, owner, Arc::clone(&sink)));
    let client = Client::new(service, "demo");
    let stop = CancellationToken::new();
    let _ending = stop.clone().drop_guard();
    let (caches, _changed) = Caches::start(&client, &Watches::default(), &stop);
    let object: InferenceService = serde_json::from_value(json!({
        "apiVersion": "serving.tidewright.dev/v1alpha1", "kind": "InferenceService",
        "metadata": {"name": "digits", "namespace": "demo", "uid": UID, "generation": 2},
        "spec": {"predictor": {
            "model": {"modelFormat": {"name": "onnx"}, "storageUri": "file:///models/a.onnx"},
            "replicas": 0, "minReplicas": 1, "maxReplicas": 5, "containerConcurrency": 0, "timeout": 60,
        }},
    }))
    .unwrap();
    let prometheus = Prometheus {
        query_refusal: Box::new(|_, _| None),
        address_refusal: Box::new(|_, _| None),
    };
    let service = validate(&object, &prometheus).unwrap();
    let settings = PodSettings {
        server_image: "server".to_owned(),
        redis_image: "redis".to_owned(),
        image_pull_policy: "Never".to_owned(),
        drain_grace_seconds: 5,
        monitoring_namespace: None,
        asking_namespace: None,
    };
    let (_sender, term) = watch::channel(Term::Unlimited);
    let wanted = desired::build(&service, &settings, true);
    let outcome = apply_all(&client, &caches, &MayWrite::new(term), &service, &wanted).await;
    let all = writes.lock().unwrap().clone();
    (outcome.map(drop), all)
}

#[tokio::test]
async fn a_deployment_that_is_not_seen_yet_keeps_its_number() {
    let (outcome, writes) = writes_of(UID).await;
    outcome.unwrap();
    let expected = [
        (labels::HANDOVER_MANAGER.to_owned(), json!(3)),
        (labels::FIELD_MANAGER.to_owned(), Value::Null),
    ];
    assert_eq!(writes, expected);
}

#[tokio::test]
async fn a_deployment_of_somebody_else_is_not_touched() {
    let (outcome, writes) = writes_of("uid-of-another").await;
    assert_eq!(outcome.unwrap_err().category(), "NotOurs");
    assert!(writes.is_empty(), "{writes:?}");
}
