//! `behavior` reaches the pod autoscaler whole: how fast it scales up, and whether it scales down at all.
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use tidewright_e2e::fixtures::{self, Scenario};
use tidewright_e2e::load::digits;

use crate::look::{assert_nothing_failed, await_decision};
use crate::scaling::{scale_up, serve};
use crate::stage::{READY, SOON, Scene, scene};

/// One more pod in so many seconds.
const PERIOD: u64 = 6;
/// By so much two steps may look closer than they were: the watch tells the earlier one late, and the autoscaler counts from its own look, every 2 s.
/// Without the policy, steps are one look apart.
const LATE: Duration = Duration::from_secs(2);

fn service(scene: &Scene, scale_down: &serde_json::Value) -> Scenario {
    let one_by_one =
        json!({"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 1, "periodSeconds": PERIOD}]});
    scene
        .service("digits", "digits.onnx")
        .with(
            "/autoScaling/behavior",
            json!({"scaleUp": one_by_one, "scaleDown": scale_down}),
        )
        // A stall of the generator, which then catches up, asks for no fifth.
        .with("/maxReplicas", json!(4))
        .request_rate("10")
}

#[tokio::test(flavor = "multi_thread")]
async fn one_pod_per_period_up_and_none_down_where_that_is_disabled() {
    scene("behavior", |scene| async move {
        let client = &scene.client;
        let slowly = service(&scene, &json!({"selectPolicy": "Disabled"}));
        let replicas = serve(&scene, &slowly).await?;
        // The rate asks for four at once.
        let load = scale_up(
            &scene,
            &slowly,
            &replicas,
            (36.0, digits::single(&scene.models.digits)),
            4,
        )
        .await?;
        let steps = replicas.wanted();
        ensure!(steps.iter().map(|step| step.wanted).eq(1..=4), "{steps:?}");
        // The first step has no predecessor: only the later ones have to wait for the period to end.
        for pair in steps[1..].windows(2) {
            let gap = pair[1].at - pair[0].at;
            ensure!(
                gap + LATE > Duration::from_secs(PERIOD),
                "{gap:?} between two steps: {steps:?}"
            );
        }
        assert_nothing_failed(&load.stop().await)?;

        // The rate is gone, and the autoscaler has seen it.
        await_rate_below_target(&scene).await?;
        replicas.stays(4, Duration::from_secs(8)).await?;
        // Allowed, it does it at once: it was the behaviour that kept the pods.
        let quickly = service(&scene, &fixtures::quick_behavior()["scaleDown"]);
        quickly.apply(client).await?;
        replicas.reach("one replica", READY, |state| state.wanted == 1).await?;
        await_decision(client, &quickly, "MinReplicas", SOON).await?;
        Ok(())
    })
    .await;
}

/// Waits until the autoscaler has read a rate that is below its target.
async fn await_rate_below_target(scene: &Scene) -> Result<()> {
    use tidewright_e2e::wait::{Seen, await_condition};
    let path = "--output=jsonpath={.status.currentMetrics[0].object.current.averageValue}";
    await_condition("the autoscaler to read a rate of 0", READY, || async {
        let value = scene.kubectl(&["get", "hpa", "digits-cpu", path]).await?;
        Ok(if value == "0" {
            Seen::Done(())
        } else {
            Seen::not_yet(value)
        })
    })
    .await
}
