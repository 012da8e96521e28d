//! A loaded server in this process, and requests to it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use tidewright_contract::config::{ModelConfig, ServeConfig};
use tidewright_server::engine::ort::Runtime;
use tidewright_server::http::access::AccessLog;
use tidewright_server::http::app::App;
use tidewright_server::lifecycle::{Lifecycle, State};
use tidewright_server::metrics::Metrics;
use tidewright_server::roles::repository::Repository;
use tidewright_server::roles::{load, serve};

/// Path of a file beside this package's manifest.
pub fn path(relative: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(relative)
}

/// A model of the repository.
pub fn model(name: &str) -> ModelConfig {
    ModelConfig::new(name, path(&format!("tests/models/{name}.onnx")))
}

/// The pinned library; fetched when it is not in the cache, so that no test depends on what is installed.
pub fn library() -> PathBuf {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY
        .get_or_init(|| {
            if let Some(named) = std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()) {
                return named.into();
            }
            let output = Command::new(path("fetch-onnxruntime.sh"))
                .output()
                .expect("run fetch-onnxruntime.sh");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap().trim().into()
        })
        .clone()
}

/// The runtime: one per process.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::load(&library()).expect("load ONNX Runtime"))
}

/// A config for these models of the repository, with one worker each.
pub fn config(models: &[&str]) -> ServeConfig {
    let mut config = ServeConfig::new(models.iter().map(|name| model(name)).collect());
    config.execution.workers = 1;
    // This program is a test, it has no subcommand for that; tests/process has.
    config.execution.load_in_child = false;
    config
}

/// A server in the state Ready. Must be called inside a runtime.
pub fn server(config: &ServeConfig) -> Server {
    config.validate().unwrap();
    let lifecycle = Arc::new(Lifecycle::default());
    let metrics = Arc::new(Metrics::default());
    let (catalog, orders) = serve::catalog(config).unwrap();
    let app = Arc::new(App::new(
        config.limits.clone(),
        AccessLog::new(0),
        config.repository.clone(),
        Arc::clone(&catalog),
        Arc::clone(&lifecycle),
        Arc::clone(&metrics),
    ));
    let loaded = load::load(config, runtime(), &metrics, &lifecycle).unwrap_or_else(|failure| panic!("{failure:?}"));
    if let Some(cache) = serve::cache(&config.cache, &metrics).unwrap() {
        assert!(app.pipeline.set_cache(cache));
    }
    let repository = Repository::new(config, runtime().clone(), metrics, catalog, loaded);
    tokio::spawn(repository.run(orders));
    lifecycle.wait_for(Vec::new());
    assert!(lifecycle.advance(State::Ready));
    Server { app }
}

/// A loaded server.
#[derive(Clone)]
pub struct Server {
    pub app: Arc<App>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    /// The body as text; what is no UTF-8 in it is replaced.
    pub text: String,
    pub bytes: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The sentence of an error.
    pub fn error(&self) -> String {
        self.json()["error"]
            .as_str()
            .unwrap_or_else(|| panic!("no error: {}", self.text))
            .to_owned()
    }
}

impl Server {
    pub async fn call(&self, request: Request<Full<Bytes>>) -> Answer {
        let (head, body) = self.app.handle(request).await.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            text: String::from_utf8_lossy(&bytes).into_owned(),
            bytes,
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call(Request::get(path).body(Full::default()).unwrap()).await
    }

    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        let request = Request::post(path).header("content-type", "application/json");
        self.call(request.body(Full::new(body.into())).unwrap()).await
    }

    /// The value of the series of a scrape that starts with `series`.
    pub fn metric(&self, series: &str) -> f64 {
        let text = self.app.metrics.scrape(self.app.lifecycle.state()).unwrap();
        let line = text
            .lines()
            .find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
        let line = line.unwrap_or_else(|| panic!("no series {series} in\n{text}"));
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    }

    /// Waits until the series has the value; fails after ten seconds.
    pub async fn metric_becomes(&self, series: &str, value: f64) {
        self.sum_becomes(&[series], value).await;
    }

    /// Waits until the series have the value together; fails after ten seconds. What is being done and what is done already make a sum that only
    /// grows, whenever one looks.
    pub async fn sum_becomes(&self, series: &[&str], value: f64) {
        let sum = || series.iter().map(|series| self.metric(series)).sum::<f64>();
        for _ in 0..2000 {
            if (sum() - value).abs() < f64::EPSILON {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        panic!("{series:?} is {}, expected {value}", sum());
    }
}
