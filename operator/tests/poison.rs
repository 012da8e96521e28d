//! K2: a panic in one object's reconcile stops neither the loop nor any other object. With the library's default it ends both.
//!
//! The panic comes from a check that validation is given, the API server is a service in this process: nothing in the operator can be made to
//! panic from outside. Everything else about the loop is tested on a real API server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tidewright_operator::clock::SystemClock;
use tidewright_operator::cluster::caches::Caches;
use tidewright_operator::cluster::may_write::{MayWrite, Term};
use tidewright_operator::cluster::record::Recorder;
use tidewright_operator::cluster::watches::Watches;
use tidewright_operator::controller;
use tidewright_operator::controller::context::{Context, Failures};
use tidewright_operator::controller::settled::Settled;
use tidewright_operator::domain::published::{Published, ServiceKey};
use tidewright_operator::domain::settings::PodSettings;
use tidewright_operator::domain::signals::Signals;
use tidewright_operator::domain::subscriptions::Subscriptions;
use tidewright_operator::metrics::Metrics;
use tidewright_operator::validate::Prometheus;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

const POISON: &str = "poison()";
const PATIENCE: Duration = Duration::from_secs(20);

/// What was written: path and body.
type Writes = Arc<Mutex<Vec<(String, Value)>>>;

fn service(name: &str, query: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "demo", "uid": format!("uid-{name}"), "generation": 1, "resourceVersion": "1"},
        "spec": {"predictor": {
            "model": {"modelFormat": {"name": "onnx"}, "storageUri": "file:///models/a.onnx"},
            "replicas": 0, "minReplicas": 1, "maxReplicas": 3, "containerConcurrency": 0, "timeout": 60,
            "autoScaling": {"mode": "Hpa", "metrics": [{"type": "External", "external": {
                "metric": {"backend": "prometheus", "query": query}, "target": {"type": "Value", "value": "1"}}}]},
        }},
    })
}

fn reply(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string().into_bytes()));
    *response.status_mut() = status;
    response
}

/// As much of an API server as two services need: lists, watches that stay silent, applying.
async fn answer(request: Request<Body>, writes: Writes) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    if parts.uri.query().unwrap_or_default().contains("watch=") {
        std::future::pending::<()>().await;
    }
    if parts.method == Method::GET && path.contains("/namespaces/") {
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "not found", "reason": "NotFound", "code": 404});
        return Ok(reply(StatusCode::NOT_FOUND, &status));
    }
    if parts.method == Method::GET {
        let items = if path.ends_with("/inferenceservices") {
            json!([service("bad", POISON), service("good", "sum(up)")])
        } else {
            json!([])
        };
        let list = json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items});
        return Ok(reply(StatusCode::OK, &list));
    }
    let bytes = body.collect().await.unwrap().to_bytes();
    let written: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    writes.lock().unwrap().push((path.clone(), written.clone()));
    if path.ends_with("/status") {
        let name = path.rsplit('/').nth(1).unwrap();
        let mut whole = service(name, "sum(up)");
        whole["apiVersion"] = written["apiVersion"].clone();
        whole["kind"] = written["kind"].clone();
        whole["status"] = written["status"].clone();
        return Ok(reply(StatusCode::OK, &whole));
    }
    Ok(reply(StatusCode::OK, &written))
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .unwrap_or_else(|_| panic!("waited for {what}"));
}

#[tokio::test]
async fn k2_panic_in_one_reconcile_stops_no_other() {
    let writes = Writes::default();
    let sink = Arc::clone(&writes);
    let client = Client::new(
        tower::service_fn(move |request| answer(request, Arc::clone(&sink))),
        "demo",
    );
    let stop = CancellationToken::new();
    let (caches, changed) = Caches::start(&client, &Watches::default(), &stop);
    let (_term_sender, term) = watch::channel(Term::Unlimited);
    let (_signals_sender, signals) = watch::channel(Signals::Served);
    let panics: Arc<Mutex<u32>> = Arc::default();
    let counted = Arc::clone(&panics);
    let ctx = Arc::new(Context {
        client: client.clone(),
        caches,
        recorder: Recorder::new(client.clone(), "test"),
        clock: Arc::new(SystemClock),
        may_write: MayWrite::new(term),
        subscriptions: Arc::new(Subscriptions::default()),
        published: Arc::new(Published::default()),
        signals,
        prometheus: Prometheus {
            query_refusal: Box::new(move |query, _| {
                if query == POISON {
                    *counted.lock().unwrap() += 1;
                    panic!("an object that no check expected");
                }
                None
            }),
            address_refusal: Box::new(|_, _| None),
        },
        pods: PodSettings {
            server_image: "server".to_owned(),
            redis_image: "redis".to_owned(),
            image_pull_policy: "Never".to_owned(),
            drain_grace_seconds: 5,
            monitoring_namespace: None,
        },
        metrics: Metrics::default(),
        reconcile_timeout: Duration::from_secs(10),
        failures: Failures::default(),
        settled: Settled::default(),
    });
    let (ask, asked) = mpsc::channel(8);
    let asked = futures::stream::unfold(
        asked,
        |mut asked| async move { asked.recv().await.map(|key| (key, asked)) },
    );
    let requests = futures::stream::select(changed, asked);
    let running = tokio::spawn(controller::run(ctx, requests, 4, stop.clone()));

    let said = |reason: &str| {
        let all = writes.lock().unwrap();
        all.iter().any(|(path, body)| {
            path.ends_with("/inferenceservices/bad/status")
                && body["status"]["conditions"].as_array().into_iter().flatten().any(|c| {
                    c["type"] == "Ready"
                        && c["reason"] == reason
                        && c["message"].as_str().is_some_and(|m| m.contains("no check expected"))
                })
        })
    };
    let applied = || {
        let all = writes.lock().unwrap();
        all.iter()
            .filter(|(path, _)| path.ends_with("/deployments/good-cpu"))
            .count()
    };
    until("the panic to be in the status of its object", || said("Panic")).await;
    until("the other object's Deployment", || applied() >= 1).await;
    // After the panic: the loop still turns, for both.
    let (before, panics_before) = (applied(), *panics.lock().unwrap());
    ask.send(ServiceKey::new("demo", "good")).await.unwrap();
    ask.send(ServiceKey::new("demo", "bad")).await.unwrap();
    until("another reconcile of the other object", || applied() > before).await;
    until("another try of the poisonous one", || {
        *panics.lock().unwrap() > panics_before
    })
    .await;
    assert!(!running.is_finished(), "the loop ended");
    stop.cancel();
    tokio::time::timeout(PATIENCE, running).await.unwrap().unwrap();
}
