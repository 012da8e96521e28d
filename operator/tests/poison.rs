//! K2: a panic in one object's reconcile, or one that never ends, stops neither the loop nor any other object. With the library's default it ends both.
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
use tidewright_operator::autoscaler::{Plans, Times};
use tidewright_operator::clock::SystemClock;
use tidewright_operator::cluster::caches::Caches;
use tidewright_operator::cluster::may_write::{MayWrite, Term};
use tidewright_operator::cluster::record::Recorder;
use tidewright_operator::cluster::watches::Watches;
use tidewright_operator::controller;
use tidewright_operator::controller::context::{Context, Failures};
use tidewright_operator::controller::last_valid::LastValid;
use tidewright_operator::controller::settled::Settled;
use tidewright_operator::controller::written::Written;
use tidewright_operator::domain::decided::Decisions;
use tidewright_operator::domain::published::{Published, ServiceKey};
use tidewright_operator::domain::settings::PodSettings;
use tidewright_operator::domain::signals::Signals;
use tidewright_operator::domain::subscriptions::Subscriptions;
use tidewright_operator::metrics::Metrics;
use tidewright_operator::validate::Prometheus;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

const POISON: &str = "poison()";
/// A service whose number was set by hand and has had its time, which the API server does not let us end.
const OVERDUE: &str = "overdue";
const PATIENCE: Duration = Duration::from_secs(20);

/// What was written: path and body.
type Writes = Arc<Mutex<Vec<(String, Value)>>>;

fn service(name: &str, query: &str) -> Value {
    let mut service = json!({
        "metadata": {"name": name, "namespace": "demo", "uid": format!("uid-{name}"), "generation": 1, "resourceVersion": "1"},
        "spec": {"predictor": {
            "model": {"modelFormat": {"name": "onnx"}, "storageUri": "file:///models/a.onnx"},
            "replicas": 0, "minReplicas": 1, "maxReplicas": 3, "containerConcurrency": 0, "timeout": 60,
            "autoScaling": {"mode": "Hpa", "metrics": [{"type": "External", "external": {
                "metric": {"backend": "prometheus", "query": query}, "target": {"type": "Value", "value": "1"}}}]},
        }},
    });
    if name == OVERDUE {
        let predictor = &mut service["spec"]["predictor"];
        predictor["replicas"] = json!(2);
        predictor["autoScaling"]["overrideTTL"] = json!("1s");
        service["status"] =
            json!({"override": {"replicas": 2, "since": "2026-01-01T00:00:00Z", "until": "2026-01-01T00:00:01Z"}});
    }
    service
}

fn reply(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string().into_bytes()));
    *response.status_mut() = status;
    response
}

/// As much of an API server as two services need: lists, watches that stay silent, applying.
///
/// A Deployment of a service `hung` is never answered.
async fn answer(
    request: Request<Body>,
    names: [&'static str; 2],
    writes: Writes,
) -> Result<Response<Body>, Infallible> {
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
            let query = |name: &str| if name == "bad" { POISON } else { "sum(up)" };
            json!(names.map(|name| service(name, query(name))))
        } else {
            json!([])
        };
        let list = json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items});
        return Ok(reply(StatusCode::OK, &list));
    }
    if path.ends_with("/scale") {
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no", "reason": "Forbidden", "code": 403});
        writes.lock().unwrap().push((path, Value::Null));
        return Ok(reply(StatusCode::FORBIDDEN, &status));
    }
    if path.ends_with("/deployments/hung-cpu") {
        std::future::pending::<()>().await;
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

/// A controller that works on the services of these names.
struct Running {
    writes: Writes,
    panics: Arc<Mutex<u32>>,
    ask: mpsc::Sender<ServiceKey>,
    task: tokio::task::JoinHandle<()>,
    stop: CancellationToken,
    _term: watch::Sender<Term>,
    _signals: watch::Sender<Signals>,
}

impl Running {
    fn start(names: [&'static str; 2], reconcile_timeout: Duration) -> Self {
        let writes = Writes::default();
        let sink = Arc::clone(&writes);
        let client = Client::new(
            tower::service_fn(move |request| answer(request, names, Arc::clone(&sink))),
            "demo",
        );
        let stop = CancellationToken::new();
        let (caches, changed) = Caches::start(&client, &Watches::default(), &stop);
        let (term_sender, term) = watch::channel(Term::Unlimited);
        let (signals_sender, signals) = watch::channel(Signals::Served);
        let panics: Arc<Mutex<u32>> = Arc::default();
        let counted = Arc::clone(&panics);
        let ctx = Arc::new(Context {
            client: client.clone(),
            caches: Arc::new(caches),
            recorder: Recorder::new(client.clone(), "test"),
            clock: Arc::new(SystemClock),
            may_write: MayWrite::new(term),
            subscriptions: Arc::new(Subscriptions::default()),
            published: Arc::new(Published::default()),
            plans: Arc::new(Plans::default()),
            times: Times {
                rate_window: Duration::from_secs(30),
                stale_after: Duration::from_secs(60),
                relearn: Duration::from_secs(300),
                has_prometheus: false,
                asks_pods: None,
            },
            decisions: Arc::new(Decisions::default()),
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
                asking_namespace: None,
            },
            metrics: Metrics::default(),
            reconcile_timeout,
            failures: Failures::default(),
            last_valid: LastValid::default(),
            settled: Settled::default(),
            written: Written::default(),
        });
        let (ask, asked) = mpsc::channel(8);
        let asked = futures::stream::unfold(
            asked,
            |mut asked| async move { asked.recv().await.map(|key| (key, asked)) },
        );
        let requests = futures::stream::select(changed, asked);
        let task = tokio::spawn(controller::run(ctx, requests, 4, stop.clone()));
        Self {
            writes,
            panics,
            ask,
            task,
            stop,
            _term: term_sender,
            _signals: signals_sender,
        }
    }

    async fn ask(&self, name: &str) {
        self.ask.send(ServiceKey::new("demo", name)).await.unwrap();
    }

    /// Whether the condition Ready of a service was written with this reason and a message that has these words.
    fn said(&self, name: &str, reason: &str, words: &str) -> bool {
        let all = self.writes.lock().unwrap();
        all.iter().any(|(path, body)| {
            path.ends_with(&format!("/inferenceservices/{name}/status"))
                && body["status"]["conditions"].as_array().into_iter().flatten().any(|c| {
                    c["type"] == "Ready"
                        && c["reason"] == reason
                        && c["message"].as_str().is_some_and(|m| m.contains(words))
                })
        })
    }

    /// How often the Deployment of the good service was applied.
    fn applied(&self) -> usize {
        self.wrote("/deployments/good-cpu")
    }

    /// How often a path that ends so was written to.
    fn wrote(&self, end: &str) -> usize {
        let all = self.writes.lock().unwrap();
        all.iter().filter(|(path, _)| path.ends_with(end)).count()
    }

    async fn end(self) {
        assert!(!self.task.is_finished(), "the loop ended");
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn k2_panic_in_one_reconcile_stops_no_other() {
    let running = Running::start(["bad", "good"], Duration::from_secs(10));
    until("the panic to be in the status of its object", || {
        running.said("bad", "Panic", "no check expected")
    })
    .await;
    until("the other object's Deployment", || running.applied() >= 1).await;
    // After the panic: the loop still turns, for both.
    let (before, panics_before) = (running.applied(), *running.panics.lock().unwrap());
    running.ask("good").await;
    running.ask("bad").await;
    until("another reconcile of the other object", || running.applied() > before).await;
    until("another try of the poisonous one", || {
        *running.panics.lock().unwrap() > panics_before
    })
    .await;
    running.end().await;
}

#[tokio::test]
async fn a_reconcile_that_does_not_end_is_given_up_says_so_and_stops_no_other() {
    // Less than a single call may take.
    let running = Running::start(["hung", "good"], Duration::from_secs(2));
    until("the other object's Deployment", || running.applied() >= 1).await;
    until("the limit to be in the status of its object", || {
        running.said("hung", "ApiError", "the reconcile took longer than 2s")
    })
    .await;
    let before = running.applied();
    running.ask("good").await;
    until("another reconcile of the other object", || running.applied() > before).await;
    running.end().await;
}

#[tokio::test]
async fn a_number_by_hand_that_cannot_be_taken_back_keeps_nothing_from_being_applied() {
    let running = Running::start([OVERDUE, "good"], Duration::from_secs(10));
    until("the try to take it back", || running.wrote("/overdue/scale") >= 1).await;
    until("its Deployment", || running.wrote("/deployments/overdue-cpu") >= 1).await;
    running.end().await;
}
