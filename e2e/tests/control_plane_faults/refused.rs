//! A spec that is refused: what ran before it runs on, and what of that ends by time ends.
use anyhow::{Result, ensure};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use serde_json::json;
use tidewright_e2e::clock::time_of_day;
use tidewright_e2e::fixtures::{Scenario, conditions};
use tidewright_e2e::namespace::with_temp_namespace;
use tidewright_e2e::wait::{Seen, await_condition};

use super::metrics_api::{await_replicas, await_scaling, operator, unregister};
use super::signals::{Exporter, Load, Prometheus};
use super::{MODEL, PATIENCE, turn};

/// Long enough for the spec to be refused within it.
const LASTS_SECONDS: i64 = 15;

fn direct(namespace: &str, name: &str) -> Scenario {
    let rate = json!({"type": "RequestRate", "target": {"type": "AverageValue", "averageValue": "10"}});
    Scenario::new(namespace, name, MODEL).with("/autoScaling", json!({"mode": "Direct", "metrics": [rate]}))
}

/// Makes it a spec that cannot be acted on, and waits until that is said.
async fn refuse(client: &Client, service: &Scenario) -> Result<()> {
    let cache = json!({"memory": {"maxBytes": "200Mi", "ttl": "5m"}});
    service.clone().with_spec("/cache", cache).apply(client).await?;
    await_scaling(client, service, "InvalidSpec").await.map(drop)
}

#[tokio::test]
async fn a_refused_spec_does_not_keep_a_pause_or_a_number_by_hand_from_ending() -> Result<()> {
    let (_turn, cluster) = turn().await?;
    let exporter = Exporter::start(cluster).await?;
    let prometheus = Prometheus::start(cluster, exporter.address)?;
    let operator = operator(cluster, &prometheus).await?;
    operator.await_ready(PATIENCE).await?;
    let outcome = with_temp_namespace(cluster, "refused", |namespace| async move {
        let (client, name) = (&namespace.client, &namespace.name);
        exporter.set("paused", Load { rate: 25.0, queue: 0.0 });
        exporter.set("byhand", Load { rate: 1.0, queue: 0.0 });
        let lasts = format!("{LASTS_SECONDS}s");
        let by_hand = direct(name, "byhand").with("/autoScaling/overrideTTL", json!(lasts));
        by_hand.apply(client).await?;
        by_hand.ready(client, PATIENCE).await?;
        let ends_at = Timestamp::from_second(time_of_day()?.as_second() + LASTS_SECONDS)?;
        let paused = direct(name, "paused").with("/autoScaling/pausedUntil", json!(ends_at.to_string()));
        paused.apply(client).await?;
        let in_namespace = format!("--namespace={name}");
        cluster
            .kubectl(["scale", "isvc/byhand", "--replicas=4", &in_namespace])
            .await?;
        await_replicas(client, &by_hand, 4).await?;
        await_condition("the number to be seen", PATIENCE, || async {
            let status = by_hand.api(client).get("byhand").await?.status.unwrap_or_default();
            Ok(if status.r#override.is_some() {
                Seen::Done(())
            } else {
                Seen::not_yet("no override in the status")
            })
        })
        .await?;
        await_scaling(client, &paused, "Paused").await?;
        refuse(client, &paused).await?;
        refuse(client, &by_hand).await?;

        await_replicas(client, &paused, 3).await?;
        let late = time_of_day()?.duration_since(ends_at);
        ensure!(late.is_positive(), "it has scaled before {ends_at}: {late}");

        await_condition(
            "the field to be 0 again, and the status to say so",
            PATIENCE,
            || async {
                let service = by_hand.api(client).get("byhand").await?;
                let status = service.status.clone().unwrap_or_default();
                Ok(if service.spec.predictor.replicas == 0 && status.r#override.is_none() {
                    Seen::Done(())
                } else {
                    Seen::NotYet(conditions(&service))
                })
            },
        )
        .await?;
        // The operator scales it again, and from where it was.
        exporter.set("byhand", Load { rate: 45.0, queue: 0.0 });
        await_replicas(client, &by_hand, 5).await?;
        // All the while both are refused, and say so.
        for service in [&paused, &by_hand] {
            await_scaling(client, service, "InvalidSpec").await?;
        }
        Ok(())
    })
    .await;
    unregister(cluster).await?;
    outcome
}
