//! Each signal scales by itself, all of them together, and back: by the real pod autoscaler.
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tidewright_e2e::console::progress;
use tidewright_e2e::fixtures::Scenario;
use tidewright_e2e::load::{Load, Request, digits};
use tidewright_e2e::wait::{Seen, await_condition};
use tidewright_e2e::{calibrate, clock, signals};
use tokio::time::Instant;

use crate::look::{ReplicaWatch, assert_nothing_failed, await_decision, await_reason, await_winner};
use crate::stage::{READY, SOON, Scene, scene, start_load};

/// From the load to the replicas. CPU figures alone are up to 10 s old, and metrics-server wants two of them.
const SCALED: Duration = Duration::from_secs(90);
/// CPU figures of a time without load are there after half a minute, and a replica too many is gone soon after.
const CALM: Duration = Duration::from_secs(120);

/// Cores that the load for CPU keeps busy. One replica may use twice that; at a quarter of a request of 50m, eight would be wanted.
const CPU_LOAD: f64 = 0.1;

/// Applies a service and waits until every signal of it is read, and none is above its target: neither is the loading of the model any more.
pub async fn serve(scene: &Scene, service: &Scenario) -> Result<ReplicaWatch> {
    service.apply(&scene.client).await?;
    service.ready(&scene.client, READY).await?;
    await_reason(&scene.client, service, ("ScalingReady", "True", "Scaling"), READY).await?;
    await_calm(scene, service).await?;
    ReplicaWatch::start(&scene.client, &scene.namespace, &format!("{}-cpu", service.name)).await
}

/// Waits until the autoscaler has nothing to do, and figures of CPU say nothing of what was before.
async fn await_calm(scene: &Scene, service: &Scenario) -> Result<()> {
    let now = clock::time_of_day()?;
    signals::await_calm(&scene.client, (&scene.namespace, &service.name), now, CALM).await
}

/// Requests per second that keep so many cores busy on this machine. Prints what it has measured.
async fn rate_for(scene: &Scene, service: &Scenario, cores: f64, requests: &[Request]) -> Result<f64> {
    let address = service.address(&scene.client).await?;
    let (cost, _) = calibrate::cost(&scene.client, (&scene.namespace, &service.name), address, requests).await?;
    let rate = cost.rate(cores);
    progress(format_args!(
        "{}: {cost}; {rate:.1} requests/s are {:.0}m",
        scene.namespace,
        cores * 1e3
    ));
    await_calm(scene, service).await?;
    Ok(rate)
}

/// Starts load and waits until so many replicas are ready. Prints how long each step took.
pub async fn scale_up(
    scene: &Scene,
    service: &Scenario,
    replicas: &ReplicaWatch,
    (rate, requests): (f64, Arc<[Request]>),
    goal: i32,
) -> Result<Load> {
    let begun = Instant::now();
    let load = start_load(service.address(&scene.client).await?, rate, requests);
    let decided = replicas
        .first_since(begun, "the first decision", SCALED, |state| state.wanted > 1)
        .await?;
    let first = replicas
        .first_since(begun, "a second ready pod", SCALED, |state| state.ready > 1)
        .await?;
    let all = replicas
        .first_since(begun, "every replica", SCALED, |state| state.ready >= goal)
        .await?;
    let seconds = |at: Instant| (at - begun).as_secs_f64();
    progress(format_args!(
        "{}: load step → decision {:.1} s → first new pod ready {:.1} s → {goal} ready {:.1} s",
        scene.namespace,
        seconds(decided.at),
        seconds(first.at),
        seconds(all.at)
    ));
    Ok(load)
}

#[tokio::test(flavor = "multi_thread")]
async fn cpu_alone_scales_up() {
    scene("cpu", |scene| async move {
        let service = scene
            .service("digits", "digits-wide.onnx")
            .with("/maxReplicas", json!(3))
            .with("/model/resources/limits/cpu", json!("200m"))
            .cpu(25);
        let replicas = serve(&scene, &service).await?;
        let work = digits::batches(&scene.models.digits_wide, 256);
        let rate = rate_for(&scene, &service, CPU_LOAD, &work).await?;
        let load = scale_up(&scene, &service, &replicas, (rate, work), 3).await?;
        let decision = await_decision(&scene.client, &service, "CPU", SOON).await?;
        ensure!(decision.message.contains("(winner)"), "{decision:?}");
        assert_nothing_failed(&load.stop().await)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn request_rate_alone_scales_up() {
    scene("rate", |scene| async move {
        let service = scene.service("digits", "digits.onnx").request_rate("20");
        let replicas = serve(&scene, &service).await?;
        // Half a replica more than two, and as much less than three: a stall of the generator, which then catches up, asks for no fourth for long.
        let requests = digits::single(&scene.models.digits);
        let load = scale_up(&scene, &service, &replicas, (50.0, requests), 3).await?;
        await_winner(&scene.client, &service, ("req/s / 20 per replica", 3), SOON).await?;
        replicas
            .reach("three replicas and no more", SOON, |state| {
                state.wanted == 3 && state.ready == 3
            })
            .await?;
        assert_nothing_failed(&load.stop().await)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn back_down_after_the_load_without_losing_what_is_left_of_it() {
    scene("down", |scene| async move {
        let service = scene.service("digits", "digits.onnx").request_rate("20");
        let replicas = serve(&scene, &service).await?;
        let requests = digits::single(&scene.models.digits);
        let load = scale_up(&scene, &service, &replicas, (30.0, requests), 2).await?;
        // A little load stays: it must not be lost.
        load.set_rate(6.0);
        let calm = Instant::now();
        replicas
            .reach("one replica", SCALED, |state| state.wanted == 1 && state.ready == 1)
            .await?;
        progress(format_args!(
            "{}: load gone → one replica {:.1} s",
            scene.namespace,
            calm.elapsed().as_secs_f64()
        ));
        await_decision(&scene.client, &service, "MinReplicas", SOON).await?;
        assert_nothing_failed(&load.stop().await)
    })
    .await;
}

/// Cores that a replica of the slow model may use.
const SLOW_LIMIT: f64 = 0.25;

/// A service of the slow model on a share of a core: a few requests per second are more than one replica can do.
fn slow(scene: &Scene) -> Scenario {
    scene
        .service("slow", "slow.onnx")
        .with("/maxReplicas", json!(3))
        .with("/batcher", json!({"maxBatchSize": 1}))
        .with(
            "/model/resources/limits/cpu",
            json!(format!("{:.0}m", SLOW_LIMIT * 1e3)),
        )
}

#[tokio::test(flavor = "multi_thread")]
async fn queue_depth_alone_scales_up_for_few_slow_requests() {
    scene("queue", |scene| async move {
        let service = slow(&scene).queue_depth("4");
        let replicas = serve(&scene, &service).await?;
        let requests = digits::doubling("slow", 1);
        // Too much for two replicas, and a fifth less than what three can do.
        let rate = rate_for(&scene, &service, 2.4 * SLOW_LIMIT, &requests).await?;
        let load = scale_up(&scene, &service, &replicas, (rate, requests), 3).await?;
        let decision = await_decision(&scene.client, &service, "QueueDepth", SOON).await?;
        ensure!(decision.message.contains("queued / 4 per replica"), "{decision:?}");
        assert_nothing_failed(&load.stop().await)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_external_query_alone_scales_up() {
    scene("external", |scene| async move {
        let query = "sum(rate(ml_predictions_total{inferenceservice=\"digits\"}[12s]))";
        let service = scene.service("digits", "digits.onnx").external("answers", query, "10");
        let replicas = serve(&scene, &service).await?;
        let load = scale_up(
            &scene,
            &service,
            &replicas,
            (18.0, digits::single(&scene.models.digits)),
            2,
        )
        .await?;
        let decision = await_decision(&scene.client, &service, "External", SOON).await?;
        ensure!(decision.message.contains("(answers) / 10 per replica"), "{decision:?}");
        assert_nothing_failed(&load.stop().await)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_all_three_the_largest_proposal_wins() {
    scene("three", |scene| async move {
        let client = &scene.client;
        let signals = |cpu: u32, rate: &str| {
            let service = scene.service("digits", "digits.onnx").with("/maxReplicas", json!(4));
            service.cpu(cpu).request_rate(rate).queue_depth("50")
        };
        // 25 requests per second: the rate asks for 3 at 10 per replica, CPU and queue for less.
        let service = signals(5000, "10");
        let replicas = serve(&scene, &service).await?;
        let requests = digits::single(&scene.models.digits);
        let load = scale_up(&scene, &service, &replicas, (25.0, requests), 3).await?;
        let all = await_winner(client, &service, ("req/s / 10 per replica", 3), SOON).await?;
        let one = |text: &str| all.iter().find(|proposal| proposal.text.contains(text));
        for loser in ["CPU ", "queued / 50 per replica"] {
            ensure!(
                one(loser).is_some_and(|proposal| proposal.replicas.is_some_and(|n| n < 3) && !proposal.wins),
                "{loser}: {all:?}"
            );
        }
        ensure!(all.len() == 3, "{all:?}");

        // The same load with other targets: now CPU asks for more than the rate.
        let service = signals(1, "1000");
        service.apply(client).await?;
        replicas
            .reach("CPU to ask for all", SCALED, |state| state.wanted == 4)
            .await?;
        await_condition("the status to say what limits", SOON, || async {
            let status = service.api(client).get("digits").await?.status.context("no status")?;
            let decision = status
                .pools
                .first()
                .and_then(|pool| pool.decision.clone())
                .context("no decision")?;
            let is_said = decision.reason == "CPU"
                && decision.message.contains("(winner)")
                && decision.message.ends_with("at most 4")
                && status.limited_by.as_deref() == Some("maxReplicas");
            Ok(if is_said {
                Seen::Done(())
            } else {
                Seen::not_yet(format!("{:?}, {decision:?}", status.limited_by))
            })
        })
        .await?;
        service.ready(client, SOON).await?;
        assert_nothing_failed(&load.stop().await)
    })
    .await;
}
