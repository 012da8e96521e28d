//! One Redis for all replicas, run by somebody else: what one replica has answered, another finds.
use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tidewright_contract::routes::HTTP_PORT;
use tidewright_e2e::fixtures;
use tidewright_e2e::images;
use tidewright_e2e::wait::{Seen, await_condition};

use crate::process::pod_address;
use crate::redis_cache::{ROUND, redis, round_at};
use crate::stage::{READY, SOON, Scene, scene};

/// A Redis of the user's own.
async fn install_redis(scene: &Scene) -> Result<()> {
    let (name, labels) = ("shared-redis", json!({"app": "shared-redis"}));
    let container = json!({
        "name": "redis", "image": images::REDIS, "args": ["--save", "", "--protected-mode", "no"],
        "readinessProbe": {"tcpSocket": {"port": 6379}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
        "securityContext": {"readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
    });
    let security = json!({"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}});
    let pod = json!({"automountServiceAccountToken": false, "securityContext": security, "containers": [container]});
    let metadata = json!({"name": name, "namespace": scene.namespace});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}}});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata,
        "spec": {"selector": labels, "ports": [{"port": 6379, "targetPort": 6379}]}});
    scene.cluster.apply(&[deployment, service]).await?;
    fixtures::await_deployment(&scene.client, &scene.namespace, name, READY)
        .await
        .map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_finds_in_a_shared_redis_what_another_has_answered() {
    scene("redis-shared", |scene| async move {
        let client = &scene.client;
        install_redis(&scene).await?;
        let url = format!("redis://shared-redis.{}.svc.cluster.local:6379/1", scene.namespace);
        let service = scene
            .service("digits", "digits.onnx")
            .with_spec("/cache", json!({"redis": {"mode": "External", "url": url}}));
        service.apply(client).await?;
        service.ready(client, READY).await?;
        let first = service.pods(client).await?.pop().context("no pod")?;
        let name_of_first = first.metadata.name.clone();
        await_condition("Redis to hold every answer", READY, || async {
            round_at(&scene, pod_address(&first, HTTP_PORT)?).await?;
            let said = scene
                .kubectl(&[
                    "exec",
                    "deployment/shared-redis",
                    "--",
                    "redis-cli",
                    "-n",
                    "1",
                    "dbsize",
                ])
                .await?;
            Ok(if said.trim().parse::<usize>()? == ROUND {
                Seen::Done(())
            } else {
                Seen::not_yet(said)
            })
        })
        .await?;

        // A second replica, of the same template: the first stays.
        service.with("/minReplicas", json!(2)).apply(client).await?;
        let second = await_condition("a second replica", READY, || async {
            let scenario = scene.service("digits", "digits.onnx");
            scenario.ready(client, SOON).await?;
            let mut pods = scenario.pods(client).await?;
            pods.retain(|pod| pod.metadata.name != name_of_first);
            let found = pods.len();
            Ok(match pods.pop() {
                Some(pod) if found == 1 && pod_address(&pod, HTTP_PORT).is_ok() => Seen::Done(pod),
                _ => Seen::not_yet(format!("{found} other pods")),
            })
        })
        .await?;
        // A machine that is busy may be too slow for single look-ups: asked again, they are hits too.
        let seen = await_condition("hits", READY, || async {
            round_at(&scene, pod_address(&second, HTTP_PORT)?).await?;
            let seen = redis(&second).await?;
            Ok(if seen.hit >= ROUND as u64 {
                Seen::Done(seen)
            } else {
                Seen::not_yet(format!("{seen:?}"))
            })
        })
        .await?;
        ensure!(
            seen.miss == 0,
            "the second replica missed what the first had stored: {seen:?}"
        );
        Ok(())
    })
    .await;
}
