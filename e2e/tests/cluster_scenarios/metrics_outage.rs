//! Prometheus dies at the peak: nobody knows the load any more, so nothing is scaled down, and the condition says why; nor when it is back and empty.
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::Api;
use tidewright_e2e::console::progress;
use tidewright_e2e::fixtures::{self, Scenario};
use tidewright_e2e::load::{Load, LoadOptions, digits};
use tidewright_e2e::outage::{self, restore_prometheus, stop_prometheus};
use tidewright_e2e::wait::{Seen, await_condition};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::look::{ReplicaWatch, assert_nothing_failed, await_decision, await_events, await_reason, condition};
use crate::scaling::{scale_up, serve};
use crate::stage::{READY, SOON, Scene, scene};

/// Six times what the autoscaler waits before it scales down when it may, and more than twice the window of a rate. In production all are minutes.
const OUTAGE: Duration = Duration::from_secs(30);
/// After the return: two windows of a rate at scrapes every 2 s, and what the autoscaler waits, several times.
const AFTERWARDS: Duration = Duration::from_secs(30);

/// Whether the autoscaler's last look failed for want of the rate, and what it says.
async fn rate_is_wanting(scene: &Scene) -> Result<(bool, String)> {
    let autoscalers: Api<HorizontalPodAutoscaler> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let status = autoscalers.get("digits-cpu").await?.status.unwrap_or_default();
    let mut conditions = status.conditions.into_iter().flatten();
    let active = conditions
        .find(|condition| condition.type_ == "ScalingActive")
        .context("no condition")?;
    let message = active.message.unwrap_or_default();
    Ok((
        active.status == "False" && message.contains("request_rate"),
        format!("{}: {message}", active.status),
    ))
}

/// Prometheus is away for so long. The replicas stay because the autoscaler tries and cannot, at every look, and the condition says why.
async fn kept_for_want_of_a_figure(scene: &Scene, service: &Scenario, replicas: &ReplicaWatch) -> Result<()> {
    let killed = Instant::now();
    let message = await_reason(
        &scene.client,
        service,
        ("ScalingReady", "False", "MetricsUnavailable"),
        SOON,
    )
    .await?;
    let said = killed.elapsed().as_secs_f64();
    for part in ["RequestRate", "Prometheus", "nothing is scaled down"] {
        ensure!(message.contains(part), "no {part:?} in {message:?}");
    }
    await_condition("the autoscaler to miss the rate", SOON, || async {
        let (is_wanting, text) = rate_is_wanting(scene).await?;
        Ok(if is_wanting {
            Seen::Done(())
        } else {
            Seen::not_yet(text)
        })
    })
    .await?;
    let outage = outage::length(OUTAGE)?;
    let mut looks = 0_u32;
    let looking = async {
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            let (is_wanting, text) = rate_is_wanting(scene).await?;
            ensure!(is_wanting, "the autoscaler found a rate: {text}");
            looks += 1;
        }
    };
    tokio::select! {
        stayed = replicas.stays(3, outage) => stayed?,
        looked = looking => looked?,
    }
    ensure!(looks > 10, "{looks} looks in {outage:?}");
    progress(format_args!(
        "{}: prometheus killed → condition {said:.1} s ({message}); 3 replicas kept for {} s",
        scene.namespace,
        outage.as_secs()
    ));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_prometheus_nothing_scales_down_and_the_condition_says_why() {
    scene("outage", |scene| async move {
        let client = &scene.client;
        // CPU asks for one replica throughout: it is the rate alone that holds three, and then its absence.
        let service = scene.service("digits", "digits.onnx").cpu(5000).request_rate("20");
        let replicas = serve(&scene, &service).await?;
        let requests = digits::single(&scene.models.digits);
        let load = scale_up(&scene, &service, &replicas, (50.0, requests.clone()), 3).await?;

        stop_prometheus(&scene.client).await?;
        let outcome = async {
            // The truth is 0 from here on.
            assert_nothing_failed(&load.stop().await)?;
            kept_for_want_of_a_figure(&scene, &service, &replicas).await?;
            let now = service.api(client).get("digits").await?;
            ensure!(
                condition(&now, "Ready").is_some_and(|(status, ..)| status == "True"),
                "{}",
                fixtures::conditions(&now)
            );
            let address = service.address(client).await?;
            assert_nothing_failed(&Load::once(&LoadOptions::to(address), &requests[..20]).await)
        };
        let outcome = outcome.await;
        restore_prometheus(&scene.client, READY).await?;
        outcome?;
        // With its figures back the autoscaler does what it was kept from.
        await_reason(client, &service, ("ScalingReady", "True", "Scaling"), READY).await?;
        replicas.reach("one replica", READY, |state| state.wanted == 1).await?;
        await_decision(client, &service, "MinReplicas", SOON).await?;
        await_events(
            client,
            &service,
            &["ScaledUp", "MetricUnavailable", "MetricsAvailable", "ScaledDown"],
            SOON,
        )
        .await
    })
    .await;
}

/// The dangerous half: the load goes on, and an empty Prometheus sees of a rate, at first, a fraction.
#[tokio::test(flavor = "multi_thread")]
async fn a_prometheus_that_comes_back_empty_under_load_scales_nothing_down() {
    scene("outage-load", |scene| async move {
        let client = &scene.client;
        let service = scene.service("digits", "digits.onnx").request_rate("20");
        let replicas = serve(&scene, &service).await?;
        let requests = digits::single(&scene.models.digits);
        let load = scale_up(&scene, &service, &replicas, (50.0, requests), 3).await?;

        stop_prometheus(&scene.client).await?;
        let kept = kept_for_want_of_a_figure(&scene, &service, &replicas).await;
        let back = Instant::now();
        restore_prometheus(&scene.client, READY).await?;
        kept?;
        await_reason(client, &service, ("ScalingReady", "True", "Scaling"), READY).await?;
        let trusted = back.elapsed().as_secs_f64();
        replicas.stays(3, AFTERWARDS).await?;
        // Nor in between.
        let lowest = replicas
            .all()
            .iter()
            .filter(|state| state.at >= back)
            .map(|state| state.wanted)
            .min();
        ensure!(lowest.is_none_or(|lowest| lowest >= 3), "{}", replicas.story(back));
        progress(format_args!(
            "{}: prometheus back and empty → figures trusted after {trusted:.1} s; 3 replicas kept",
            scene.namespace
        ));
        assert_nothing_failed(&load.stop().await)
    })
    .await;
}
