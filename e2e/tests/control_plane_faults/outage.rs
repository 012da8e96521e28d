//! Prometheus goes and comes back while the operator itself scales, at a time when only its absence keeps what there is.
use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, Client};
use tidewright_e2e::clock::Stopwatch;
use tidewright_e2e::console::progress;
use tidewright_e2e::fixtures::{Scenario, conditions};
use tidewright_e2e::namespace::with_temp_namespace;
use tidewright_e2e::wait::{Seen, await_condition};

use super::metrics_api::{await_replicas, await_scaling, decision, operator_with, unregister};
use super::modes::{STAYS, given, in_mode};
use super::signals::{Exporter, Load, Prometheus};
use super::{PATIENCE, turn};

/// Shorter than it takes to see the first rate: a service of this age is out of it, and does not hold because it is young.
const RELEARN_SECONDS: u32 = 5;
/// The window of the rate fills, a replica is kept for a minute after it was last needed, and then one goes each 15 s.
const SHRUNK: Duration = Duration::from_mins(3);

#[tokio::test]
async fn direct_mode_holds_while_prometheus_is_dead_and_for_no_other_reason() -> Result<()> {
    let (_turn, cluster) = turn().await?;
    let exporter = Exporter::start(cluster).await?;
    let prometheus = Prometheus::start(cluster, exporter.address)?;
    let relearn = format!("--scaling-relearn-seconds={RELEARN_SECONDS}");
    let operator = operator_with(cluster, &prometheus, &[&relearn]).await?;
    operator.await_ready(PATIENCE).await?;
    let outcome = with_temp_namespace(cluster, "outage", |namespace| async move {
        let (client, name) = (&namespace.client, &namespace.name);
        let direct = in_mode(name, "Direct");
        exporter.set("digits", Load { rate: 25.0, queue: 0.0 });
        direct.apply(client).await?;
        await_replicas(client, &direct, 3).await?;
        await_scaling(client, &direct, "Scaling").await?;
        // It has learned, and what has grown has settled.
        let steady = given(client, name, STAYS).await?;
        ensure!(steady == [3], "{steady:?}");

        prometheus.kill()?;
        exporter.set("digits", Load::default());
        let message = await_scaling(client, &direct, "MetricsUnavailable").await?;
        ensure!(message.contains("nothing is scaled down"), "{message}");
        decision(client, &direct, "FailStatic").await?;
        let kept = given(client, name, STAYS).await?;
        ensure!(kept == [3], "{kept:?}");
        decision(client, &direct, "FailStatic").await?;

        prometheus.start_again()?;
        let took = shrinks(client, &direct).await?;
        progress(format_args!(
            "direct: Prometheus is back, and nothing to do: one replica after {took:.1?}"
        ));
        await_scaling(client, &direct, "Scaling").await.map(drop)
    })
    .await;
    unregister(cluster).await?;
    outcome
}

/// Waits until the pool is as small as it may be.
async fn shrinks(client: &Client, scenario: &Scenario) -> Result<Duration> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &scenario.namespace);
    let watch = Stopwatch::start();
    await_condition("the replicas to go", SHRUNK, || async {
        let replicas = deployments.get("digits-cpu").await?.spec.replicas;
        let service = scenario.api(client).get("digits").await?;
        Ok(if replicas == Some(1) {
            Seen::Done(())
        } else {
            Seen::NotYet(format!("{replicas:?}; {}", conditions(&service)))
        })
    })
    .await?;
    Ok(watch.elapsed())
}
