//! CPU as a signal of the operator's own decision: metrics.k8s.io is a script, and the operator reads it with the chart's rights.
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tidewright_api::labels;
use tidewright_e2e::aggregated_api::{AggregatedApi, Answers, Served};
use tidewright_e2e::chart_rights;
use tidewright_e2e::clock::time_of_day;
use tidewright_e2e::dump::OPERATOR_NAMESPACE;
use tidewright_e2e::fixtures::Scenario;
use tidewright_e2e::namespace::with_temp_namespace;
use tidewright_e2e::operator_process::{OperatorOptions, OperatorProcess};
use tidewright_e2e::wait::{Seen, await_condition};

use super::ledger::replays_offline;
use super::metrics_api::{await_replicas, await_scaling};
use super::modes::given;
use super::{MODEL, PATIENCE, turn};

const GROUP: &str = "metrics.k8s.io";
const VERSION: &str = "v1beta1";
/// Longer than the quarter of a minute between two looks of the operator.
const STAYS: Duration = Duration::from_secs(20);

/// What all pods together use, in thousandths of a core, and whether one of them says nothing.
#[derive(Debug, Clone, Copy)]
struct Load {
    millis: u64,
    one_is_silent: bool,
}

/// The list of what pods use: an even share each.
async fn list(client: &Client, load: Load) -> Result<Value> {
    let pods: Api<Pod> = Api::all(client.clone());
    let all = pods.list(&ListParams::default().labels(labels::SERVICE)).await?.items;
    let now = time_of_day()?.to_string();
    let count = all.len().max(1) as u64;
    let items = all.iter().skip(usize::from(load.one_is_silent)).map(|pod| {
        let cpu = format!("{}n", load.millis * 1_000_000 / count);
        json!({"metadata": {"name": pod.name_any(), "namespace": pod.namespace()}, "timestamp": now, "window": "1ns",
            "containers": [{"name": "kserve-container", "usage": {"cpu": cpu, "memory": "64Mi"}}]})
    });
    let items: Vec<Value> = items.collect();
    Ok(json!({"kind": "PodMetricsList", "apiVersion": format!("{GROUP}/{VERSION}"), "metadata": {}, "items": items}))
}

#[tokio::test(flavor = "multi_thread")]
async fn direct_mode_scales_by_cpu_and_holds_where_nobody_measures_it() -> Result<()> {
    let (_turn, cluster) = turn().await?;
    let load = Arc::new(Mutex::new(Load {
        millis: 120,
        one_is_silent: false,
    }));
    let client = cluster.client().await?;
    let answering = Arc::clone(&load);
    let answers: Answers = Arc::new(move |parts| {
        let (client, load) = (client.clone(), *answering.lock().unwrap());
        Box::pin(async move {
            match parts.as_slice() {
                [pods] if pods == "pods" => list(&client, load).await.map(Some),
                _ => Ok(None),
            }
        })
    });
    let served = Served {
        group: GROUP,
        version: VERSION,
        resources: json!([{"name": "pods", "singularName": "", "namespaced": true, "kind": "PodMetrics", "verbs": ["get", "list"]}]),
    };
    let api = AggregatedApi::start(cluster, served, answers).await?;
    let (proxy, _) = chart_rights::proxy(cluster, "").await?;
    // Its pods have no containers: nobody would answer, and nothing shrink.
    let options = OperatorOptions::default()
        .through(proxy.kubeconfig())
        .argument("--ask-pods=false");
    let operator = OperatorProcess::ready(cluster, options).await?;
    let registered = &api;
    let outcome = with_temp_namespace(cluster, "usage", |namespace| async move {
        let (client, name) = (&namespace.client, namespace.name.as_str());
        // A replica should use 50 of the 100 thousandths that it requests.
        let cpu = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}});
        let direct = Scenario::new(name, "digits", MODEL).with("/autoScaling", json!({"mode": "Direct", "metrics": [cpu]}));
        direct.apply(client).await?;
        direct.ready(client, PATIENCE).await?;
        let message = await_scaling(client, &direct, "MetricsUnavailable").await?;
        ensure!(
            message.contains("cpu QueryFailed") && message.contains("is metrics-server installed?"),
            "{message}"
        );
        ensure!(message.contains("nothing is scaled down"), "{message}");

        registered.register(cluster, OPERATOR_NAMESPACE, PATIENCE).await?;
        await_replicas(client, &direct, 3).await?;
        await_scaling(client, &direct, "Scaling").await?;
        await_condition("the decision to say why", PATIENCE, || async {
            let service = direct.api(client).get("digits").await?;
            let pool = service.status.as_ref().and_then(|status| status.pools.first());
            let decision = pool.and_then(|pool| pool.decision.clone()).context("no decision")?;
            Ok(if decision.message.contains("cpu at ") {
                Seen::Done(())
            } else {
                Seen::NotYet(format!("{decision:?}"))
            })
        })
        .await?;

        // One of the three says nothing any more, and the others nearly nothing.
        *load.lock().unwrap() = Load {
            millis: 3,
            one_is_silent: true,
        };
        let partial = await_condition("a partial signal", PATIENCE, || async {
            let part = r#"signal="cpu",state="Partial""#;
            let count = operator.metric("tidewright_operator_signal_state", part).await?;
            Ok(if count > 0.0 { Seen::Done(()) } else { Seen::not_yet(count) })
        });
        partial.await?;
        let kept = given(client, name, STAYS).await?;
        ensure!(kept == [3], "{kept:?}");
        replays_offline(&operator, name, "cpu").await
    })
    .await;
    api.unregister(cluster).await?;
    outcome
}
