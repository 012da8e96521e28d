//! From creation to deletion: foreign objects, the same name again, garbage collection.
use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;
use tidewright_e2e::fixtures::Scenario;
use tidewright_e2e::namespace::with_temp_namespace;
use tidewright_e2e::wait::{Seen, await_condition};

use super::{MODEL, PATIENCE, TURN, all_children, await_children, await_reason, ensure_none, stage};

#[tokio::test]
async fn foreign_object_of_a_childs_name_is_neither_adopted_nor_overwritten() -> Result<()> {
    let _turn = TURN.read().await;
    let stage = stage().await?;
    with_temp_namespace(stage.cluster, "foreign", |namespace| async move {
        let services: Api<Service> = Api::namespaced(namespace.client.clone(), &namespace.name);
        let foreign: Service = serde_json::from_value(json!({
            "metadata": {"name": "digits"}, "spec": {"ports": [{"port": 1234}], "selector": {"app": "elsewhere"}},
        }))?;
        let created = services.create(&PostParams::default(), &foreign).await?;
        let scenario = Scenario::new(&namespace.name, "digits", MODEL).cpu(70);
        scenario.apply(&namespace.client).await?;
        let (status, message) = await_reason(&namespace.client, &scenario, "Ready", "NotOurs", PATIENCE).await?;
        ensure!(status == "False", "Ready is {status}: {message}");
        ensure!(message.contains("Service digits"), "{message}");
        let still = services.get("digits").await?;
        ensure!(
            still.metadata.resource_version == created.metadata.resource_version,
            "{still:?}"
        );
        // What the user is told to do helps, and soon.
        services.delete("digits", &DeleteParams::default()).await?;
        scenario.ready(&namespace.client, Duration::from_secs(15)).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn deletion_leaves_the_children_to_the_garbage_collector() -> Result<()> {
    let _turn = TURN.read().await;
    let stage = stage().await?;
    with_temp_namespace(stage.cluster, "deletion", |namespace| async move {
        let scenario = Scenario::new(&namespace.name, "digits", MODEL);
        scenario.apply(&namespace.client).await?;
        scenario.ready(&namespace.client, PATIENCE).await?;
        scenario
            .api(&namespace.client)
            .delete("digits", &DeleteParams::background())
            .await?;
        await_children(stage.cluster, &namespace.name, "all children to go", |children| {
            (!children.is_empty()).then(|| format!("{:?}", children.keys()))
        })
        .await?;
        let gone = scenario.api(&namespace.client).get_opt("digits").await?;
        ensure!(gone.is_none(), "something holds the service: {gone:?}");
        let mut deletes = stage.proxy.writes(&namespace.name);
        deletes.retain(|write| write.method == http::Method::DELETE);
        ensure_none(stage, "deleted by the operator", &deletes)
    })
    .await
}

#[tokio::test]
async fn service_made_anew_under_the_same_name_gets_children_of_its_own() -> Result<()> {
    let _turn = TURN.read().await;
    let stage = stage().await?;
    with_temp_namespace(stage.cluster, "anew", |namespace| async move {
        let scenario = Scenario::new(&namespace.name, "digits", MODEL);
        let mut uids = Vec::new();
        for _ in 0..3 {
            scenario.apply(&namespace.client).await?;
            let service = scenario.ready(&namespace.client, PATIENCE).await?;
            let uid = service.metadata.uid.unwrap();
            ensure!(!uids.contains(&uid), "{uid}");
            // Those of the one before may still be on their way out.
            await_children(
                stage.cluster,
                &namespace.name,
                "children of the new service alone",
                |children| {
                    let others: Vec<&String> = children
                        .iter()
                        .filter(|(_, child)| child["metadata"]["ownerReferences"][0]["uid"] != json!(uid))
                        .map(|(name, _)| name)
                        .collect();
                    (children.len() != 8 || !others.is_empty())
                        .then(|| format!("{} children, of another: {others:?}", children.len()))
                },
            )
            .await?;
            uids.push(uid);
            scenario
                .api(&namespace.client)
                .delete("digits", &DeleteParams::background())
                .await?;
            await_condition("the service to go", PATIENCE, || async {
                Ok(match scenario.api(&namespace.client).get_opt("digits").await? {
                    None => Seen::Done(()),
                    Some(_) => Seen::not_yet("still there"),
                })
            })
            .await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn rename_of_the_account_and_of_a_cache_level_leave_nothing_behind() -> Result<()> {
    let _turn = TURN.read().await;
    let stage = stage().await?;
    with_temp_namespace(stage.cluster, "fields", |namespace| async move {
        let plain = Scenario::new(&namespace.name, "digits", MODEL);
        let full = plain
            .clone()
            .with("/serviceAccountName", json!("own"))
            .with("/labels", json!({"team": "vision"}))
            .with_spec("/cache", json!({"redis": {"mode": "Sidecar"}}));
        stage
            .cluster
            .kubectl(["create", "serviceaccount", "own", "--namespace", &namespace.name])
            .await?;
        full.apply(&namespace.client).await?;
        full.ready(&namespace.client, PATIENCE).await?;
        let children = all_children(stage.cluster, &namespace.name).await?;
        ensure!(
            !children.contains_key("ServiceAccount/digits"),
            "an account that nobody uses"
        );
        let template = &children["Deployment/digits-cpu"]["spec"]["template"];
        ensure!(template["spec"]["serviceAccountName"] == "own", "{template}");
        ensure!(template["metadata"]["labels"]["team"] == "vision", "{template}");
        ensure!(template["spec"]["initContainers"][0]["name"] == "redis", "{template}");
        plain.apply(&namespace.client).await?;
        plain.ready(&namespace.client, PATIENCE).await?;
        let children = all_children(stage.cluster, &namespace.name).await?;
        let template = &children["Deployment/digits-cpu"]["spec"]["template"];
        ensure!(template["spec"]["serviceAccountName"] == "digits", "{template}");
        ensure!(template["metadata"]["labels"]["team"].is_null(), "{template}");
        ensure!(template["spec"]["initContainers"].is_null(), "{template}");
        Ok(())
    })
    .await
}
