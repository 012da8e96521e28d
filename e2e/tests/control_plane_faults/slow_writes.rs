//! A number that the API server does not take: its service waits, and says so; the others are decided about and scaled as ever.
use anyhow::{Context as _, Result, ensure};
use http::Method;
use kube::Client;
use serde_json::json;
use tidewright_e2e::api_proxy::Fault;
use tidewright_e2e::console::progress;
use tidewright_e2e::fixtures::Scenario;
use tidewright_e2e::namespace::with_temp_namespace;
use tidewright_e2e::wait::{Seen, await_condition};
use tidewright_scaling::record::Record;

use super::metrics_api::{Operator, await_replicas, await_scaling, operator, unregister};
use super::signals::{Exporter, Load, Prometheus};
use super::{MODEL, PATIENCE, turn};

/// Decisions that are looked at, one each second.
const DECISIONS: usize = 12;
/// Between two of them; the silent write alone takes three.
const GAP_SECONDS_MAX: f64 = 2.5;

fn direct(namespace: &str, name: &str) -> Scenario {
    let rate = json!({"type": "RequestRate", "target": {"type": "AverageValue", "averageValue": "10"}});
    Scenario::new(namespace, name, MODEL).with("/autoScaling", json!({"mode": "Direct", "metrics": [rate]}))
}

/// Every decision about a service that the operator remembers.
async fn decisions(operator: &Operator, namespace: &str, name: &str) -> Result<Vec<Record>> {
    let (status, lines) = operator.ask(&format!("/ledger/{namespace}/{name}")).await?;
    ensure!(status == 200, "{status}: {lines}");
    Ok(lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

/// Since when it is told that the operator cannot scale.
async fn told_since(client: &Client, service: &Scenario) -> Result<String> {
    let status = service.api(client).get(&service.name).await?.status.unwrap_or_default();
    let mut all = status.conditions.into_iter();
    let told = all.find(|condition| condition.type_ == "ScalingReady" && condition.reason == "AutoscalerInactive");
    let told = told.context("it is told no more")?;
    Ok(told.last_transition_time.0.to_string())
}

#[tokio::test]
async fn a_scale_that_is_never_answered_holds_up_its_own_service_alone() -> Result<()> {
    let (_turn, cluster) = turn().await?;
    let exporter = Exporter::start(cluster).await?;
    let prometheus = Prometheus::start(cluster, exporter.address)?;
    let operator = operator(cluster, &prometheus).await?;
    operator.await_ready(PATIENCE).await?;
    let outcome = with_temp_namespace(cluster, "slow-writes", |namespace| async move {
        let (client, name) = (&namespace.client, &namespace.name);
        let (silent, other) = (direct(name, "silent"), direct(name, "other"));
        for service in [&silent, &other] {
            exporter.set(&service.name, Load { rate: 1.0, queue: 0.0 });
            service.apply(client).await?;
        }
        for service in [&silent, &other] {
            service.ready(client, PATIENCE).await?;
            await_scaling(client, service, "Scaling").await?;
        }
        let path = format!("/apis/apps/v1/namespaces/{name}/deployments/silent-cpu/scale");
        operator.proxy.inject(Fault::Silence, None, move |asked| {
            asked.method == Method::PATCH && asked.path == path
        });
        exporter.set("silent", Load { rate: 25.0, queue: 0.0 });
        let told = await_scaling(client, &silent, "AutoscalerInactive").await?;
        ensure!(told.contains("took longer than 3s"), "{told}");

        let since = told_since(client, &silent).await?;
        let before = decisions(&operator, name, "other").await?.len();
        exporter.set("other", Load { rate: 25.0, queue: 0.0 });
        let took = await_replicas(client, &other, 3).await?;
        let decided = await_condition("decisions about the other one", PATIENCE, || async {
            let decided = decisions(&operator, name, "other").await?.split_off(before);
            Ok(if decided.len() > DECISIONS {
                Seen::Done(decided)
            } else {
                Seen::not_yet(decided.len())
            })
        })
        .await?;
        let gaps = decided.windows(2).map(|two| two[1].at.seconds_since(two[0].at));
        let longest = gaps.fold(0.0, f64::max);
        progress(format_args!(
            "the other service has its replicas after {took:.1?}; at most {longest:.2} s between two decisions about it"
        ));
        ensure!(longest < GAP_SECONDS_MAX, "{longest} s");
        // Each attempt ends as the one before: it is told still, and was told throughout.
        let still = told_since(client, &silent).await?;
        ensure!(still == since, "told since {since}, and then since {still}");

        operator.proxy.heal();
        await_replicas(client, &silent, 3).await?;
        await_scaling(client, &silent, "Scaling").await.map(drop)
    })
    .await;
    unregister(cluster).await?;
    outcome
}
