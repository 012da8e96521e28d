//! The Redis beside each server: second level of the cache, bounded, and no part of being able to serve.
use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde_json::json;
use tidewright_contract::metrics::{ML_CACHE_REQUESTS, outcome, tier};
use tidewright_e2e::fixtures::Scenario;
use tidewright_e2e::load::{Load, LoadOptions, digits};
use tidewright_e2e::wait::{Seen, await_condition};

use crate::look::assert_nothing_failed;
use crate::process::{kill_in_pod, server_metric};
use crate::stage::{READY, SOON, Scene, scene};

/// Images of one round: each is asked for once.
pub const ROUND: usize = 20;

async fn only_pod(scene: &Scene, service: &Scenario) -> Result<Pod> {
    let mut pods = service.pods(&scene.client).await?;
    ensure!(pods.len() == 1, "{} pods", pods.len());
    pods.pop().context("no pod")
}

/// The only pod once that of the generation before is on its way out.
async fn await_only_pod(scene: &Scene, service: &Scenario) -> Result<Pod> {
    await_condition("one pod", READY, || async {
        Ok(Seen::Done(only_pod(scene, service).await?))
    })
    .await
}

/// Sends the same images; all must be answered as the model does.
async fn round(scene: &Scene, service: &Scenario) -> Result<()> {
    round_at(scene, service.address(&scene.client).await?).await
}

/// The same round, for whoever is at an address.
pub async fn round_at(scene: &Scene, address: SocketAddr) -> Result<()> {
    let requests = digits::single(&scene.models.digits);
    let report = Load::once(&LoadOptions::to(address), &requests[..ROUND]).await;
    assert_nothing_failed(&report)
}

/// Look-ups of a cache level with an outcome since the server started.
async fn lookups(pod: &Pod, tier: &str, outcome: &str) -> Result<u64> {
    let labels = [format!("tier=\"{tier}\""), format!("outcome=\"{outcome}\"")];
    let sum = server_metric(pod, ML_CACHE_REQUESTS.name, &labels).await?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a counter")]
    Ok(sum as u64)
}

async fn await_restart(scene: &Scene, pod: &Pod, container: &str) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let name = pod.metadata.name.clone().context("a pod without name")?;
    await_condition(&format!("container {container} to be back"), READY, || async {
        let status = pods.get(&name).await?.status.unwrap_or_default();
        let init = status.init_container_statuses.unwrap_or_default();
        let containers = init.iter().chain(status.container_statuses.iter().flatten());
        let found = containers
            .clone()
            .find(|found| found.name == container)
            .context("no such container")?;
        let all_ready = status
            .container_statuses
            .iter()
            .flatten()
            .all(|container| container.ready);
        let is_back = found.restart_count > 0 && found.state.as_ref().is_some_and(|state| state.running.is_some());
        Ok(if is_back && all_ready {
            Seen::Done(())
        } else {
            Seen::not_yet(format!("{found:?}"))
        })
    })
    .await
}

/// Look-ups of Redis, by what came of them. A machine may be too busy to answer within the 50 ms that the server waits: that is no miss. It counts as
/// unavailable, as does what could not be written.
#[derive(Debug)]
pub struct Redis {
    pub hit: u64,
    pub miss: u64,
    unavailable: u64,
}

pub async fn redis(pod: &Pod) -> Result<Redis> {
    let failed = lookups(pod, tier::REDIS, outcome::ERROR).await?;
    Ok(Redis {
        hit: lookups(pod, tier::REDIS, outcome::HIT).await?,
        miss: lookups(pod, tier::REDIS, outcome::MISS).await?,
        unavailable: failed + lookups(pod, tier::REDIS, outcome::SKIPPED).await?,
    })
}

async fn redis_cli(scene: &Scene, pod: &str, arguments: &[&str]) -> Result<String> {
    let exec = ["exec", pod, "--container=redis", "--", "redis-cli"];
    let said = scene.kubectl(&[&exec[..], arguments].concat()).await?;
    Ok(said.trim_end_matches('\n').to_owned())
}

/// As the spec says, in the running process: bounded, evicting, nothing on disk, from nowhere else.
async fn settings_are_those_of_the_spec(scene: &Scene, pod: &Pod) -> Result<()> {
    let name = pod.metadata.name.as_deref().context("a pod without name")?;
    for (setting, value) in [
        ("maxmemory", "16777216"),
        ("maxmemory-policy", "allkeys-lru"),
        ("save", ""),
        ("appendonly", "no"),
        ("bind", "127.0.0.1"),
    ] {
        let said = redis_cli(scene, name, &["config", "get", setting]).await?;
        let found = said.split_once('\n').map_or("", |(_, found)| found);
        ensure!(found == value, "{setting}: {said:?}");
    }
    let containers = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_ref());
    let limits = containers.and_then(|containers| containers.first()?.resources.as_ref()?.limits.as_ref());
    let limit = limits
        .and_then(|limits| limits.get("memory"))
        .context("Redis without a memory limit")?;
    ensure!(
        limit.0.parse::<u64>()? > 16 << 20,
        "the limit {} is not above maxmemory",
        limit.0
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_answers_what_a_server_has_lost_and_nobody_depends_on_it() {
    scene("redis", |scene| async move {
        let client = &scene.client;
        let both = json!({"memory": {"maxBytes": "8Mi"}, "redis": {"mode": "Sidecar", "maxMemory": "16Mi"}});
        let service = scene.service("digits", "digits.onnx").with_spec("/cache", both);
        service.apply(client).await?;
        service.ready(client, READY).await?;
        let pod = only_pod(&scene, &service).await?;
        let round_size = ROUND as u64;
        settings_are_those_of_the_spec(&scene, &pod).await?;

        // The memory is asked first: Redis sees each request once.
        round(&scene, &service).await?;
        let first = redis(&pod).await?;
        ensure!(
            first.hit == 0 && first.miss <= round_size && first.miss + first.unavailable >= round_size,
            "the first round is new to Redis: {first:?}"
        );
        round(&scene, &service).await?;
        let second = redis(&pod).await?;
        ensure!(
            lookups(&pod, tier::MEMORY, outcome::HIT).await? == round_size && second.hit + second.miss == first.miss,
            "the second round is in memory: {second:?} after {first:?}"
        );

        // Redis alone, so that what was once not written, because the machine was too slow, is written at the next try.
        let alone = json!({"redis": {"mode": "Sidecar", "maxMemory": "16Mi"}});
        let service = service.with_spec("/cache", alone);
        service.apply(client).await?;
        service.ready(client, READY).await?;
        let pod = await_only_pod(&scene, &service).await?;
        let name = pod.metadata.name.clone().context("a pod without name")?;
        await_condition("Redis to hold every answer", READY, || async {
            round(&scene, &service).await?;
            let said = redis_cli(&scene, &name, &["dbsize"]).await?;
            Ok(if said.trim().parse::<u64>()? == round_size {
                Seen::Done(())
            } else {
                Seen::not_yet(said)
            })
        })
        .await?;

        // What the process knew goes with it.
        kill_in_pod(&pod, "inference-server")?;
        await_restart(&scene, &pod, "kserve-container").await?;
        let after = await_condition("hits", SOON, || async {
            round(&scene, &service).await?;
            let after = redis(&pod).await?;
            Ok(if after.hit >= round_size {
                Seen::Done(after)
            } else {
                Seen::not_yet(format!("{after:?}"))
            })
        })
        .await?;
        ensure!(after.miss == 0, "Redis has what the server has lost: {after:?}");

        // Without Redis it goes on; with a new one it is used again.
        kill_in_pod(&pod, "redis-server")?;
        round(&scene, &service).await?;
        await_restart(&scene, &pod, "redis").await?;
        round(&scene, &service).await?;
        let before = redis(&pod).await?;
        await_condition("the new Redis to be asked", SOON, || async {
            let fresh = digits::single(&scene.models.digits);
            let report = Load::once(&LoadOptions::to(service.address(client).await?), &fresh[ROUND..]).await;
            assert_nothing_failed(&report)?;
            let now = redis(&pod).await?;
            Ok(if now.miss + now.hit > before.miss + before.hit {
                Seen::Done(())
            } else {
                Seen::not_yet(format!("{now:?}"))
            })
        })
        .await
    })
    .await;
}
