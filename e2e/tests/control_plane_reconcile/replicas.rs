//! `spec.replicas` has one writer at a time: an autoscaler, or the operator for a fixed number, and the way between the two loses no pod.
use std::sync::{Arc, Mutex};

use anyhow::{Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{WatchEvent, WatchParams};
use tidewright_api::labels;
use tidewright_e2e::fixtures::Scenario;
use tidewright_e2e::namespace::with_temp_namespace;
use tidewright_e2e::wait::{Seen, await_condition};

use super::{
    MODEL, PATIENCE, TURN, all_children, await_children, await_reason, await_silence, look_again, owns_replicas, stage,
};

#[tokio::test]
async fn replicas_of_an_autoscaled_deployment_are_never_written() -> Result<()> {
    let _turn = TURN.read().await;
    let stage = stage().await?;
    with_temp_namespace(stage.cluster, "autoscaled", |namespace| async move {
        let scenario = Scenario::new(&namespace.name, "digits", MODEL);
        scenario.apply(&namespace.client).await?;
        scenario.ready(&namespace.client, PATIENCE).await?;
        let in_namespace = format!("--namespace={}", namespace.name);
        stage
            .cluster
            .kubectl(["scale", "deployment/digits-cpu", "--replicas=3", &in_namespace])
            .await?;
        // A change that must be applied to the Deployment, and reconciles without one.
        let changed = scenario.with("/timeout", serde_json::json!(42));
        changed.apply(&namespace.client).await?;
        changed.ready(&namespace.client, PATIENCE).await?;
        await_silence(stage, &namespace.name).await?;
        look_again(stage, &namespace.client, &changed, 5).await?;
        let children = all_children(stage.cluster, &namespace.name).await?;
        let deployment = &children["Deployment/digits-cpu"];
        ensure!(
            deployment["spec"]["replicas"] == 3,
            "{}",
            deployment["spec"]["replicas"]
        );
        for manager in [labels::FIELD_MANAGER, labels::HANDOVER_MANAGER] {
            ensure!(
                !owns_replicas(deployment, manager),
                "{manager} owns replicas: {deployment:#}"
            );
        }
        Ok(())
    })
    .await
}

/// Every value that `spec.replicas` of a Deployment takes from now on.
async fn follow_replicas(deployments: &Api<Deployment>, name: &str) -> Result<Arc<Mutex<Vec<i32>>>> {
    let values = Arc::new(Mutex::new(Vec::new()));
    let now = deployments.get(name).await?;
    let from = now.metadata.resource_version.unwrap_or_default();
    let parameters = WatchParams::default().fields(&format!("metadata.name={name}"));
    let mut events = deployments.watch(&parameters, &from).await?.boxed();
    let seen = Arc::clone(&values);
    tokio::spawn(async move {
        while let Ok(Some(event)) = events.try_next().await {
            if let WatchEvent::Modified(deployment) | WatchEvent::Added(deployment) = event {
                let mut seen = seen.lock().unwrap();
                let replicas = deployment.spec.replicas.unwrap_or(-1);
                if seen.last() != Some(&replicas) {
                    seen.push(replicas);
                }
            }
        }
    });
    Ok(values)
}

#[tokio::test]
async fn fixed_number_and_autoscaler_change_places_without_losing_a_pod() -> Result<()> {
    let _turn = TURN.read().await;
    let stage = stage().await?;
    with_temp_namespace(stage.cluster, "handover", |namespace| async move {
        let scenario = Scenario::new(&namespace.name, "digits", MODEL);
        scenario.apply(&namespace.client).await?;
        scenario.ready(&namespace.client, PATIENCE).await?;
        let deployments: Api<Deployment> = Api::namespaced(namespace.client.clone(), &namespace.name);
        let seen = follow_replicas(&deployments, "digits-cpu").await?;
        let in_namespace = format!("--namespace={}", namespace.name);
        let scale = |replicas: u32| {
            let arguments = [
                "scale".to_owned(),
                "isvc/digits".to_owned(),
                format!("--replicas={replicas}"),
                in_namespace.clone(),
            ];
            stage.cluster.kubectl(arguments)
        };
        let has_replicas = |wanted: u32, autoscaler: bool| {
            move |children: &std::collections::BTreeMap<String, serde_json::Value>| {
                let replicas = &children["Deployment/digits-cpu"]["spec"]["replicas"];
                let is_autoscaled = children.contains_key("HorizontalPodAutoscaler/digits-cpu");
                (*replicas != wanted || is_autoscaled != autoscaler)
                    .then(|| format!("{replicas}, autoscaler {is_autoscaled}"))
            }
        };
        scale(4).await?;
        await_reason(&namespace.client, &scenario, "ScalingReady", "FixedReplicas", PATIENCE).await?;
        let fixed = await_children(stage.cluster, &namespace.name, "a fixed number", has_replicas(4, false)).await?;
        ensure!(owns_replicas(&fixed["Deployment/digits-cpu"], labels::FIELD_MANAGER));
        let wide = stage
            .cluster
            .kubectl(["get", "isvc", "digits", "--output=wide", &in_namespace])
            .await?;
        ensure!(wide.contains("fixed"), "{wide}");

        // The way back: no autoscaler has a signal here, so that nothing but the handover decides the number.
        scale(0).await?;
        let auto = await_children(stage.cluster, &namespace.name, "an autoscaler", has_replicas(4, true)).await?;
        await_silence(stage, &namespace.name).await?;
        ensure!(!owns_replicas(&auto["Deployment/digits-cpu"], labels::FIELD_MANAGER));
        // Until an autoscaler writes another number, and without an owner the next apply would have reset it.
        ensure!(owns_replicas(&auto["Deployment/digits-cpu"], labels::HANDOVER_MANAGER));
        look_again(stage, &namespace.client, &scenario, 3).await?;

        scale(3).await?;
        await_children(
            stage.cluster,
            &namespace.name,
            "another fixed number",
            has_replicas(3, false),
        )
        .await?;
        let steps = await_condition("every step to be seen", PATIENCE, || async {
            let seen = seen.lock().unwrap().clone();
            Ok(if seen.last() == Some(&3) {
                Seen::Done(seen)
            } else {
                Seen::NotYet(format!("{seen:?}"))
            })
        })
        .await?;
        ensure!(
            steps.iter().skip_while(|replicas| **replicas == 1).eq(&[4, 3]),
            "replicas went through {steps:?}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn fixed_number_is_kept_against_whoever_changes_the_deployment() -> Result<()> {
    let _turn = TURN.read().await;
    let stage = stage().await?;
    with_temp_namespace(stage.cluster, "fixed", |namespace| async move {
        let scenario = Scenario::new(&namespace.name, "digits", MODEL)
            .with("/replicas", serde_json::json!(5))
            .with_spec(
                "/pools",
                serde_json::json!([{"name": "one", "maxReplicas": 2}, {"name": "two"}]),
            );
        scenario.apply(&namespace.client).await?;
        let service = scenario.ready(&namespace.client, PATIENCE).await?;
        let status = service.status.unwrap();
        let shares: Vec<(String, i32)> = status
            .pools
            .iter()
            .map(|pool| (pool.name.clone(), pool.desired))
            .collect();
        ensure!(shares == [("one".to_owned(), 2), ("two".to_owned(), 3)], "{shares:?}");
        let in_namespace = format!("--namespace={}", namespace.name);
        stage
            .cluster
            .kubectl(["scale", "deployment/digits-two", "--replicas=9", &in_namespace])
            .await?;
        await_children(stage.cluster, &namespace.name, "the fixed number again", |children| {
            let replicas = &children["Deployment/digits-two"]["spec"]["replicas"];
            let generation = children["Deployment/digits-two"]["metadata"]["generation"].as_i64();
            (*replicas != 3 || generation < Some(3)).then(|| format!("{replicas} at generation {generation:?}"))
        })
        .await?;
        Ok(())
    })
    .await
}
