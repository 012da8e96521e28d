//! What the operator does on a real API server with real controllers: children, replicas, status. Pods are fake, everything else is not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#[path = "control_plane_reconcile/children.rs"]
mod children;
#[path = "control_plane_reconcile/lifecycle.rs"]
mod lifecycle;
#[path = "control_plane_reconcile/replicas.rs"]
mod replicas;
#[path = "control_plane_reconcile/status.rs"]
mod status;
#[path = "control_plane_reconcile/trouble.rs"]
mod trouble;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tidewright_api::{InferenceService, labels};
use tidewright_e2e::api_proxy::ApiProxy;
use tidewright_e2e::chart_rights;
use tidewright_e2e::control_plane::ControlPlane;
use tidewright_e2e::fixtures::{self, Scenario};
use tidewright_e2e::operator_process::{OperatorOptions, OperatorProcess, install_definitions};
use tidewright_e2e::options::ClusterOptions;
use tidewright_e2e::shared::shared_control_plane;
use tidewright_e2e::wait::{Seen, await_condition};
use tokio::sync::{OnceCell, RwLock};

/// Far beyond what anything here takes; a busy machine takes its time.
const PATIENCE: Duration = Duration::from_secs(60);

const MODEL: &str = "file:///models/digits.onnx";

/// Every kind of child.
const KINDS: &str =
    "deployments,horizontalpodautoscalers,configmaps,services,poddisruptionbudgets,networkpolicies,serviceaccounts";

/// One box and one operator for all tests here; a proxy between the two records what the operator writes.
struct Stage {
    cluster: &'static ControlPlane,
    proxy: ApiProxy,
    operator: OperatorProcess<'static>,
}

/// Held for reading by every test; for writing by one that must be alone.
static TURN: RwLock<()> = RwLock::const_new(());

async fn stage() -> Result<&'static Stage> {
    static STAGE: OnceCell<Stage> = OnceCell::const_new();
    STAGE
        .get_or_try_init(|| async {
            let options = || Ok(ClusterOptions::for_tests("cp-reconcile").with_fake_nodes(2));
            let cluster = shared_control_plane(options).await?;
            install_definitions(cluster).await?;
            let (proxy, role) = chart_rights::proxy(cluster, "").await?;
            let mut options = OperatorOptions::default()
                .through(proxy.kubeconfig())
                .argument(format!("--owner-cluster-role={role}"));
            options.lease = Some("tidewright-operator".to_owned());
            let operator = OperatorProcess::ready(cluster, options).await?;
            Ok(Stage {
                cluster,
                proxy,
                operator,
            })
        })
        .await
}

/// A service that uses much of what there is: two pools, caches, a sidecar, placement, amounts in every spelling.
fn rich(namespace: &str, name: &str) -> Scenario {
    let resources =
        json!({"requests": {"cpu": 1, "memory": "0.5Gi"}, "limits": {"cpu": "1500m", "memory": 1_073_741_824}});
    Scenario::new(namespace, name, "pvc://models/digits.onnx")
        .cpu(70)
        .request_rate("1000")
        .queue_depth("1e2")
        .with("/model/resources", resources)
        .with("/model/env", json!([{"name": "EMPTY"}, {"name": "THREADS", "value": "2"}]))
        .with("/batcher", json!({"maxBatchSize": 8, "maxLatency": 3}))
        .with("/labels", json!({"team": "vision"}))
        .with("/annotations", json!({"example.com/note": ""}))
        .with("/tolerations", json!([{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]))
        .with_spec("/cache", json!({"memory": {"maxBytes": "16Mi"}, "redis": {"mode": "Sidecar", "maxMemory": "32Mi"}}))
        .with_spec(
            "/pools",
            json!([
                {"name": "gpu", "accelerator": {"resource": "nvidia.com/gpu"}, "maxReplicas": 2, "nodeSelector": {"type": "gpu"}},
                {"name": "cpu", "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": 1, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname"}}]}}},
            ]),
        )
}

/// The children of a namespace by `Kind/name`, with managed fields.
async fn all_children(cluster: &ControlPlane, namespace: &str) -> Result<BTreeMap<String, Value>> {
    let selector = format!("--selector={}={}", labels::MANAGED_BY, labels::MANAGER);
    let arguments = [
        "get",
        KINDS,
        "--namespace",
        namespace,
        &selector,
        "--output=json",
        "--show-managed-fields",
    ];
    let list: Value = serde_json::from_str(&cluster.kubectl(arguments).await?)?;
    let items = list["items"].as_array().context("no list")?;
    Ok(items
        .iter()
        .map(|item| {
            let name = format!(
                "{}/{}",
                item["kind"].as_str().unwrap_or_default(),
                item["metadata"]["name"].as_str().unwrap_or_default()
            );
            (name, item.clone())
        })
        .collect())
}

/// Waits until the children satisfy `look`, which says what is missing.
async fn await_children(
    cluster: &ControlPlane,
    namespace: &str,
    what: &str,
    look: impl Fn(&BTreeMap<String, Value>) -> Option<String>,
) -> Result<BTreeMap<String, Value>> {
    await_condition(what, PATIENCE, || async {
        let children = all_children(cluster, namespace).await?;
        Ok(match look(&children) {
            None => Seen::Done(children),
            Some(missing) => Seen::NotYet(missing),
        })
    })
    .await
}

/// Longer than a turn of the metrics source and of the autoscaler: what they say shows in the status.
const SETTLED_AFTER: Duration = Duration::from_secs(7);

/// Waits until the operator has written nothing below the namespace for a while.
async fn await_silence(stage: &Stage, namespace: &str) -> Result<()> {
    await_condition("the operator to have nothing left to write", PATIENCE, || async {
        let last = stage.proxy.writes(namespace).last().map(|write| write.at.elapsed());
        Ok(match last {
            Some(age) if age > SETTLED_AFTER => Seen::Done(()),
            Some(age) => Seen::not_yet(format!("a write {age:?} ago")),
            None => Seen::not_yet("no write at all"),
        })
    })
    .await
}

/// Makes the operator look at a service again without any change that matters, and waits until it has: a pod gets an annotation.
async fn look_again(stage: &Stage, client: &Client, scenario: &Scenario, times: usize) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &scenario.namespace);
    let selector = format!("{}={}", labels::SERVICE, scenario.name);
    for turn in 0..times {
        let list = pods.list(&ListParams::default().labels(&selector)).await?;
        let pod = list.items.first().context("no pod")?.metadata.name.clone().unwrap();
        let before = reconciles(stage).await?;
        let patch = json!({"metadata": {"annotations": {"example.com/turn": format!("{turn}")}}});
        pods.patch(&pod, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        await_condition("one more reconcile", PATIENCE, || async {
            let now = reconciles(stage).await?;
            Ok(if now > before {
                Seen::Done(())
            } else {
                Seen::not_yet(now)
            })
        })
        .await?;
    }
    Ok(())
}

async fn reconciles(stage: &Stage) -> Result<f64> {
    stage.operator.metric("tidewright_operator_reconciles_total", "").await
}

/// Waits until a condition has a reason; returns its status and message.
async fn await_reason(
    client: &Client,
    scenario: &Scenario,
    condition: &str,
    reason: &str,
    deadline: Duration,
) -> Result<(String, String)> {
    let api = scenario.api(client);
    await_condition(&format!("{condition} to be {reason}"), deadline, || async {
        let service = api.get(&scenario.name).await?;
        Ok(match find(&service, condition) {
            Some((status, is, message)) if is == reason => Seen::Done((status, message)),
            _ => Seen::NotYet(fixtures::conditions(&service)),
        })
    })
    .await
}

/// Status, reason and message of a condition.
fn find(service: &InferenceService, condition: &str) -> Option<(String, String, String)> {
    let all = &service.status.as_ref()?.conditions;
    let found = all.iter().find(|c| c.type_ == condition)?;
    Some((found.status.clone(), found.reason.clone(), found.message.clone()))
}

/// Whether a field manager owns `spec.replicas`. That it does not is known only of an object whose owners are noted: who has applied it is always one.
fn owns_replicas(object: &Value, manager: &str) -> bool {
    let entries = object["metadata"]["managedFields"].as_array();
    let entries = || entries.into_iter().flatten();
    assert!(
        entries().any(|entry| entry["manager"] == labels::FIELD_MANAGER),
        "no owners are noted: {object:#}"
    );
    entries()
        .filter(|entry| entry["manager"] == manager)
        .any(|entry| !entry["fieldsV1"]["f:spec"]["f:replicas"].is_null())
}

/// Fails with the operator's log beside the complaint.
fn ensure_none<T: std::fmt::Debug>(stage: &Stage, what: &str, found: &[T]) -> Result<()> {
    ensure!(found.is_empty(), "{what}: {found:#?}\n{}", stage.operator.log_tail());
    Ok(())
}
