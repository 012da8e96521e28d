//! Why a pod cannot start: within ten seconds of the kubelet or the scheduler knowing, in the condition that people read first.
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use tidewright_e2e::console::progress;
use tidewright_e2e::fixtures::Scenario;
use tidewright_e2e::models;
use tidewright_e2e::wait::{Seen, await_condition};
use tokio::time::Instant;

use crate::look::await_reason;
use crate::stage::{READY, Scene, install_operator, scene};

/// From the pod's own status to the condition: what is promised.
const WITHIN: Duration = Duration::from_secs(10);

/// Whether the pod's own status tells the trouble.
type Known = fn(&Pod) -> bool;

fn is_unschedulable(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .filter_map(|status| status.conditions.as_ref())
        .flatten();
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
}

fn has_ended(pod: &Pod) -> bool {
    let statuses = pod
        .status
        .iter()
        .filter_map(|status| status.container_statuses.as_ref())
        .flatten();
    statuses.into_iter().any(|container| {
        let states = [&container.state, &container.last_state];
        states.into_iter().flatten().any(|state| state.terminated.is_some())
    })
}

fn lacks_image(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let statuses = status
        .iter()
        .filter_map(|status| status.init_container_statuses.as_ref())
        .flatten();
    statuses.into_iter().any(|container| {
        let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
        waiting
            .and_then(|waiting| waiting.reason.as_deref())
            .is_some_and(|reason| reason.contains("ImagePull"))
    })
}

/// Applies the service and waits for the pod's status to tell, then for the conditions. The message of Ready.
async fn trouble(scene: &Scene, service: &Scenario, known: Known, reason: &str) -> Result<String> {
    let client = &scene.client;
    service.apply(client).await?;
    await_condition("the pod's own status to tell", READY, || async {
        let pods = service.pods(client).await?;
        Ok(if pods.iter().any(known) {
            Seen::Done(())
        } else {
            Seen::not_yet(format!("{:?}", pods.iter().map(|pod| &pod.status).collect::<Vec<_>>()))
        })
    })
    .await?;
    let since = Instant::now();
    let message = await_reason(client, service, ("Ready", "False", reason), READY).await?;
    let took = since.elapsed();
    progress(format_args!("{reason} after {:.2} s: {message}", took.as_secs_f64()));
    ensure!(took < WITHIN, "{reason} only after {took:.1?}");
    await_reason(client, service, ("PredictorReady", "False", reason), WITHIN).await?;
    let row = scene.kubectl(&["get", "isvc", &service.name, "--no-headers"]).await?;
    ensure!(row.contains(reason), "{row}");
    Ok(message)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_does_not_exist() {
    scene("no-claim", |scene| async move {
        let service = scene
            .service("digits", "digits.onnx")
            .with("/model/storageUri", json!("pvc://nowhere/digits.onnx"));
        let message = trouble(&scene, &service, is_unschedulable, "VolumeUnavailable").await?;
        ensure!(message.contains("nowhere"), "{message}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_that_no_node_has() {
    scene("no-gpu", |scene| async move {
        let pool = json!([{"name": "gpu", "accelerator": {"resource": "nvidia.com/gpu", "count": 1}, "executionProviders": ["cuda"]}]);
        let service = scene.service("digits", "digits.onnx").with_spec("/pools", pool);
        let message = trouble(&scene, &service, is_unschedulable, "GPUUnschedulable").await?;
        ensure!(message.contains("nvidia.com/gpu"), "{message}");
        let row = scene.kubectl(&["get", "isvc", "digits", "--no-headers"]).await?;
        ensure!(row.contains("0/1"), "the column GPU: {row}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_cpu_than_any_node_has() {
    scene("no-cpu", |scene| async move {
        let service = scene
            .service("digits", "digits.onnx")
            .with("/model/resources/requests/cpu", json!("1000"));
        let message = trouble(&scene, &service, is_unschedulable, "Unschedulable").await?;
        ensure!(message.contains("Insufficient cpu"), "{message}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_file_that_is_no_model() {
    scene("no-model", |scene| async move {
        scene.publish("broken.onnx", b"this is not ONNX").await?;
        let service = scene.service("digits", "broken.onnx");
        let message = trouble(&scene, &service, has_ended, "ModelLoadFailed").await?;
        ensure!(message.contains("not an ONNX model"), "{message}");
        await_reason(
            &scene.client,
            &service,
            ("ModelLoaded", "False", "ModelLoadFailed"),
            WITHIN,
        )
        .await?;

        // The right file, and it serves: nobody has to touch the object. The kubelet may wait for up to 20 s before it tries again.
        let digits = std::fs::read(&scene.models.digits.onnx)?;
        scene.publish("broken.onnx", &digits).await?;
        service.ready(&scene.client, READY).await?;
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_file_that_is_not_there() {
    scene("no-file", |scene| async move {
        let service = scene.service("digits", "absent.onnx");
        let message = trouble(&scene, &service, has_ended, "ModelLoadFailed").await?;
        ensure!(message.contains("absent.onnx"), "{message}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_file_with_another_digest() {
    scene("other-digest", |scene| async move {
        let (wanted, found) = (&scene.models.digits_wide.digest, &scene.models.digits.digest);
        let service = scene
            .service("digits", "digits.onnx")
            .with("/model/digest", json!(wanted));
        let message = trouble(&scene, &service, has_ended, "DigestMismatch").await?;
        let short = |digest: &str| digest.trim_start_matches("sha256:")[..12].to_owned();
        ensure!(
            message.contains(&short(wanted)) && message.contains(&short(found)),
            "{message}"
        );
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_keeps_crashing() {
    scene("crash", |scene| async move {
        // The server refuses what it does not know, before it has a configuration.
        let env = json!([{"name": "TIDEWRIGHT_LOG_FORMAT", "value": "carved-in-stone"}]);
        let service = scene.service("digits", "digits.onnx").with("/model/env", env);
        let message = trouble(&scene, &service, has_ended, "Crashing").await?;
        ensure!(
            message.contains("exit code") && message.contains("carved-in-stone"),
            "{message}"
        );
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_memory_than_the_limit() {
    scene("out-of-memory", |scene| async move {
        // The limit leaves room for the container to start, and none for a model of which 128 MiB are read into memory.
        let digits = std::fs::read(&scene.models.digits.onnx)?;
        scene.publish("heavy.onnx", &models::padded(&digits, 128 << 20)).await?;
        let service = scene
            .service("digits", "heavy.onnx")
            .with("/model/resources/requests/memory", json!("48Mi"))
            .with("/model/resources/limits/memory", json!("48Mi"));
        let message = trouble(&scene, &service, has_ended, "OutOfMemory").await?;
        ensure!(message.contains("memory"), "{message}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_a_quota_refuses() {
    scene("quota", |scene| async move {
        let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": scene.namespace}, "spec": {"hard": {"pods": "0"}}});
        scene.cluster.apply(&[quota]).await?;
        await_condition("the quota to be in force", READY, || async {
            let used = scene.kubectl(&["get", "resourcequota", "none", "--output=jsonpath={.status.hard.pods}"]).await?;
            Ok(if used == "0" { Seen::Done(()) } else { Seen::not_yet(used) })
        })
        .await?;
        let service = scene.service("digits", "digits.onnx");
        service.apply(&scene.client).await?;
        let message = await_reason(&scene.client, &service, ("Ready", "False", "PodsRefused"), READY).await?;
        ensure!(message.contains("exceeded quota"), "{message}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_cannot_be_pulled() {
    scene("no-image", |scene| async move {
        // No user names an image; the operator's installation does.
        let images = json!({"images": {"redis": "localhost/tidewright/no-such-image:1"}});
        install_operator(scene.cluster, &images).await?;
        let service = scene
            .service("digits", "digits.onnx")
            .with_spec("/cache", json!({"redis": {"mode": "Sidecar", "maxMemory": "16Mi"}}));
        let outcome = trouble(&scene, &service, lacks_image, "ImageUnavailable").await;
        install_operator(scene.cluster, &json!({})).await?;
        let message = outcome.context("with the wrong image")?;
        ensure!(message.contains("no-such-image"), "{message}");
        // Installed rightly, it serves: nobody has to touch the object.
        service.ready(&scene.client, READY).await?;
        Ok(())
    })
    .await;
}
