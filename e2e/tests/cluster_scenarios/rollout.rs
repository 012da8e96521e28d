//! Pods come and go under load: what clients notice of it.
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::json;
use tidewright_contract::metrics::ML_REQUESTS_IN_FLIGHT;
use tidewright_e2e::console::progress;
use tidewright_e2e::fixtures::Scenario;
use tidewright_e2e::load::{Arrivals, Load, LoadOptions, Profile, digits};
use tidewright_e2e::wait::{Seen, await_condition};
use tokio::time::Instant;

use crate::look::assert_nothing_failed;
use crate::process::{find_in_pod, kill_process, server_metric};
use crate::stage::{READY, Scene, scene};

/// Requests per second, and the most connections: each carries one request at a time.
const RATE: f64 = 40.0;
/// The same of the slow model, which takes tens of milliseconds of a core for each item, up to a quarter of a second for a request: one server alone can
/// do it.
const SLOW_RATE: f64 = 3.0;
const SLOW_ITEMS: usize = 4;
const CONNECTIONS: usize = 8;
const SLOW: &str = "slow";

/// A client's attempts to connect while a Service still names a dead server beside a living one: each hits either with equal chances.
const CONNECT_RETRIES: u32 = 20;
/// From the first connection that a dead server refuses to the last: the kubelet notices, the EndpointSlice changes, the proxy follows.
const NOTICED: Duration = Duration::from_secs(15);
/// Without a refusal, at this rate, the Service knows.
const CALM: Duration = Duration::from_secs(4);

async fn replicas(scene: &Scene, model: &str, count: usize) -> Result<Scenario> {
    let service = scene
        .service(model, &format!("{model}.onnx"))
        .with("/minReplicas", json!(count))
        .request_rate("1000");
    service.apply(&scene.client).await?;
    service.ready(&scene.client, READY).await?;
    Ok(service)
}

/// `connect_retries` is 0 where nobody dies: a refused connection is then a failure.
async fn load(scene: &Scene, service: &Scenario, connect_retries: u32) -> Result<Load> {
    let mut options = LoadOptions::to(service.address(&scene.client).await?);
    options.arrivals = Arrivals::Constant;
    options.connections_max = CONNECTIONS;
    options.connect_retries = connect_retries;
    // An address that is gone does not even refuse.
    options.connect_timeout = Duration::from_secs(1);
    let profile = match service.name.as_str() {
        SLOW => Profile {
            rate: SLOW_RATE,
            requests: digits::doubling(SLOW, SLOW_ITEMS),
        },
        _ => Profile {
            rate: RATE,
            requests: digits::single(&scene.models.digits),
        },
    };
    let load = Load::start(options, profile);
    served(&load, if service.name == SLOW { 5 } else { 100 }).await?;
    Ok(load)
}

/// Waits until so many more requests were answered.
async fn served(load: &Load, more: u64) -> Result<()> {
    let goal = load.totals().ok + more;
    await_condition("requests to be answered", Duration::from_secs(30), || async {
        let totals = load.totals();
        Ok(if totals.ok >= goal {
            Seen::Done(())
        } else {
            Seen::not_yet(format!("{totals:?}"))
        })
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_update_of_two_replicas_under_load_loses_no_request() {
    scene("rolling-update", |scene| async move { rolling_update(&scene, 2).await }).await;
}

/// The default, and the harder case: for a moment the only server is new, or on its way out.
#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_update_of_the_only_replica_under_load_loses_no_request() {
    scene("rolling-one", |scene| async move { rolling_update(&scene, 1).await }).await;
}

async fn rolling_update(scene: &Scene, count: usize) -> Result<()> {
    let client = &scene.client;
    let service = replicas(scene, "digits", count).await?;
    let before = service.pods(client).await?;
    let load = load(scene, &service, 0).await?;
    let begun = Instant::now();
    let service = service.with("/model/env", json!([{"name": "REVISION", "value": "2"}]));
    service.apply(client).await?;
    service.ready(client, READY).await?;
    let took = begun.elapsed().as_secs_f64();
    // Ready speaks of this generation alone: none of the old pods may be left that is not on its way out.
    let names = |pods: &[Pod]| {
        pods.iter()
            .filter_map(|pod| pod.metadata.name.clone())
            .collect::<Vec<_>>()
    };
    let after = service.pods(client).await?;
    ensure!(after.len() == count, "{:?}", names(&after));
    ensure!(
        !names(&after).iter().any(|name| names(&before).contains(name)),
        "{:?}",
        names(&after)
    );
    // The old ones drain under load too.
    let pods: Api<Pod> = Api::namespaced(client.clone(), &scene.namespace);
    for name in names(&before) {
        await_condition(&format!("pod {name} to end"), READY, || async {
            Ok(match pods.get_opt(&name).await? {
                None => Seen::Done(()),
                Some(_) => Seen::not_yet("it is there"),
            })
        })
        .await?;
    }
    served(&load, 50).await?;
    let report = load.stop().await;
    assert_nothing_failed(&report)?;
    progress(format_args!(
        "rolling update of {count} pod(s) in {took:.1} s: {} requests, 0 failed, p99 {:.0} ms",
        report.totals.ok, report.latency.p99
    ));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_deleted_by_force_under_load_loses_at_most_what_was_in_flight() {
    scene("pod-deleted", |scene| async move {
        let client = &scene.client;
        let service = replicas(&scene, SLOW, 2).await?;
        let load = load(&scene, &service, CONNECT_RETRIES).await?;
        let victim = service.pods(client).await?.pop().context("no pod")?;
        let name = victim.metadata.name.context("a pod without name")?;
        let pods: Api<Pod> = Api::namespaced(client.clone(), &scene.namespace);
        pods.delete(&name, &DeleteParams::default().grace_period(0)).await?;
        served(&load, 5).await?;
        await_condition("two ready pods without the deleted one", READY, || async {
            let pods = service.pods(client).await?;
            let of = |pod: &Pod| (pod.metadata.name.clone().unwrap_or_default(), is_ready(pod));
            let all: Vec<(String, bool)> = pods.iter().map(of).collect();
            let is_back = all.iter().filter(|(other, ready)| *ready && *other != name).count() == 2;
            Ok(if is_back {
                Seen::Done(())
            } else {
                Seen::NotYet(format!("{all:?}"))
            })
        })
        .await?;
        served(&load, 10).await?;
        let totals = load.stop().await.totals;
        progress(format_args!(
            "pod deleted by force: {} requests, {} lost in flight, {} connections tried again",
            totals.due, totals.reset, totals.connect_retried
        ));
        // Each connection carries one request: more cannot have been in flight.
        ensure!(totals.reset <= CONNECTIONS as u64 && totals.wrong == 0, "{totals:?}");
        ensure!(totals.failed() == totals.reset, "{totals:?}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_under_load_loses_what_was_in_flight_and_comes_back() {
    scene("server-killed", |scene| async move {
        let client = &scene.client;
        let service = replicas(&scene, SLOW, 2).await?;
        let load = load(&scene, &service, CONNECT_RETRIES).await?;
        let victim = service.pods(client).await?.pop().context("no pod")?;
        let name = victim.metadata.name.clone().context("a pod without name")?;
        let server = find_in_pod(&victim, "inference-server")?;
        // The rate alone need not bring two together: a fast machine answers each before the next is due.
        await_condition("two requests to be in flight", READY, || async {
            load.burst(CONNECTIONS);
            let in_flight = server_metric(&victim, ML_REQUESTS_IN_FLIGHT.name, &[]).await?;
            Ok(if in_flight >= 2.0 { Seen::Done(()) } else { Seen::not_yet(in_flight) })
        })
        .await?;
        kill_process(server)?;
        let killed = Instant::now();
        let refused = last_refusal(&load, killed).await?;
        let pods: Api<Pod> = Api::namespaced(client.clone(), &scene.namespace);
        await_condition("the server to be ready again", READY, || async {
            let status = pods.get(&name).await?.status.unwrap_or_default();
            let server = status.container_statuses.unwrap_or_default().into_iter().next().context("no status")?;
            let is_back = server.restart_count > 0 && server.ready;
            Ok(if is_back { Seen::Done(()) } else { Seen::not_yet(format!("{server:?}")) })
        })
        .await?;
        let back = killed.elapsed().as_secs_f64();
        served(&load, 10).await?;
        let report = load.stop().await;
        let totals = &report.totals;
        progress(format_args!(
            "server killed with SIGKILL: {} requests, {} lost in flight, {} connections tried again within {refused:.1} s until the Service knew, ready again after {back:.1} s",
            totals.due, totals.reset, totals.connect_retried
        ));
        // That it was killed, its count of restarts has said. Now and then it is back before anybody asked for it.
        // Each connection carries one request: more cannot have been in flight.
        ensure!((1..=CONNECTIONS as u64).contains(&totals.reset), "{totals:?}");
        // Whom the dead server refused found the living one.
        ensure!(totals.wrong == 0 && totals.failed() == totals.reset, "{totals:?}");
        Ok(())
    })
    .await;
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Waits until connections are refused no more, for [`CALM`] and eight answers. The seconds from `killed` to the last refusal.
async fn last_refusal(load: &Load, killed: Instant) -> Result<f64> {
    let (mut last, mut refused, mut answered) = (killed, load.totals().connect_retried, load.totals().ok);
    await_condition("connections to be refused no more", NOTICED + CALM, || {
        let totals = load.totals();
        if totals.connect_retried > refused {
            (last, refused, answered) = (Instant::now(), totals.connect_retried, totals.ok);
        }
        let is_over = last.elapsed() > CALM && totals.ok >= answered + 8;
        std::future::ready(Ok(if is_over {
            Seen::Done(())
        } else {
            Seen::not_yet(format!("{totals:?}"))
        }))
    })
    .await?;
    Ok((last - killed).as_secs_f64())
}
