//! Who scales: the operator itself (Direct), the HorizontalPodAutoscaler with advice beside it (Advise), nobody (paused); and from one to the other.
use std::convert::Infallible;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;
use tidewright_api::labels;
use tidewright_e2e::clock::{Stopwatch, time_of_day};
use tidewright_e2e::console::progress;
use tidewright_e2e::fixtures::{Scenario, conditions};
use tidewright_e2e::namespace::with_temp_namespace;
use tidewright_e2e::wait::{Seen, await_condition};

use super::ledger::replays_offline;
use super::metrics_api::{await_replicas, await_scaling, operator, unregister};
use super::signals::{Exporter, Load, Prometheus};
use super::{MODEL, PATIENCE, turn};

const POOL: &str = "digits-cpu";
/// More than the ten looks in which a wrong one would act.
pub(super) const STAYS: Duration = Duration::from_secs(10);

fn in_mode(namespace: &str, mode: &str) -> Scenario {
    named(namespace, "digits", mode)
}

pub(super) fn named(namespace: &str, name: &str, mode: &str) -> Scenario {
    let rate = json!({"type": "RequestRate", "target": {"type": "AverageValue", "averageValue": "10"}});
    Scenario::new(namespace, name, MODEL).with("/autoScaling", json!({"mode": mode, "metrics": [rate]}))
}

/// Who owns `spec.replicas`. That nobody does is known only of an object whose owners are noted: who has applied it is always one of them.
async fn writers(client: &Client, namespace: &str) -> Result<Vec<(String, String)>> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let fields = deployments.get(POOL).await?.metadata.managed_fields.unwrap_or_default();
    let mut managers = fields.iter().filter_map(|entry| entry.manager.as_deref());
    ensure!(
        managers.any(|manager| manager == labels::FIELD_MANAGER),
        "no owners are noted: {fields:?}"
    );
    let owners = fields.into_iter().filter(|entry| {
        let owned = entry.fields_v1.as_ref().map(|fields| &fields.0);
        owned.is_some_and(|owned| owned["f:spec"].get("f:replicas").is_some())
    });
    Ok(owners
        .map(|entry| (entry.manager.unwrap_or_default(), entry.subresource.unwrap_or_default()))
        .collect())
}

async fn await_autoscaler(client: &Client, namespace: &str, is_there: bool) -> Result<()> {
    let autoscalers: Api<HorizontalPodAutoscaler> = Api::namespaced(client.clone(), namespace);
    await_condition(&format!("an autoscaler to be there: {is_there}"), PATIENCE, || async {
        let found = autoscalers.get_opt(POOL).await?.is_some();
        Ok(if found == is_there {
            Seen::Done(())
        } else {
            Seen::not_yet(found)
        })
    })
    .await
}

pub(super) async fn given(client: &Client, namespace: &str, time: Duration) -> Result<Vec<i32>> {
    given_to(client, namespace, POOL, time).await
}

/// Every number that a pool was given in this time.
pub(super) async fn given_to(client: &Client, namespace: &str, pool: &str, time: Duration) -> Result<Vec<i32>> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let now = deployments.get(pool).await?;
    let mut all = vec![now.spec.replicas.unwrap_or(1)];
    let mut from = now.metadata.resource_version.unwrap_or_default();
    let of_pool = WatchParams::default().fields(&format!("metadata.name={pool}"));
    let watching = async {
        loop {
            // A watch ends after some minutes: the next one begins where it ended.
            let mut changes = deployments.watch(&of_pool, &from).await?.boxed();
            while let Some(change) = changes.next().await {
                match change? {
                    WatchEvent::Modified(deployment) => {
                        from = deployment.resource_version().unwrap_or_default();
                        all.push(deployment.spec.replicas.unwrap_or(1));
                    }
                    WatchEvent::Bookmark(mark) => from = mark.metadata.resource_version,
                    other => bail!("{other:?}"),
                }
            }
        }
    };
    if let Ok(ended) = tokio::time::timeout(time, watching).await {
        let never: Infallible = ended?;
        match never {}
    }
    all.dedup();
    Ok(all)
}

#[tokio::test]
async fn direct_mode_scales_by_itself_and_hands_over_both_ways() -> Result<()> {
    let (_turn, cluster) = turn().await?;
    let exporter = Exporter::start(cluster).await?;
    let prometheus = Prometheus::start(cluster, exporter.address)?;
    let operator = operator(cluster, &prometheus).await?;
    operator.await_ready(PATIENCE).await?;
    let outcome = with_temp_namespace(cluster, "direct", |namespace| async move {
        let (client, name) = (&namespace.client, &namespace.name);
        let direct = in_mode(name, "Direct");
        direct.apply(client).await?;
        direct.ready(client, PATIENCE).await?;
        exporter.set("digits", Load { rate: 1.0, queue: 0.0 });
        await_scaling(client, &direct, "Scaling").await?;
        await_autoscaler(client, name, false).await?;

        exporter.set("digits", Load { rate: 25.0, queue: 0.0 });
        let watch = Stopwatch::start();
        await_replicas(client, &direct, 3).await?;
        progress(format_args!("direct: load step to replicas {:.1?}", watch.elapsed()));
        // The API server notes no owner of what is written through a subresource while nobody owned it before; and nobody else has come to own it.
        let scale = (labels::SCALE_MANAGER.to_owned(), "scale".to_owned());
        let owners = writers(client, name).await?;
        ensure!(owners.iter().all(|owner| *owner == scale), "{owners:?}");
        let service = await_condition("the decision to say why", PATIENCE, || async {
            let service = direct.api(client).get("digits").await?;
            let pool = service.status.as_ref().and_then(|status| status.pools.first());
            let decision = pool.and_then(|pool| pool.decision.clone()).context("no decision")?;
            let is_said = decision.message.contains("request_rate") && decision.message.contains("needs 3");
            Ok(if is_said && decision.reason == "PerReplica" {
                Seen::Done(service)
            } else {
                Seen::NotYet(format!("{decision:?}; {}", conditions(&service)))
            })
        })
        .await?;
        ensure!(service.status.is_some_and(|status| status.desired_replicas == Some(3)));

        // To the HorizontalPodAutoscaler and back: the number changes hands, and nothing else.
        let hpa = in_mode(name, "Hpa");
        let switching = async {
            hpa.apply(client).await?;
            await_autoscaler(client, name, true).await?;
            await_scaling(client, &hpa, "Scaling").await?;
            direct.apply(client).await?;
            await_autoscaler(client, name, false).await?;
            await_scaling(client, &direct, "Scaling").await
        };
        let (switched, given_meanwhile) = tokio::join!(switching, given(client, name, STAYS * 2));
        switched?;
        let given_meanwhile = given_meanwhile?;
        ensure!(given_meanwhile == [3], "{given_meanwhile:?}");
        replays_offline(&operator, name, "request_rate").await
    });
    let outcome = outcome.await;
    unregister(cluster).await?;
    outcome
}

#[tokio::test]
async fn advice_changes_nothing_and_paused_nobody_scales() -> Result<()> {
    let (_turn, cluster) = turn().await?;
    let exporter = Exporter::start(cluster).await?;
    let prometheus = Prometheus::start(cluster, exporter.address)?;
    let operator = operator(cluster, &prometheus).await?;
    operator.await_ready(PATIENCE).await?;
    let outcome = with_temp_namespace(cluster, "advice", |namespace| async move {
        let (client, name) = (&namespace.client, &namespace.name);
        exporter.set("digits", Load { rate: 25.0, queue: 0.0 });
        // Nobody scales while it pauses, although both would.
        for mode in ["Direct", "Advise"] {
            let paused = in_mode(name, mode).with("/autoScaling/paused", json!(true));
            paused.apply(client).await?;
            paused.ready(client, PATIENCE).await?;
            await_scaling(client, &paused, "Paused").await?;
            await_autoscaler(client, name, mode == "Advise").await?;
            let kept = given(client, name, STAYS).await?;
            ensure!(kept == [1], "{mode}: {kept:?}");
        }
        let advise = in_mode(name, "Advise");
        advise.apply(client).await?;
        await_replicas(client, &advise, 3).await?;
        await_scaling(client, &advise, "Scaling").await?;
        let owners = writers(client, name).await?;
        ensure!(
            owners.iter().all(|(manager, _)| manager != labels::SCALE_MANAGER),
            "{owners:?}"
        );
        await_condition("advice in the status, and as an event", PATIENCE, || async {
            let service = advise.api(client).get("digits").await?;
            let pool = service.status.as_ref().and_then(|status| status.pools.first());
            let advice = pool.and_then(|pool| pool.advice.clone());
            let events: Api<Event> = Api::namespaced(client.clone(), name);
            let told = events.list(&ListParams::default()).await?.items;
            let is_told = told.iter().any(|event| event.reason.as_deref() == Some("Advice"));
            Ok(match advice {
                Some(advice) if advice.replicas == 3 && is_told => Seen::Done(()),
                other => Seen::NotYet(format!("{other:?}, told: {is_told}")),
            })
        })
        .await?;
        // In mode Hpa the same number stands beside the autoscaler's, and every decision is kept.
        let hpa = in_mode(name, "Hpa");
        hpa.apply(client).await?;
        exporter.set("digits", Load { rate: 45.0, queue: 0.0 });
        await_replicas(client, &hpa, 5).await?;
        await_condition("advice in mode Hpa", PATIENCE, || async {
            let service = hpa.api(client).get("digits").await?;
            let pool = service.status.as_ref().and_then(|status| status.pools.first());
            let advice = pool.and_then(|pool| pool.advice.clone());
            Ok(match advice {
                Some(advice) if advice.replicas == 5 => Seen::Done(()),
                other => Seen::NotYet(format!("{other:?}")),
            })
        })
        .await?;
        let owners = writers(client, name).await?;
        ensure!(
            owners.iter().all(|(manager, _)| manager != labels::SCALE_MANAGER),
            "{owners:?}"
        );
        let gauge = operator.metric("tidewright_operator_desired_replicas", "inferenceservice=\"digits\"");
        ensure!((gauge.await? - 5.0).abs() < 1e-9);
        replays_offline(&operator, name, "request_rate").await
    })
    .await;
    unregister(cluster).await?;
    outcome
}

/// Until when the operator says that scaling pauses, and then scales by itself; and a floor of a schedule, in each way of scaling.
#[tokio::test]
async fn a_pause_ends_by_itself_and_a_schedule_is_a_floor() -> Result<()> {
    let (_turn, cluster) = turn().await?;
    let exporter = Exporter::start(cluster).await?;
    let prometheus = Prometheus::start(cluster, exporter.address)?;
    let operator = operator(cluster, &prometheus).await?;
    operator.await_ready(PATIENCE).await?;
    let outcome = with_temp_namespace(cluster, "calendar", |namespace| async move {
        let (client, name) = (&namespace.client, &namespace.name);
        exporter.set("digits", Load { rate: 25.0, queue: 0.0 });
        // Long enough to be seen, and shorter than the time after which everything is looked at again anyway.
        let ends_at = Timestamp::from_second(time_of_day()?.as_second() + 12)?;
        let paused = in_mode(name, "Direct").with("/autoScaling/pausedUntil", json!(ends_at.to_string()));
        paused.apply(client).await?;
        let message = await_scaling(client, &paused, "Paused").await?;
        ensure!(message.starts_with(&format!("paused until {ends_at}")), "{message}");
        await_condition("the pause to end", PATIENCE, || async {
            let service = paused.api(client).get("digits").await?;
            let said = conditions(&service);
            Ok(if said.contains("Paused") {
                Seen::NotYet(said)
            } else {
                Seen::Done(())
            })
        })
        .await?;
        let told = time_of_day()?.duration_since(ends_at);
        await_replicas(client, &paused, 3).await?;
        let late = time_of_day()?.duration_since(ends_at);
        ensure!(late.is_positive(), "it has scaled before {ends_at}: {late}");
        progress(format_args!(
            "the pause ended by itself, told {told:#} after its time, replicas {late:#} after it"
        ));
        await_scaling(client, &paused, "Scaling").await?;

        let always = json!([{"name": "always", "schedule": "* * * * *", "duration": "1h", "minReplicas": 4}]);
        for mode in ["Direct", "Hpa"] {
            let scheduled = in_mode(name, mode).with("/autoScaling/schedules", always.clone());
            scheduled.apply(client).await?;
            await_autoscaler(client, name, mode == "Hpa").await?;
            await_replicas(client, &scheduled, 4).await?;
            await_condition(&format!("mode {mode} to say why"), PATIENCE, || async {
                let service = scheduled.api(client).get("digits").await?;
                let pool = service.status.as_ref().and_then(|status| status.pools.first());
                let decision = pool.and_then(|pool| pool.decision.clone()).context("no decision")?;
                let is_said = decision.reason == "Schedule" && decision.message.contains("by schedule always");
                Ok(if is_said {
                    Seen::Done(())
                } else {
                    Seen::NotYet(format!("{decision:?}"))
                })
            })
            .await?;
        }
        let autoscalers: Api<HorizontalPodAutoscaler> = Api::namespaced(client.clone(), name);
        ensure!(autoscalers.get(POOL).await?.spec.min_replicas == Some(4));
        // Without the schedule the floor is the minimum again.
        in_mode(name, "Hpa").apply(client).await?;
        await_condition("the minimum to be the service's own", PATIENCE, || async {
            let fewest = autoscalers.get(POOL).await?.spec.min_replicas;
            Ok(if fewest == Some(1) {
                Seen::Done(())
            } else {
                Seen::NotYet(format!("{fewest:?}"))
            })
        })
        .await
    })
    .await;
    unregister(cluster).await?;
    outcome
}

/// `kubectl scale` for a while: the status says until when, another number begins anew, and then the operator scales again by itself.
#[tokio::test]
async fn a_number_by_hand_ends_by_itself() -> Result<()> {
    let (_turn, cluster) = turn().await?;
    let exporter = Exporter::start(cluster).await?;
    let prometheus = Prometheus::start(cluster, exporter.address)?;
    let operator = operator(cluster, &prometheus).await?;
    operator.await_ready(PATIENCE).await?;
    let outcome = with_temp_namespace(cluster, "by-hand", |namespace| async move {
        let (client, name) = (&namespace.client, &namespace.name);
        exporter.set("digits", Load { rate: 25.0, queue: 0.0 });
        let direct = in_mode(name, "Direct").with("/autoScaling/overrideTTL", json!("8s"));
        direct.apply(client).await?;
        await_replicas(client, &direct, 3).await?;
        let in_namespace = format!("--namespace={name}");
        for replicas in [5, 4] {
            let asked = format!("--replicas={replicas}");
            cluster.kubectl(["scale", "isvc/digits", &asked, &in_namespace]).await?;
            await_replicas(client, &direct, replicas).await?;
            let message = await_condition("the status to say until when", PATIENCE, || async {
                let status = direct.api(client).get("digits").await?.status.unwrap_or_default();
                let seen = status.r#override.as_ref().filter(|seen| seen.replicas == replicas);
                Ok(match seen {
                    Some(seen) => Seen::Done(seen.until.0.to_string()),
                    None => Seen::NotYet(format!("{:?}", status.r#override)),
                })
            });
            let until = message.await?;
            let message = await_scaling(client, &direct, "FixedReplicas").await?;
            ensure!(message.contains(&until), "{message}");
        }
        await_condition("the field to be 0 again", PATIENCE, || async {
            let service = direct.api(client).get("digits").await?;
            Ok(match service.spec.predictor.replicas {
                0 => Seen::Done(()),
                other => Seen::not_yet(other),
            })
        })
        .await?;
        await_scaling(client, &direct, "Scaling").await?;
        let status = direct.api(client).get("digits").await?.status.unwrap_or_default();
        ensure!(status.r#override.is_none(), "{:?}", status.r#override);
        // From there on the operator scales: nothing jumped when the number changed hands, and nothing shrinks before it has learned.
        let kept = given(client, name, STAYS).await?;
        ensure!(kept == [4], "{kept:?}");
        // Of a number that was owned once the API server notes each owner: first who has handed it over, then who has written it.
        let owner = |manager: &str, subresource: &str| vec![(manager.to_owned(), subresource.to_owned())];
        let owners = writers(client, name).await?;
        ensure!(owners == owner(labels::HANDOVER_MANAGER, ""), "{owners:?}");
        exporter.set("digits", Load { rate: 45.0, queue: 0.0 });
        await_replicas(client, &direct, 5).await?;
        let owners = writers(client, name).await?;
        ensure!(owners == owner(labels::SCALE_MANAGER, "scale"), "{owners:?}");
        Ok(())
    })
    .await;
    unregister(cluster).await?;
    outcome
}
