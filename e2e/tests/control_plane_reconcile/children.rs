//! Children: they exist, are ours, are repaired, are pruned, and are left alone when nothing changes.
use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tidewright_api::labels;
use tidewright_e2e::fixtures::Scenario;
use tidewright_e2e::namespace::with_temp_namespace;

use super::{
    MODEL, PATIENCE, TURN, all_children, await_children, await_silence, ensure_none, look_again, reconciles, rich,
    stage,
};

#[tokio::test]
async fn children_exist_and_are_controlled_by_their_service() -> Result<()> {
    let _turn = TURN.read().await;
    let stage = stage().await?;
    with_temp_namespace(stage.cluster, "children", |namespace| async move {
        let scenario = Scenario::new(&namespace.name, "digits", MODEL);
        scenario.apply(&namespace.client).await?;
        let service = scenario.ready(&namespace.client, PATIENCE).await?;
        let children = all_children(stage.cluster, &namespace.name).await?;
        let mut names: BTreeSet<&str> = children.keys().map(String::as_str).collect();
        let config = names
            .iter()
            .find(|name| name.starts_with("ConfigMap/digits-cpu-"))
            .copied();
        ensure!(config.is_some_and(|name| names.remove(name)), "{names:?}");
        let wanted = [
            "Deployment/digits-cpu",
            "HorizontalPodAutoscaler/digits-cpu",
            "Service/digits",
            "Service/digits-headless",
            "PodDisruptionBudget/digits",
            "NetworkPolicy/digits",
            "ServiceAccount/digits",
        ];
        ensure!(names == BTreeSet::from(wanted), "{names:?}");
        for (name, child) in &children {
            let owners = &child["metadata"]["ownerReferences"];
            ensure!(owners.as_array().map(Vec::len) == Some(1), "{name}: {owners}");
            ensure!(owners[0]["uid"] == json!(service.metadata.uid), "{name}: {owners}");
            ensure!(owners[0]["controller"] == true, "{name}: {owners}");
            ensure!(child["metadata"]["labels"][labels::SERVICE] == "digits", "{name}");
        }
        ensure!(
            service.metadata.finalizers.is_none(),
            "{:?}",
            service.metadata.finalizers
        );
        Ok(())
    })
    .await
}

/// Identity and version of everything that must not change.
fn versions(children: &std::collections::BTreeMap<String, Value>) -> Vec<(String, Value, Value, Value)> {
    children
        .iter()
        .map(|(name, child)| {
            let metadata = &child["metadata"];
            let part = |key: &str| metadata[key].clone();
            (name.clone(), part("uid"), part("resourceVersion"), part("generation"))
        })
        .collect()
}

#[tokio::test]
async fn nothing_is_written_when_nothing_changes() -> Result<()> {
    let _turn = TURN.write().await;
    let stage = stage().await?;
    with_temp_namespace(stage.cluster, "no-op", |namespace| async move {
        let scenario = rich(&namespace.name, "digits");
        scenario.apply(&namespace.client).await?;
        let is_complete = |children: &std::collections::BTreeMap<String, Value>| {
            (children.len() != 11).then(|| format!("{:?}", children.keys()))
        };
        await_children(stage.cluster, &namespace.name, "all children", is_complete).await?;
        await_silence(stage, &namespace.name).await?;
        // The controllers of the cluster write statuses of their own; they too must have come to rest.
        let children = all_children(stage.cluster, &namespace.name).await?;
        let service = scenario.api(&namespace.client).get("digits").await?;
        let writes = || stage.operator.metric("tidewright_operator_api_writes_total", "");
        let (writes_before, reconciles_before) = (writes().await?, reconciles(stage).await?);
        stage.proxy.forget();

        look_again(stage, &namespace.client, &scenario, 20).await?;

        ensure!(reconciles(stage).await? >= reconciles_before + 20.0);
        ensure_none(stage, "written", &stage.proxy.writes(&namespace.name))?;
        let written = writes().await? - writes_before;
        ensure!(written.abs() < 0.5, "{written} writes are counted");
        let after = all_children(stage.cluster, &namespace.name).await?;
        ensure!(
            versions(&after) == versions(&children),
            "{:#?}\nbecame\n{:#?}",
            versions(&children),
            versions(&after)
        );
        let same = scenario.api(&namespace.client).get("digits").await?;
        ensure!(
            same.metadata.resource_version == service.metadata.resource_version,
            "the service was written"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn drift_is_repaired_and_what_others_add_is_left_alone() -> Result<()> {
    let _turn = TURN.read().await;
    let stage = stage().await?;
    with_temp_namespace(stage.cluster, "drift", |namespace| async move {
        let environment = json!([{"name": "THREADS", "value": "2"}]);
        let scenario = Scenario::new(&namespace.name, "digits", MODEL).with("/model/env", environment);
        scenario.apply(&namespace.client).await?;
        scenario.ready(&namespace.client, PATIENCE).await?;
        let in_namespace = format!("--namespace={}", namespace.name);
        let kubectl = |arguments: Vec<&'static str>| {
            let in_namespace = in_namespace.clone();
            async move {
                let arguments = arguments.into_iter().map(str::to_owned).chain([in_namespace]);
                stage.cluster.kubectl(arguments).await
            }
        };
        kubectl(vec![
            "set",
            "image",
            "deployment/digits-cpu",
            "kserve-container=elsewhere/image:1",
        ])
        .await?;
        kubectl(vec![
            "patch",
            "hpa/digits-cpu",
            "--type=merge",
            "--patch={\"spec\":{\"maxReplicas\":99}}",
        ])
        .await?;
        kubectl(vec!["delete", "service/digits", "pdb/digits", "networkpolicy/digits"]).await?;
        kubectl(vec![
            "label",
            "service/digits-headless",
            "app.kubernetes.io/name=elsewhere",
            "--overwrite",
        ])
        .await?;
        let is_repaired = |children: &std::collections::BTreeMap<String, Value>| {
            for name in ["Service/digits", "PodDisruptionBudget/digits", "NetworkPolicy/digits"] {
                if !children.contains_key(name) {
                    return Some(format!("no {name}"));
                }
            }
            let image = &children["Deployment/digits-cpu"]["spec"]["template"]["spec"]["containers"][0]["image"];
            let most = &children["HorizontalPodAutoscaler/digits-cpu"]["spec"]["maxReplicas"];
            let label = &children["Service/digits-headless"]["metadata"]["labels"]["app.kubernetes.io/name"];
            let is_right =
                image == "localhost/tidewright/inference-server:test" && most == 5 && label == "inference-server";
            (!is_right).then(|| format!("{image} {most} {label}"))
        };
        await_children(stage.cluster, &namespace.name, "the drift to be repaired", is_repaired).await?;
        scenario.ready(&namespace.client, PATIENCE).await?;

        // Fields that are not ours are nobody's drift: neither removed nor written against for ever.
        kubectl(vec!["annotate", "deployment/digits-cpu", "example.com/team=vision"]).await?;
        kubectl(vec!["set", "env", "deployment/digits-cpu", "DEBUG=1"]).await?;
        scenario.ready(&namespace.client, PATIENCE).await?;
        await_silence(stage, &namespace.name).await?;
        let writes = stage.proxy.writes(&namespace.name).len();
        look_again(stage, &namespace.client, &scenario, 3).await?;
        let new = &stage.proxy.writes(&namespace.name)[writes..];
        ensure_none(stage, "written against what others added", new)?;
        let children = all_children(stage.cluster, &namespace.name).await?;
        let deployment = &children["Deployment/digits-cpu"];
        ensure!(deployment["metadata"]["annotations"]["example.com/team"] == "vision");
        let environment = &deployment["spec"]["template"]["spec"]["containers"][0]["env"];
        ensure!(environment.to_string().contains("DEBUG"), "{environment}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn removed_pool_is_pruned_and_a_removed_field_goes_from_the_child() -> Result<()> {
    let _turn = TURN.read().await;
    let stage = stage().await?;
    with_temp_namespace(stage.cluster, "prune", |namespace| async move {
        let two = Scenario::new(&namespace.name, "digits", MODEL)
            .with("/nodeSelector", json!({"type": "kwok"}))
            .with_spec("/pools", json!([{"name": "one"}, {"name": "two"}]));
        two.apply(&namespace.client).await?;
        two.ready(&namespace.client, PATIENCE).await?;
        let children = all_children(stage.cluster, &namespace.name).await?;
        let pod = &children["Deployment/digits-one"]["spec"]["template"]["spec"];
        ensure!(pod["nodeSelector"]["type"] == "kwok", "{pod}");
        ensure!(children.contains_key("HorizontalPodAutoscaler/digits-two"));

        let one = Scenario::new(&namespace.name, "digits", MODEL).with_spec("/pools", json!([{"name": "one"}]));
        one.apply(&namespace.client).await?;
        let is_pruned = |children: &std::collections::BTreeMap<String, Value>| {
            let left: Vec<&String> = children.keys().filter(|name| name.contains("digits-two")).collect();
            let configs = children.keys().filter(|name| name.starts_with("ConfigMap/")).count();
            let selector = &children["Deployment/digits-one"]["spec"]["template"]["spec"]["nodeSelector"];
            (!left.is_empty() || configs != 1 || !selector.is_null()).then(|| format!("{left:?} {configs} {selector}"))
        };
        await_children(stage.cluster, &namespace.name, "the pool to be pruned", is_pruned).await?;
        let service = one.ready(&namespace.client, PATIENCE).await?;
        let pools: Vec<String> = service
            .status
            .unwrap()
            .pools
            .into_iter()
            .map(|pool| pool.name)
            .collect();
        ensure!(pools == ["one"], "{pools:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn config_map_of_older_pods_stays_until_they_are_gone() -> Result<()> {
    let _turn = TURN.read().await;
    let stage = stage().await?;
    with_temp_namespace(stage.cluster, "configs", |namespace| async move {
        let scenario = Scenario::new(&namespace.name, "digits", MODEL).with("/nodeSelector", json!({"type": "kwok"}));
        scenario.apply(&namespace.client).await?;
        scenario.ready(&namespace.client, PATIENCE).await?;
        let configs = |children: &std::collections::BTreeMap<String, Value>| -> Vec<String> {
            children
                .keys()
                .filter(|name| name.starts_with("ConfigMap/"))
                .cloned()
                .collect()
        };
        let before = configs(&all_children(stage.cluster, &namespace.name).await?);
        // A pod that cannot be scheduled holds the rollout up: the old pod, which mounts the old ConfigMap, stays.
        let stuck = scenario
            .with("/timeout", json!(30))
            .with("/nodeSelector/type", json!("nowhere"));
        stuck.apply(&namespace.client).await?;
        let both = |children: &std::collections::BTreeMap<String, Value>| {
            (configs(children).len() != 2).then(|| format!("{:?}", configs(children)))
        };
        await_children(stage.cluster, &namespace.name, "both ConfigMaps", both).await?;
        await_silence(stage, &namespace.name).await?;
        look_again(stage, &namespace.client, &stuck, 2).await?;
        let during = configs(&all_children(stage.cluster, &namespace.name).await?);
        ensure!(during.contains(&before[0]), "{before:?} is not in {during:?}");
        let free = stuck.with("/nodeSelector/type", json!("kwok"));
        free.apply(&namespace.client).await?;
        free.ready(&namespace.client, PATIENCE).await?;
        let only_new = |children: &std::collections::BTreeMap<String, Value>| {
            let now = configs(children);
            (now.len() != 1 || now == before).then(|| format!("{now:?}"))
        };
        await_children(stage.cluster, &namespace.name, "the old ConfigMap to go", only_new).await?;
        Ok(())
    })
    .await
}
