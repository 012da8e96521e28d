//! Where it is measured: a box with the timing of a usual cluster, Prometheus, the operator, and services of two models.
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::capacity::Capacity;
use crate::clock::Stopwatch;
use crate::cluster::Cluster;
use crate::console::progress;
use crate::fixtures::{self, PROMETHEUS_URL, Scenario};
use crate::load::{self, LoadOptions, Request};
use crate::models::{self, Models};
use crate::namespace::TestNamespace;
use crate::options::ClusterOptions;
use crate::{images, install, storage};

/// Of e2e/manifests/prometheus.yaml.
pub(super) const SCRAPE_SECONDS: u64 = 2;
pub(super) const MAX_REPLICAS: u32 = 8;
/// Of the requests, in percent, that must keep the objective.
pub(super) const PERCENTILE: u32 = 95;
/// The API's default, and how long a caller waits.
pub(super) const TIMEOUT_SECONDS: u64 = 60;
/// Time for a service's first pods: those of the slow model have little of a processor to start with.
pub(super) const READY: Duration = Duration::from_mins(3);
/// The load that one pod is for, as the pod autoscaler is told it.
const HPA_UTILISATION: f64 = 0.7;
/// Work of a request, of 180: about 30 ms of a core.
const TURNS: i64 = 90;
/// Of a core, for a pod of the slow model.
const LIMIT: &str = "50m";
const CLAIM: &str = "models";

/// The cluster and what is served on it.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) cluster: Cluster,
    pub(super) models: Models,
    slow: Vec<u8>,
}

/// Who scales a service.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scaler<'a> {
    /// The operator, for the objective.
    Direct(&'a Capacity),
    /// The HorizontalPodAutoscaler on the request rate, with Kubernetes' own behaviour.
    Hpa(&'a Capacity),
}

impl Ground {
    /// Starts a box and installs everything.
    pub(super) async fn start() -> Result<Self> {
        let watch = Stopwatch::start();
        let models = tokio::task::spawn_blocking(Models::ensure).await??;
        let names = ["prometheus", "operator", "inference-server"].map(str::to_owned);
        let recipes = tokio::task::spawn_blocking(move || images::named(&names)).await??;
        // The timing of the pod autoscaler is that of kube-controller-manager's defaults: a box for tests is faster, and no cluster is like that.
        let mut options = ClusterOptions::named(format!("bench-{}", std::process::id()));
        options.images = recipes;
        let cluster = Cluster::start(options).await?;
        progress(format_args!("the cluster is up after {:.0} s", watch.seconds()));
        let prometheus = json!({"url": PROMETHEUS_URL, "namespace": "monitoring",
            "queryIntervalSeconds": SCRAPE_SECONDS, "scrapeIntervalSeconds": SCRAPE_SECONDS});
        fixtures::install_prometheus(&cluster, images::PROMETHEUS).await?;
        install::tidewright(&cluster, &json!({"prometheus": prometheus})).await?;
        progress(format_args!("everything is installed after {:.0} s", watch.seconds()));
        Ok(Self {
            cluster,
            models,
            slow: models::slow_model_of(TURNS)?,
        })
    }

    /// Puts the models on a claim of a namespace.
    pub(super) async fn publish(&self, namespace: &TestNamespace) -> Result<()> {
        let path = &self.models.digits.onnx;
        let digits = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let files: [(&str, &[u8]); 2] = [("slow.onnx", &self.slow), ("digits.onnx", &digits)];
        storage::publish(&self.cluster, &namespace.name, CLAIM, &files).await
    }
}

/// A service of the slow model, scaled by somebody or of one replica.
pub(super) fn slow(namespace: &TestNamespace, name: &str, scaler: Option<Scaler<'_>>) -> Scenario {
    let service = service(namespace, name, "slow.onnx")
        .with("/batcher", json!({"maxBatchSize": 1}))
        .with("/model/resources/limits/cpu", json!(LIMIT));
    match scaler {
        Some(scaler) => service
            .with("/maxReplicas", json!(MAX_REPLICAS))
            .with("/autoScaling", auto_scaling(scaler)),
        None => service.with("/maxReplicas", json!(1)).request_rate("1000"),
    }
}

/// A service of the model that costs next to nothing.
pub(super) fn digits(namespace: &TestNamespace, name: &str) -> Scenario {
    service(namespace, name, "digits.onnx")
}

fn service(namespace: &TestNamespace, name: &str, file: &str) -> Scenario {
    Scenario::new(&namespace.name, name, &format!("pvc://{CLAIM}/{file}"))
        .with("/model/resources/requests/cpu", json!("20m"))
}

fn auto_scaling(scaler: Scaler<'_>) -> Value {
    match scaler {
        Scaler::Direct(capacity) => {
            let milliseconds = |seconds: f64| format!("{:.0}ms", seconds * 1e3);
            json!({"mode": "Direct", "slo": {
                "latency": milliseconds(capacity.objective_seconds()),
                "percentile": PERCENTILE,
                "serviceTime": milliseconds(capacity.service_seconds),
            }})
        }
        Scaler::Hpa(capacity) => {
            let per_replica = format!("{:.0}m", capacity.rate(HPA_UTILISATION) * 1e3);
            json!({"metrics": [{"type": "RequestRate", "target": {"type": "AverageValue", "averageValue": per_replica}}]})
        }
    }
}

/// Requests to a service of the slow model.
pub(super) fn requests_to(service: &str) -> Arc<[Request]> {
    load::digits::doubling(service, 1)
}

/// Callers wait as long as the servers do.
pub(super) fn load_options(address: SocketAddr) -> LoadOptions {
    let mut options = LoadOptions::to(address);
    options.timeout = Duration::from_secs(TIMEOUT_SECONDS);
    options
}

#[cfg(test)]
mod tests {
    use tidewright_api::InferenceService;

    use super::*;

    #[test]
    fn both_are_told_what_one_pod_can_do() {
        let capacity = Capacity {
            service_seconds: 0.6,
            service_cv: 0.1,
            latencies_ms: Vec::new(),
        };
        let direct = auto_scaling(Scaler::Direct(&capacity));
        assert_eq!(
            direct["slo"],
            json!({"latency": "2400ms", "percentile": 95, "serviceTime": "600ms"})
        );
        let hpa = auto_scaling(Scaler::Hpa(&capacity));
        assert_eq!(hpa["metrics"][0]["target"]["averageValue"], "1167m");
        for scaling in [direct, hpa] {
            let service = Scenario::new("n", "s", "pvc://models/slow.onnx").with("/autoScaling", scaling);
            assert!(serde_json::from_value::<InferenceService>(service.object).is_ok());
        }
    }
}
