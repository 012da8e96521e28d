//! Readiness is true in one state only, and says what it waits for; models that cannot be served have a reason.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tidewright_contract::config::{ExecutionProvider, ModelConfig};
use tidewright_contract::exit::Reason;
use tidewright_contract::signals::Signals;
use tidewright_server::http::access::AccessLog;
use tidewright_server::http::admin;
use tidewright_server::http::app::App;
use tidewright_server::lifecycle::{Lifecycle, State};
use tidewright_server::metrics::Metrics;
use tidewright_server::roles::{load, serve};

use crate::support::{Server, config, model, runtime, server};

async fn admin(app: &App, path: &str) -> (u16, String) {
    let request = Request::get(path).body(Full::<Bytes>::default()).unwrap();
    let response = admin::handle(app, request).await;
    let status = response.status().as_u16();
    (
        status,
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap(),
    )
}

#[tokio::test]
async fn before_loading_everything_that_infers_is_refused_and_readiness_says_why() {
    let lifecycle = Arc::new(Lifecycle::default());
    let config = config(&["affine"]);
    let (catalog, _orders) = serve::catalog(&config).unwrap();
    let app = Arc::new(App::new(
        config.limits.clone(),
        AccessLog::new(0),
        config.repository.clone(),
        catalog,
        Arc::clone(&lifecycle),
        Arc::new(Metrics::default()),
    ));
    lifecycle.advance(State::Loading);
    lifecycle.wait_for(vec!["model affine".to_owned()]);
    let server = Server { app: Arc::clone(&app) };
    let answer = server.post("/api/v1/predict", "{}").await;
    assert_eq!((answer.status, answer.error().as_str()), (503, "the server is loading"));
    assert_eq!(answer.headers["retry-after"], "1");
    assert_eq!(server.get("/v2/models/affine").await.status, 503);
    assert_eq!(
        server.get("/v2/models/nope").await.status,
        404,
        "what will never be served is not found already now"
    );
    for path in [
        "/health",
        "/v2/health/ready",
        "/v2/models/affine/ready",
        "/v1/models/affine",
    ] {
        assert_eq!(server.get(path).await.status, 503, "{path}");
    }
    assert_eq!(server.get("/v2/health/live").await.status, 200);
    assert_eq!(admin(&app, "/live").await.0, 200);
    let (status, text) = admin(&app, "/ready").await;
    assert_eq!(status, 503);
    let expected = json!({
        "ready": false, "state": "loading", "waitingFor": ["model affine"],
        "models": [{"name": "affine", "version": "1", "ready": false, "workersAlive": 0, "workers": 0}],
        "failed": [],
    });
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected);
}

#[tokio::test]
async fn ready_then_draining() {
    let server = server(&config(&["affine"]));
    let (status, text) = admin(&server.app, "/ready").await;
    assert_eq!(status, 200, "{text}");
    let ready: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(ready["models"][0]["provider"], "cpu");
    assert_eq!(ready["models"][0]["workersAlive"], 1);
    let (status, text) = admin(&server.app, "/metrics").await;
    assert!(status == 200 && text.contains("inference_server_state{state=\"ready\"} 1"));
    assert_eq!(admin(&server.app, "/other").await.0, 404);

    server.app.lifecycle.advance(State::Draining);
    assert_eq!(server.get("/health").await.status, 503);
    assert_eq!(admin(&server.app, "/ready").await.0, 503);
    assert_eq!(admin(&server.app, "/live").await.0, 200, "a draining server lives");
    let answer = server.post("/api/v1/predict", r#"{"features":[1,2,3,4]}"#).await;
    assert_eq!(answer.status, 200, "what still comes is served");
    assert_eq!(answer.headers["connection"], "close", "and sent elsewhere");
}

#[tokio::test]
async fn the_signals_count_what_infers_and_nothing_else() {
    let server = server(&config(&["affine"]));
    let signals = async || -> Signals {
        let (status, text) = admin(&server.app, "/signals").await;
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).unwrap()
    };
    let before = signals().await;
    assert_eq!((before.version, before.arrivals, before.completions), (1, 0, 0));
    assert!(before.process > 1_700_000_000_000, "{before:?}");
    for path in ["/health", "/v2", "/nowhere"] {
        server.get(path).await;
    }
    for _ in 0..3 {
        assert_eq!(
            server.post("/api/v1/predict", r#"{"features":[1,2,3,4]}"#).await.status,
            200
        );
    }
    assert_eq!(server.post("/api/v1/predict", "no JSON").await.status, 400);
    let after = signals().await;
    assert_eq!((after.arrivals, after.completions), (4, 3), "{after:?}");
    assert_eq!((after.queued, after.in_flight), (0, 0), "{after:?}");
    let runs = server.app.catalog.serving()[0].metrics.inference.sums.get().nanos as f64 / 1e9;
    assert!(
        after.service_seconds > runs && runs > 0.0,
        "{after:?}: the runs alone took {runs} s"
    );
    assert_eq!(after.process, before.process);
}

#[tokio::test]
async fn a_worker_without_engine_is_not_ready() {
    let server = server(&config(&["affine"]));
    let alive = Arc::clone(&server.app.catalog.serving()[0].facts.alive);
    alive.store(0, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(server.get("/health").await.status, 503);
    let (status, text) = admin(&server.app, "/ready").await;
    assert!(status == 503 && text.contains("an engine of model affine"), "{text}");
    let answer = server.post("/api/v1/predict", "{}").await;
    assert_eq!(
        (answer.status, answer.error().as_str()),
        (503, "model \"affine\" has no working engine")
    );
}

#[tokio::test]
async fn a_model_that_failed_to_load_later_is_told_without_its_path_and_changes_no_readiness() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broken.onnx");
    std::fs::write(&file, "not a model").unwrap();
    let mut config = config(&["affine"]);
    config.repository.enabled = true;
    config.repository.directory = Some(folder.path().to_owned());
    let server = server(&config);
    let failed = async || -> Value {
        let (status, text) = admin(&server.app, "/ready").await;
        assert_eq!(status, 200, "{text}");
        let shown: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&shown["ready"], &shown["waitingFor"]), (&json!(true), &json!([])));
        shown["failed"].clone()
    };
    assert_eq!(failed().await, json!([]), "nobody has asked for it");
    let predict = async || server.post("/v1/models/broken:predict", "{}").await.status;
    assert_eq!(predict().await, 503);
    let shown = failed().await;
    assert_eq!(
        (&shown[0]["name"], &shown[0]["version"], &shown[0]["reason"]),
        (&json!("broken"), &json!("1"), &json!("ModelLoadFailed")),
        "{shown}"
    );
    let message = shown[0]["message"].as_str().unwrap();
    assert!(message.starts_with("the file is not an ONNX model: "), "{message}");
    // One that is gone is told with its path in the log and the index.
    std::fs::remove_file(&file).unwrap();
    let path = "/v2/repository/models/broken/load";
    let load = Request::post(path).body(Full::<Bytes>::default()).unwrap();
    assert_eq!(admin::handle(&server.app, load).await.status(), 500);
    assert_eq!(
        failed().await,
        json!([{"name": "broken", "version": "1", "reason": "ModelNotFound", "message": "no model at …: No such file or directory (os error 2)"}])
    );
    std::fs::copy(&model("affine").path, &file).unwrap();
    let load = Request::post(path).body(Full::<Bytes>::default()).unwrap();
    assert_eq!(admin::handle(&server.app, load).await.status(), 200);
    assert_eq!(failed().await, json!([]), "it serves now");
}

fn refusal(config: &tidewright_contract::ServeConfig) -> (Option<String>, Reason, String) {
    let failure = load::load(config, runtime(), &Arc::new(Metrics::default()), &Lifecycle::default()).unwrap_err();
    (failure.model, failure.error.reason, failure.error.message)
}

#[test]
fn a_model_that_cannot_be_served_is_named_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let mut broken = config(&["affine"]);
    broken
        .models
        .push(ModelConfig::new("broken", folder.path().join("broken.onnx")));
    assert_eq!(refusal(&broken).1, Reason::ModelNotFound);
    let good = std::fs::read(&model("affine").path).unwrap();
    for bytes in [&b""[..], b"not a model", &good[..good.len() / 2]] {
        std::fs::write(folder.path().join("broken.onnx"), bytes).unwrap();
        let (name, reason, message) = refusal(&broken);
        assert_eq!(
            (name.as_deref(), reason),
            (Some("broken"), Reason::ModelLoadFailed),
            "{message}"
        );
        assert!(message.starts_with("the file is not an ONNX model: "), "{message}");
    }
    let (_, reason, message) = refusal(&config(&["unknown"]));
    assert_eq!(reason, Reason::UnsupportedOperator, "{message}");
    assert!(
        message.starts_with("ONNX Runtime refuses the model: ")
            && message.contains("Nonsense")
            && !message.contains("onnxruntime_src"),
        "{message}"
    );
    let mut other = config(&["affine"]);
    other.models[0].digest = Some(format!("sha256:{}", "0".repeat(64)));
    assert_eq!(refusal(&other).1, Reason::DigestMismatch);
}

#[tokio::test]
async fn a_provider_that_does_not_work_is_an_error_unless_a_later_one_does() {
    let mut strict = config(&["affine"]);
    strict.execution.providers = vec![ExecutionProvider::Cuda];
    let (_, reason, message) = refusal(&strict);
    assert_eq!(reason, Reason::ProviderUnavailable, "{message}");
    let mut lenient = strict.clone();
    lenient.execution.providers.push(ExecutionProvider::Cpu);
    let server = server(&lenient);
    // Whoever looks sees that it is not what was asked for.
    let metadata = server.get("/v2/models/affine").await.json();
    let (status, text) = admin(&server.app, "/ready").await;
    assert_eq!(status, 200, "{text}");
    let ready: Value = serde_json::from_str(&text).unwrap();
    for (used, preferred) in [
        (
            &metadata["parameters"]["provider"],
            &metadata["parameters"]["preferred_provider"],
        ),
        (
            &ready["models"][0]["provider"],
            &ready["models"][0]["preferredProvider"],
        ),
    ] {
        assert_eq!((used, preferred), (&Value::from("cpu"), &Value::from("cuda")));
    }
    let scrape = admin(&server.app, "/metrics").await.1;
    assert!(
        scrape.contains("provider=\"cpu\",preferred_provider=\"cuda\"} 1"),
        "{scrape}"
    );
    let request = Request::post("/api/v1/predict")
        .body(Full::<Bytes>::from(r#"{"features":[1,2,3,4]}"#))
        .unwrap();
    assert_eq!(server.call(request).await.status, 200);
}
