//! `kubectl scale` and `kubectl autoscale` on an InferenceService: as documented, and nobody fights.
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::Api;
use tidewright_e2e::wait::{Seen, await_condition};
use tokio::time::Instant;

use crate::look::{ReplicaWatch, await_reason};
use crate::stage::{READY, SOON, Scene, scene};

fn autoscalers(scene: &Scene) -> Api<HorizontalPodAutoscaler> {
    Api::namespaced(scene.client.clone(), &scene.namespace)
}

async fn await_autoscaler(scene: &Scene, name: &str, is_there: bool) -> Result<()> {
    await_condition(
        &format!("HorizontalPodAutoscaler {name}: there = {is_there}"),
        SOON,
        || async {
            let found = autoscalers(scene).get_opt(name).await?.is_some();
            Ok(if found == is_there {
                Seen::Done(())
            } else {
                Seen::not_yet(format!("there = {found}"))
            })
        },
    )
    .await
}

/// Status and reason of a condition of a HorizontalPodAutoscaler.
async fn await_autoscaler_condition(scene: &Scene, name: &str, kind: &str, status: &str, reason: &str) -> Result<()> {
    await_condition(&format!("{kind}={status} {reason} of {name}"), READY, || async {
        let conditions = autoscalers(scene)
            .get(name)
            .await?
            .status
            .unwrap_or_default()
            .conditions
            .unwrap_or_default();
        let found = conditions
            .iter()
            .find(|condition| condition.type_ == kind)
            .context("no such condition")?;
        let is_so = found.status == status && found.reason.as_deref() == Some(reason);
        Ok(if is_so {
            Seen::Done(())
        } else {
            Seen::not_yet(format!("{found:?}"))
        })
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fixed_number_holds_and_zero_gives_it_back_to_the_autoscaler() {
    scene("fixed", |scene| async move {
        let client = &scene.client;
        // Without requests the autoscaler would have one replica.
        let service = scene.service("digits", "digits.onnx").request_rate("20");
        service.apply(client).await?;
        service.ready(client, READY).await?;
        await_reason(client, &service, ("ScalingReady", "True", "Scaling"), READY).await?;
        let replicas = ReplicaWatch::start(client, &scene.namespace, "digits-cpu").await?;

        scene.kubectl(&["scale", "isvc", "digits", "--replicas=3"]).await?;
        replicas
            .reach("three ready replicas", READY, |state| state.ready == 3)
            .await?;
        let message = await_reason(client, &service, ("ScalingReady", "True", "FixedReplicas"), SOON).await?;
        ensure!(message.contains("fixed at 3"), "{message}");
        await_autoscaler(&scene, "digits-cpu", false).await?;
        await_condition("kubectl to show three of three, fixed", SOON, || async {
            let wide = scene.kubectl(&["get", "isvc", "digits", "--output=wide"]).await?;
            let row: Vec<&str> = wide.lines().last().context("no row")?.split_whitespace().collect();
            let is_shown = row.get(5) == Some(&"3/3") && row.last() == Some(&"fixed");
            Ok(if is_shown { Seen::Done(()) } else { Seen::NotYet(wide) })
        })
        .await?;
        // Several periods of the autoscaler, which syncs every 2 s and scales down after 5 s.
        replicas.stays(3, Duration::from_secs(8)).await?;

        let back = Instant::now();
        scene.kubectl(&["scale", "isvc", "digits", "--replicas=0"]).await?;
        await_autoscaler(&scene, "digits-cpu", true).await?;
        await_reason(client, &service, ("ScalingReady", "True", "Scaling"), SOON).await?;
        replicas
            .reach("the autoscaler to take over", READY, |state| {
                state.wanted == 1 && state.ready == 1
            })
            .await?;
        // It was the autoscaler, whose window is 5 s, and not the handover.
        let taken = replicas
            .first_since(back, "a decision", SOON, |state| state.wanted != 3)
            .await?;
        ensure!(taken.at - back > Duration::from_secs(4), "{}", replicas.story(back));
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_autoscaler_of_ones_own_works_from_a_fixed_number_and_only_from_one() {
    scene("autoscale", |scene| async move {
        let client = &scene.client;
        let service = scene.service("digits", "digits.onnx").request_rate("20");
        service.apply(client).await?;
        service.ready(client, READY).await?;
        let replicas = ReplicaWatch::start(client, &scene.namespace, "digits-cpu").await?;

        // Without a number to start from it stands aside, and ours goes on.
        let autoscale = ["autoscale", "isvc", "digits", "--min=3", "--max=4", "--cpu=70%"];
        scene.kubectl(&autoscale).await?;
        await_autoscaler_condition(&scene, "digits", "ScalingActive", "False", "ScalingDisabled").await?;
        await_autoscaler(&scene, "digits-cpu", true).await?;
        ensure!(replicas.last().wanted == 1, "{:?}", replicas.last());

        scene.kubectl(&["scale", "isvc", "digits", "--replicas=2"]).await?;
        replicas
            .reach("the minimum of the user's autoscaler", READY, |state| state.wanted == 3)
            .await?;
        replicas
            .reach("three ready replicas", READY, |state| state.ready == 3)
            .await?;
        await_autoscaler(&scene, "digits-cpu", false).await?;
        let fixed = service.api(client).get("digits").await?.spec.predictor.replicas;
        ensure!(fixed == 3, "the user's autoscaler writes the number: {fixed}");
        // Its minimum alone would need no signal: it reads the pods' CPU through the selector of the scale subresource, too.
        await_autoscaler_condition(&scene, "digits", "ScalingActive", "True", "ValidMetricFound").await?;

        scene.kubectl(&["delete", "hpa", "digits"]).await?;
        scene.kubectl(&["scale", "isvc", "digits", "--replicas=0"]).await?;
        replicas
            .reach("our autoscaler to take over", READY, |state| state.wanted == 1)
            .await?;
        Ok(())
    })
    .await;
}
