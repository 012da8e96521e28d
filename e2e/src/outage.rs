//! Prometheus away and back again.
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use crate::fixtures;

const NAMESPACE: &str = "monitoring";
/// Seconds without Prometheus, 600 for the ten minutes in which nothing may shrink in any mode.
const OUTAGE_SECONDS: &str = "TIDEWRIGHT_E2E_OUTAGE_SECONDS";

/// How long Prometheus is away in a test: so long that what is to be seen can be, or longer where somebody asks for it.
pub fn length(least: Duration) -> Result<Duration> {
    let Some(seconds) = std::env::var(OUTAGE_SECONDS).ok().filter(|text| !text.is_empty()) else {
        return Ok(least);
    };
    let seconds: u64 = seconds.parse().with_context(|| format!("{OUTAGE_SECONDS}={seconds}"))?;
    ensure!(
        seconds >= least.as_secs(),
        "{OUTAGE_SECONDS}: less than {least:?} shows nothing"
    );
    Ok(Duration::from_secs(seconds))
}

/// Ends the Prometheus of e2e/manifests without farewell.
pub async fn stop_prometheus(client: &Client) -> Result<()> {
    scale(client, 0).await?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let now = DeleteParams::default().grace_period(0);
    pods.delete_collection(&now, &ListParams::default().labels("app=prometheus"))
        .await?;
    Ok(())
}

/// Lets it come back: empty, as its data went with its pod.
pub async fn restore_prometheus(client: &Client, deadline: Duration) -> Result<()> {
    scale(client, 1).await?;
    fixtures::await_deployment(client, NAMESPACE, "prometheus", deadline)
        .await
        .map(drop)
}

async fn scale(client: &Client, replicas: i32) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let patch = json!({"spec": {"replicas": replicas}});
    deployments
        .patch("prometheus", &PatchParams::default(), &Patch::Merge(&patch))
        .await?;
    Ok(())
}
