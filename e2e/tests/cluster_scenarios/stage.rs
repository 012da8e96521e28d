//! What every scenario finds: a cluster with Prometheus and the operator, trained models, a namespace of its own, and nobody else at work.
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use kube::Client;
use serde_json::{Value, json};
use tidewright_e2e::cluster::Cluster;
use tidewright_e2e::dump::OPERATOR_NAMESPACE;
use tidewright_e2e::fixtures::{self, Scenario};
use tidewright_e2e::load::{Arrivals, Load, LoadOptions, Profile, Request};
use tidewright_e2e::models::{self, Models};
use tidewright_e2e::namespace::with_temp_namespace;
use tidewright_e2e::options::ClusterOptions;
use tidewright_e2e::shared::shared_cluster;
use tidewright_e2e::{images, install, storage};
use tokio::sync::{Mutex, OnceCell};

/// Time for a service's first pods; a busy machine needs some of it.
pub const READY: Duration = Duration::from_secs(60);
/// Time for an object or a condition that only has to be written.
pub const SOON: Duration = Duration::from_secs(20);
/// Name of the claim with the models.
const CLAIM: &str = "models";

/// The values with which the operator was last installed.
static INSTALLED: Mutex<Option<Value>> = Mutex::const_new(None);

/// Where a scenario plays.
pub struct Scene {
    pub cluster: &'static Cluster,
    pub prometheus: SocketAddr,
    pub models: &'static Models,
    pub client: Client,
    pub namespace: String,
}

struct Stage {
    cluster: &'static Cluster,
    prometheus: SocketAddr,
    models: Models,
}

/// Plays a scenario alone. A failure prints what there is to know about its namespace.
pub async fn scene<F, Fut>(test: &str, play: F)
where
    F: FnOnce(Scene) -> Fut,
    Fut: Future<Output = Result<()>>,
{
    static TURN: Mutex<()> = Mutex::const_new(());
    static STAGE: OnceCell<Stage> = OnceCell::const_new();
    let _turn = TURN.lock().await;
    let stage = STAGE.get_or_try_init(set_up).await.expect("the stage");
    // A test that has installed the operator otherwise may have failed before it could put that right.
    if *INSTALLED.lock().await != Some(json!({})) {
        install_operator(stage.cluster, &json!({}))
            .await
            .expect("the operator as it was");
    }
    let outcome = with_temp_namespace(stage.cluster, test, |namespace| async move {
        let scene = Scene {
            cluster: stage.cluster,
            prometheus: stage.prometheus,
            models: &stage.models,
            client: namespace.client,
            namespace: namespace.name,
        };
        scene.publish_models().await?;
        play(scene).await
    });
    if let Err(error) = outcome.await {
        panic!("{error:#}");
    }
}

async fn set_up() -> Result<Stage> {
    let options = || {
        let names = ["redis", "prometheus", "operator", "inference-server"].map(str::to_owned);
        Ok(ClusterOptions {
            images: images::named(&names)?,
            ..ClusterOptions::for_tests("scenarios")
        })
    };
    let cluster = shared_cluster(options).await?;
    let models = tokio::task::spawn_blocking(Models::ensure).await??;
    // The operator itself must be able to live with the strictest level.
    let levels = json!({"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/enforce-version": "latest"});
    cluster
        .apply(&[json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OPERATOR_NAMESPACE, "labels": levels}})])
        .await?;
    let none = json!({});
    let (prometheus, installed) = tokio::join!(
        fixtures::install_prometheus(cluster, images::PROMETHEUS),
        install_operator(cluster, &none)
    );
    prometheus?;
    installed?;
    let prometheus = fixtures::cluster_address(&cluster.client().await?, "monitoring", "prometheus").await?;
    Ok(Stage {
        cluster,
        prometheus,
        models,
    })
}

/// Installs or upgrades the operator. `values` are merged over what all tests share.
pub async fn install_operator(cluster: &Cluster, values: &Value) -> Result<()> {
    let mut prometheus = json!({
        "url": fixtures::PROMETHEUS_URL, "namespace": "monitoring",
        // Pods are scraped every 2 s.
        "queryIntervalSeconds": 2, "scrapeIntervalSeconds": 2,
    });
    if let (Some(all), Some(more)) = (prometheus.as_object_mut(), values["prometheus"].as_object()) {
        all.extend(more.clone());
    }
    let mut all = json!({"prometheus": prometheus});
    for (key, value) in values
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| *key != "prometheus")
    {
        all[key] = value.clone();
    }
    let mut installed = INSTALLED.lock().await;
    // Unknown until it has succeeded.
    *installed = None;
    install::tidewright(cluster, &all).await?;
    *installed = Some(values.clone());
    Ok(())
}

impl Scene {
    /// The models as files on the claim `models`: `digits.onnx`, `digits-wide.onnx`, `slow.onnx`.
    async fn publish_models(&self) -> Result<()> {
        let read = |path: &Path| std::fs::read(path).with_context(|| format!("reading {}", path.display()));
        let digits = read(&self.models.digits.onnx)?;
        let wide = read(&self.models.digits_wide.onnx)?;
        let slow = read(&models::slow_model())?;
        let files: [(&str, &[u8]); 3] = [
            ("digits.onnx", &digits),
            ("digits-wide.onnx", &wide),
            ("slow.onnx", &slow),
        ];
        storage::publish(self.cluster, &self.namespace, CLAIM, &files).await
    }

    /// Adds a file to the claim.
    pub async fn publish(&self, file: &str, content: &[u8]) -> Result<()> {
        storage::publish(self.cluster, &self.namespace, CLAIM, &[(file, content)]).await
    }

    /// A service of one of the models, small enough that several fit on two cores.
    pub fn service(&self, name: &str, file: &str) -> Scenario {
        Scenario::new(&self.namespace, name, &format!("pvc://{CLAIM}/{file}"))
            .with("/model/resources/requests/cpu", json!("50m"))
    }

    /// kubectl in the namespace of the scenario.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        // In front: after `exec … --` it would be an argument of the program in the pod.
        let namespace = ["--namespace", &self.namespace];
        self.cluster
            .kubectl(namespace.into_iter().chain(arguments.iter().copied()))
            .await
    }
}

/// Load that starts now, evenly spaced.
pub fn start_load(address: SocketAddr, rate: f64, requests: Arc<[Request]>) -> Load {
    let mut options = LoadOptions::to(address);
    options.arrivals = Arrivals::Constant;
    // As long as the servers themselves wait: what queues while further replicas start must not fail by the client's impatience.
    options.timeout = Duration::from_secs(60);
    Load::start(options, Profile { rate, requests })
}
