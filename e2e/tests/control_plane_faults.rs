//! The operator while things fail around it: rights, calls, watches, the API server, its own processes, Prometheus. One test at a time.
//!
//! K1 to K5 are the defaults of the client library that are not safe; each test here fails with them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#[path = "control_plane_faults/api_errors.rs"]
mod api_errors;
#[path = "control_plane_faults/leader.rs"]
mod leader;
#[path = "control_plane_faults/ledger.rs"]
mod ledger;
#[path = "control_plane_faults/metrics_api.rs"]
mod metrics_api;
#[path = "control_plane_faults/metrics_api_off.rs"]
mod metrics_api_off;
#[path = "control_plane_faults/modes.rs"]
mod modes;
#[path = "control_plane_faults/outage.rs"]
mod outage;
#[path = "control_plane_faults/placing.rs"]
mod placing;
#[path = "control_plane_faults/process.rs"]
mod process;
#[path = "control_plane_faults/refused.rs"]
mod refused;
#[path = "control_plane_faults/rights.rs"]
mod rights;
#[path = "control_plane_faults/signals.rs"]
mod signals;
#[path = "control_plane_faults/slow_writes.rs"]
mod slow_writes;
#[path = "control_plane_faults/usage.rs"]
mod usage;
#[path = "control_plane_faults/watches.rs"]
mod watches;

use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::{Api, Client};
use serde_json::json;
use tidewright_e2e::api_proxy::ApiProxy;
use tidewright_e2e::chart_rights;
use tidewright_e2e::clock::Stopwatch;
use tidewright_e2e::control_plane::ControlPlane;
use tidewright_e2e::fixtures::Scenario;
use tidewright_e2e::operator_process::{OperatorOptions, OperatorProcess, install_definitions};
use tidewright_e2e::options::ClusterOptions;
use tidewright_e2e::shared::shared_control_plane;
use tidewright_e2e::wait::{Seen, await_condition};
use tokio::sync::{Mutex, MutexGuard};

/// Far beyond what anything here takes; a busy machine takes its time.
const PATIENCE: Duration = Duration::from_secs(60);

const MODEL: &str = "file:///models/digits.onnx";

/// Every test has an operator of its own, and every operator acts on all services.
static TURN: Mutex<()> = Mutex::const_new(());

async fn turn() -> Result<(MutexGuard<'static, ()>, &'static ControlPlane)> {
    let turn = TURN.lock().await;
    let options = || Ok(ClusterOptions::for_tests("cp-faults").with_fake_nodes(1));
    let cluster = shared_control_plane(options).await?;
    install_definitions(cluster).await?;
    Ok((turn, cluster))
}

/// An operator that reaches the API server through a proxy, with the chart's rights.
async fn through_proxy(cluster: &'static ControlPlane) -> Result<(ApiProxy, OperatorProcess<'static>)> {
    let (proxy, _) = chart_rights::proxy(cluster, "").await?;
    let options = OperatorOptions::default().through(proxy.kubeconfig());
    let operator = OperatorProcess::ready(cluster, options).await?;
    Ok((proxy, operator))
}

/// Time from a change of a service to the change of its child, as a user would see it.
async fn reaction(client: &Client, scenario: &Scenario, most: u32) -> Result<Duration> {
    let changed = scenario.clone().with("/maxReplicas", json!(most));
    let autoscalers: Api<HorizontalPodAutoscaler> = Api::namespaced(client.clone(), &scenario.namespace);
    let name = format!("{}-cpu", scenario.name);
    let watch = Stopwatch::start();
    changed.apply(client).await?;
    await_condition("the child to follow", PATIENCE, || async {
        let now = autoscalers.get(&name).await?.spec.max_replicas;
        Ok(if u32::try_from(now)? == most {
            Seen::Done(())
        } else {
            Seen::not_yet(now)
        })
    })
    .await?;
    Ok(watch.elapsed())
}
