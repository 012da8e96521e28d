//! Prometheus goes and comes back, whoever scales, at a time when only its absence keeps what there is.
use std::time::Duration;

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, Client};
use tidewright_e2e::clock::Stopwatch;
use tidewright_e2e::console::progress;
use tidewright_e2e::fixtures::{Scenario, conditions};
use tidewright_e2e::namespace::with_temp_namespace;
use tidewright_e2e::outage;
use tidewright_e2e::wait::{Seen, await_condition};

use super::metrics_api::{await_replicas, await_scaling, decision, operator_with, unregister};
use super::modes::{STAYS, given_to, named};
use super::signals::{Exporter, Load, Prometheus};
use super::{PATIENCE, turn};

/// Shorter than it takes to see the first rate: a service of this age is out of it, and does not hold because it is young.
const RELEARN_SECONDS: u32 = 5;
/// More than the looks in which a wrong one would act: ten of the operator's, and as many of the pod autoscaler's, which waits some seconds first.
const OUTAGE: Duration = Duration::from_secs(25);
/// The window of the rate fills, a replica is kept for a minute after it was last needed, and then one goes each 15 s.
const SHRUNK: Duration = Duration::from_mins(3);

#[tokio::test]
async fn every_mode_holds_while_prometheus_is_dead_and_for_no_other_reason() -> Result<()> {
    let (_turn, cluster) = turn().await?;
    let exporter = Exporter::start(cluster).await?;
    let prometheus = Prometheus::start(cluster, exporter.address)?;
    let relearn = format!("--scaling-relearn-seconds={RELEARN_SECONDS}");
    let operator = operator_with(cluster, &prometheus, &[&relearn]).await?;
    operator.await_ready(PATIENCE).await?;
    let outage = outage::length(OUTAGE)?;
    let outcome = with_temp_namespace(cluster, "outage", |namespace| async move {
        let (client, name) = (&namespace.client, &namespace.name);
        let all = ["Direct", "Advise", "Hpa"].map(|mode| named(name, &mode.to_lowercase(), mode));
        let [direct, advise, hpa] = &all;
        for service in &all {
            exporter.set(&service.name, Load { rate: 25.0, queue: 0.0 });
            service.apply(client).await?;
        }
        for service in &all {
            await_replicas(client, service, 3).await?;
            await_scaling(client, service, "Scaling").await?;
        }
        // It has learned, and what has grown has settled.
        stay(client, &all, STAYS).await?;

        prometheus.kill()?;
        for service in &all {
            exporter.set(&service.name, Load::default());
        }
        for service in &all {
            let message = await_scaling(client, service, "MetricsUnavailable").await?;
            ensure!(
                message.contains("nothing is scaled down"),
                "{}: {message}",
                service.name
            );
        }
        decision(client, direct, "FailStatic").await?;
        stay(client, &all, outage).await?;
        decision(client, direct, "FailStatic").await?;
        for service in [advise, hpa] {
            let status = service.api(client).get(&service.name).await?.status;
            let advice = status.and_then(|status| status.pools.into_iter().next()?.advice);
            ensure!(
                advice.as_ref().is_some_and(|advice| advice.replicas == 3),
                "{}: {advice:?}",
                service.name
            );
        }
        progress(format_args!(
            "every mode: 3 replicas kept for {outage:?} without Prometheus"
        ));

        prometheus.start_again()?;
        let watch = Stopwatch::start();
        for service in &all {
            shrinks(client, service).await?;
            progress(format_args!(
                "{}: Prometheus is back, and nothing to do: seen at one replica after {:.1?}",
                service.name,
                watch.elapsed()
            ));
            await_scaling(client, service, "Scaling").await?;
        }
        Ok(())
    })
    .await;
    unregister(cluster).await?;
    outcome
}

/// Three replicas each, for so long.
async fn stay(client: &Client, services: &[Scenario], time: Duration) -> Result<()> {
    let kept = services.iter().map(|service| async {
        let pool = format!("{}-cpu", service.name);
        let kept = given_to(client, &service.namespace, &pool, time).await?;
        ensure!(kept == [3], "{}: {kept:?}", service.name);
        Ok(())
    });
    try_join_all(kept).await.map(drop)
}

/// Waits until the pool is as small as it may be.
async fn shrinks(client: &Client, scenario: &Scenario) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &scenario.namespace);
    await_condition("the replicas to go", SHRUNK, || async {
        let replicas = deployments.get(&format!("{}-cpu", scenario.name)).await?.spec.replicas;
        let service = scenario.api(client).get(&scenario.name).await?;
        Ok(if replicas == Some(1) {
            Seen::Done(())
        } else {
            Seen::NotYet(format!("{replicas:?}; {}", conditions(&service)))
        })
    })
    .await
}
