//! The operator scales by itself: real servers and a real Prometheus, and no HorizontalPodAutoscaler.
use anyhow::ensure;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::Api;
use kube::api::ListParams;
use serde_json::json;
use tidewright_e2e::load::digits;

use crate::look::{ReplicaWatch, assert_nothing_failed, await_decision, await_reason};
use crate::scaling::scale_up;
use crate::stage::{READY, SOON, scene};

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
        assert_nothing_failed(&load.stop().await)
    })
    .await;
}
