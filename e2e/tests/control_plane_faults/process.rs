//! The process: ready only when it is, by name of what it waits for, and ended on request.
use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::DeleteParams;
use tidewright_e2e::clock::Stopwatch;
use tidewright_e2e::console::progress;
use tidewright_e2e::operator_process::{OperatorOptions, OperatorProcess, install_definitions};
use tidewright_e2e::wait::{Seen, await_condition};

use super::{PATIENCE, turn};

#[tokio::test]
async fn operator_waits_for_its_definitions_by_name_and_needs_no_restart() -> Result<()> {
    let (_turn, cluster) = turn().await?;
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client().await?);
    let name = "inferenceservices.serving.tidewright.dev";
    definitions.delete(name, &DeleteParams::default()).await?;
    await_condition("the definition to go", PATIENCE, || async {
        Ok(match definitions.get_opt(name).await? {
            None => Seen::Done(()),
            Some(_) => Seen::not_yet("still there"),
        })
    })
    .await?;
    let operator = OperatorProcess::start(cluster, OperatorOptions::default()).await?;
    let outcome = await_condition("the operator to say what it waits for", PATIENCE, || async {
        let (status, text) = operator.ask("/readyz").await?;
        let is_it = status == 503 && text.contains("InferenceService") && text.contains("404");
        let is_all = text.lines().count() == 1;
        Ok(if is_it && is_all {
            Seen::Done(())
        } else {
            Seen::NotYet(format!("{status}: {text}"))
        })
    })
    .await;
    let (alive, text) = operator.ask("/healthz").await?;
    install_definitions(cluster).await?;
    outcome?;
    ensure!(alive == 200, "a restart would not help: {text}");
    let watch = Stopwatch::start();
    operator.await_ready(PATIENCE).await?;
    progress(format_args!("ready {:.1?} after its definitions", watch.elapsed()));
    Ok(())
}

#[tokio::test]
async fn operator_ends_well_on_request() -> Result<()> {
    let (_turn, cluster) = turn().await?;
    let operator = OperatorProcess::ready(cluster, OperatorOptions::default()).await?;
    let watch = Stopwatch::start();
    let exit = operator.terminate()?;
    ensure!(exit == "exited with 0", "{exit}: {}", operator.log_tail());
    // It waits 3 s for the last questions to its metrics API; Kubernetes would kill it after 30 s.
    ensure!(watch.elapsed() < Duration::from_secs(20), "{:?}", watch.elapsed());
    Ok(())
}
