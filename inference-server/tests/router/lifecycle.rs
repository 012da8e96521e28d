//! Readiness is true in one state only, and says what it waits for; models that cannot be served have a reason.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tidewright_contract::config::{ExecutionProvider, ModelConfig};
use tidewright_contract::exit::Reason;
use tidewright_server::http::access::AccessLog;
use tidewright_server::http::admin;
use tidewright_server::http::app::App;
use tidewright_server::lifecycle::{Lifecycle, State};
use tidewright_server::metrics::Metrics;
use tidewright_server::model::registry;
use tidewright_server::roles::load;

use crate::support::{Server, config, model, runtime, server};

async fn admin(app: &App, path: &str) -> (u16, String) {
    let response = admin::handle(app, &Request::get(path).body(()).unwrap());
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
    let names = registry::names(&config.models);
    let app = Arc::new(App::new(
        config.limits.clone(),
        AccessLog::new(0),
        names,
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
async fn a_worker_without_engine_is_not_ready() {
    let server = server(&config(&["affine"]));
    let alive = Arc::clone(&server.app.pipeline.models().unwrap()[0].facts.alive);
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
    assert_eq!(
        server.get("/v2/models/affine").await.json()["parameters"]["provider"],
        "cpu"
    );
    let request = Request::post("/api/v1/predict")
        .body(Full::<Bytes>::from(r#"{"features":[1,2,3,4]}"#))
        .unwrap();
    assert_eq!(server.call(request).await.status, 200);
}
