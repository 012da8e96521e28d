//! Why a pod cannot start is in the condition within ten seconds of the pod saying so.
use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tidewright_e2e::clock::Stopwatch;
use tidewright_e2e::console::progress;
use tidewright_e2e::fixtures::Scenario;
use tidewright_e2e::namespace::with_temp_namespace;

use super::{MODEL, PATIENCE, TURN, await_reason, stage};

/// Bar of the requirement.
const BAR: Duration = Duration::from_secs(10);

/// A pod whose server is not ready, in this state.
fn not_ready(state: &Value, restarts: u32) -> Value {
    json!({"status": {
        "conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}],
        "containerStatuses": [{
            "name": "kserve-container", "image": "x", "imageID": "", "ready": false, "started": false,
            "restartCount": restarts, "state": state,
        }],
    }})
}

fn ended(message: &str, reason: &str) -> Value {
    json!({"terminated": {"exitCode": 1, "reason": reason, "message": message}})
}

#[tokio::test]
async fn what_the_pod_says_is_in_the_condition_within_ten_seconds() -> Result<()> {
    let _turn = TURN.read().await;
    let stage = stage().await?;
    with_temp_namespace(stage.cluster, "trouble", |namespace| async move {
        let scenario = Scenario::new(&namespace.name, "digits", MODEL);
        scenario.apply(&namespace.client).await?;
        scenario.ready(&namespace.client, PATIENCE).await?;
        let pod = scenario.pods(&namespace.client).await?.remove(0).metadata.name.unwrap();
        let pods: Api<Pod> = Api::namespaced(namespace.client.clone(), &namespace.name);
        let waiting = |reason: &str, message: &str| json!({"waiting": {"reason": reason, "message": message}});
        let cases = [
            (
                waiting("ImagePullBackOff", "Back-off pulling image"),
                "ImageUnavailable",
                "Back-off pulling image",
            ),
            (
                waiting("CreateContainerConfigError", "configmap not found"),
                "ContainerNotCreated",
                "configmap not found",
            ),
            (ended("", "OOMKilled"), "OutOfMemory", "memory"),
            (
                ended("panicked at the disco", "Error"),
                "Crashing",
                "panicked at the disco",
            ),
            (
                ended(
                    r#"{"reason":"ModelLoadFailed","message":"digits.onnx: not a model"}"#,
                    "Error",
                ),
                "ModelLoadFailed",
                "digits.onnx: not a model",
            ),
        ];
        let mut slowest = Duration::ZERO;
        for (index, (state, reason, text)) in cases.iter().enumerate() {
            let watch = Stopwatch::start();
            let patch = Patch::Merge(not_ready(state, u32::try_from(index)?));
            pods.patch_status(&pod, &PatchParams::default(), &patch).await?;
            let (status, message) = await_reason(&namespace.client, &scenario, "Ready", reason, BAR).await?;
            slowest = slowest.max(watch.elapsed());
            ensure!(status == "False" && message.contains(text), "{reason}: {message}");
        }
        progress(format_args!("slowest of {} troubles: {slowest:.1?}", cases.len()));
        ensure!(slowest < BAR, "{slowest:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn pods_that_no_node_takes_are_told_apart_by_what_is_missing() -> Result<()> {
    let _turn = TURN.read().await;
    let stage = stage().await?;
    with_temp_namespace(stage.cluster, "pending", |namespace| async move {
        // The scheduler is real: its own message must be in the condition.
        let cases = [
            (
                Scenario::new(&namespace.name, "gpu", MODEL).with_spec(
                    "/pools",
                    json!([{"name": "gpu", "accelerator": {"resource": "nvidia.com/gpu"}}]),
                ),
                "GPUUnschedulable",
                "Insufficient nvidia.com/gpu",
            ),
            (
                Scenario::new(&namespace.name, "place", MODEL).with("/nodeSelector", json!({"type": "nowhere"})),
                "Unschedulable",
                "didn't match Pod's node affinity/selector",
            ),
            (
                Scenario::new(&namespace.name, "claim", "pvc://missing/digits.onnx"),
                "VolumeUnavailable",
                "persistentvolumeclaim \"missing\" not found",
            ),
        ];
        for (scenario, reason, text) in &cases {
            scenario.apply(&namespace.client).await?;
            let (status, message) = await_reason(&namespace.client, scenario, "Ready", reason, PATIENCE).await?;
            ensure!(status == "False" && message.contains(text), "{message}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn pods_that_are_not_even_admitted_are_reported() -> Result<()> {
    let _turn = TURN.read().await;
    let stage = stage().await?;
    with_temp_namespace(stage.cluster, "quota", |namespace| async move {
        let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": namespace.name},
            "spec": {"hard": {"pods": "0"}}});
        stage.cluster.apply(&[quota]).await?;
        let scenario = Scenario::new(&namespace.name, "digits", MODEL);
        scenario.apply(&namespace.client).await?;
        let (status, message) = await_reason(&namespace.client, &scenario, "Ready", "PodsRefused", PATIENCE).await?;
        ensure!(status == "False" && message.contains("exceeded quota"), "{message}");
        Ok(())
    })
    .await
}
