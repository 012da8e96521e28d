//! The operator scales by itself: real servers and a real Prometheus, and no HorizontalPodAutoscaler.
use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::Api;
use kube::api::ListParams;
use serde_json::json;
use tidewright_e2e::load::digits;
use tidewright_e2e::plugin::tide;

use tidewright_e2e::console::progress;
use tokio::time::Instant;

use crate::look::{ReplicaWatch, assert_nothing_failed, await_decision, await_reason};
use crate::scaling::{scale_up, serve};
use crate::stage::{READY, SOON, Scene, scene, start_load};

/// From a load step to the number that is written, in mode Direct: meant are two seconds, and two busy cores get some more.
const REACTION_MAX_SECONDS: f64 = 5.0;
/// The pod autoscaler looks every few seconds at numbers that are scraped every few seconds.
const HPA_REACTION_MAX: Duration = Duration::from_secs(90);

/// What people ask, through the API server and the kubelet.
async fn ask_the_plugin(scene: &Scene) -> Result<()> {
    let kubeconfig = scene.cluster.kubeconfig();
    let ask = async |arguments: &[&str]| -> Result<String> {
        let all: Vec<&str> = ["--namespace", &scene.namespace]
            .into_iter()
            .chain(arguments.iter().copied())
            .collect();
        let answer = tide(&kubeconfig, &all).await?;
        ensure!(answer.code == Some(0), "{arguments:?}: {answer:?}");
        Ok(answer.stdout)
    };
    let why = ask(&["why", "digits"]).await?;
    for part in ["3 cpu: request_rate", "SIGNAL", "(winner)", "ScalingReady"] {
        ensure!(why.contains(part), "no {part:?} in {why}");
    }
    let explained = ask(&["explain", "digits", "--at", "1s"]).await?;
    ensure!(explained.contains("the same decision, bit for bit"), "{explained}");
    let more = ask(&["what-if", "digits", "--rate", "90"]).await?;
    ensure!(more.contains("5 cpu: request_rate 90 needs 5"), "{more}");
    let top = ask(&["top", "--once"]).await?;
    ensure!(
        top.contains("digits") && top.contains("Direct") && top.contains("3/3"),
        "{top}"
    );
    let json: serde_json::Value = serde_json::from_str(&ask(&["why", "digits", "--output", "json"]).await?)?;
    ensure!(json["pools"][0]["to"] == 3, "{json:#}");
    // With twice as much for each replica fewer would have been enough.
    let spec = scene.service("digits", "digits.onnx").with(
        "/autoScaling",
        json!({"mode": "Direct", "metrics": [{"type": "RequestRate", "target": {"type": "AverageValue", "averageValue": "40"}}]}),
    );
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("other.yaml");
    std::fs::write(&file, spec.object.to_string())?;
    let file = file.display().to_string();
    let replayed = ask(&["replay", "digits", "--policy", &file, "--output", "json"]).await?;
    let courses: serde_json::Value = serde_json::from_str(&replayed)?;
    let cost = |which: &str| courses[which]["replica_seconds"].as_f64().unwrap_or(f64::NAN);
    ensure!(cost("other") < cost("recorded"), "{courses:#}");
    let nobody = tide(
        &kubeconfig,
        &["--namespace", &scene.namespace, "explain", "nobody", "--at", "1s"],
    )
    .await?;
    ensure!(
        nobody.code == Some(1) && nobody.stderr.contains("no decision about"),
        "{nobody:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn direct_mode_scales_up_without_a_horizontal_pod_autoscaler() {
    scene("direct", |scene| async move {
        let client = &scene.client;
        let rate = json!({"type": "RequestRate", "target": {"type": "AverageValue", "averageValue": "20"}});
        let service = scene
            .service("digits", "digits.onnx")
            .with("/autoScaling", json!({"mode": "Direct", "metrics": [rate]}));
        service.apply(client).await?;
        service.ready(client, READY).await?;
        await_reason(client, &service, ("ScalingReady", "True", "Scaling"), READY).await?;
        let replicas = ReplicaWatch::start(client, &scene.namespace, "digits-cpu").await?;
        let requests = digits::single(&scene.models.digits);
        let load = scale_up(&scene, &service, &replicas, (50.0, requests), 3).await?;
        let decision = await_decision(client, &service, "PerReplica", SOON).await?;
        ensure!(decision.message.contains("request_rate"), "{decision:?}");
        let autoscalers: Api<HorizontalPodAutoscaler> = Api::namespaced(client.clone(), &scene.namespace);
        let all = autoscalers.list(&ListParams::default()).await?.items;
        ensure!(all.is_empty(), "{all:?}");
        ask_the_plugin(&scene).await?;
        assert_nothing_failed(&load.stop().await)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn direct_mode_reacts_to_a_load_step_before_a_horizontal_pod_autoscaler() {
    scene("reaction", |scene| async move {
        let client = &scene.client;
        let rate = json!({"type": "RequestRate", "target": {"type": "AverageValue", "averageValue": "20"}});
        let direct = scene
            .service("direct", "digits.onnx")
            .with("/autoScaling", json!({"mode": "Direct", "metrics": [rate]}));
        direct.apply(client).await?;
        direct.ready(client, READY).await?;
        await_reason(client, &direct, ("ScalingReady", "True", "Scaling"), READY).await?;
        let of_direct = ReplicaWatch::start(client, &scene.namespace, "direct-cpu").await?;
        let hpa = scene.service("hpa", "digits.onnx").request_rate("20");
        let of_hpa = serve(&scene, &hpa).await?;
        let requests = digits::single(&scene.models.digits);
        let addresses = [direct.address(client).await?, hpa.address(client).await?];
        let begun = Instant::now();
        let loads = addresses.map(|address| start_load(address, 50.0, requests.clone()));
        let reaction = async |replicas: &ReplicaWatch| -> Result<f64> {
            let more = replicas.first_since(begun, "more replicas", HPA_REACTION_MAX, |state| state.wanted > 1);
            Ok((more.await?.at - begun).as_secs_f64())
        };
        let (by_direct, by_hpa) = tokio::join!(reaction(&of_direct), reaction(&of_hpa));
        let (by_direct, by_hpa) = (by_direct?, by_hpa?);
        progress(format_args!(
            "load step → scale written: Direct {by_direct:.2} s, HorizontalPodAutoscaler {by_hpa:.2} s, {:.1} times as long",
            by_hpa / by_direct
        ));
        ensure!(by_direct <= REACTION_MAX_SECONDS, "{by_direct} s");
        // What people see names who said it.
        let kubeconfig = scene.cluster.kubeconfig();
        let why = tide(&kubeconfig, &["--namespace", &scene.namespace, "why", "direct"]).await?;
        ensure!(why.stdout.contains("request_rate_direct"), "{why:?}");
        for load in loads {
            assert_nothing_failed(&load.stop().await)?;
        }
        Ok(())
    })
    .await;
}
