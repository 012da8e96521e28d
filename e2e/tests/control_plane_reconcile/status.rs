//! Status: never ahead of what was observed, complete in one write, and honest about a spec that cannot be honoured.
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use serde_json::{Value, json};
use tidewright_api::InferenceService;
use tidewright_e2e::fixtures::{self, Scenario};
use tidewright_e2e::namespace::with_temp_namespace;
use tidewright_e2e::operator_process::install_definitions;
use tidewright_e2e::wait::{Seen, await_condition};

use super::{MODEL, PATIENCE, TURN, all_children, await_reason, find, rich, stage};

const CONDITIONS: [&str; 5] = ["ModelLoaded", "PredictorReady", "Ready", "ScalingReady", "SpecHonoured"];

#[tokio::test]
async fn every_status_that_is_ever_seen_is_complete_and_speaks_of_one_generation() -> Result<()> {
    let _turn = TURN.read().await;
    let stage = stage().await?;
    with_temp_namespace(stage.cluster, "status", |namespace| async move {
        let scenario = Scenario::new(&namespace.name, "digits", MODEL);
        let seen: Arc<Mutex<Vec<InferenceService>>> = Arc::default();
        let mut events = scenario
            .api(&namespace.client)
            .watch(&WatchParams::default(), "0")
            .await?
            .boxed();
        let sink = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok(Some(event)) = events.try_next().await {
                if let WatchEvent::Added(service) | WatchEvent::Modified(service) = event {
                    sink.lock().unwrap().push(service);
                }
            }
        });
        scenario.apply(&namespace.client).await?;
        scenario.ready(&namespace.client, PATIENCE).await?;
        let changed = scenario.with("/timeout", json!(42));
        changed.apply(&namespace.client).await?;
        changed.ready(&namespace.client, PATIENCE).await?;

        let all = seen.lock().unwrap().clone();
        let with_status: Vec<_> = all.iter().filter(|service| service.status.is_some()).collect();
        let first = with_status.first().expect("a status");
        let (status, reason, _) = find(first, "Ready").unwrap();
        ensure!(
            status == "Unknown" && reason == "Pending",
            "before anything was observed: {}",
            fixtures::conditions(first)
        );
        for service in with_status {
            let text = fixtures::conditions(service);
            let status = service.status.as_ref().unwrap();
            let mut types: Vec<&str> = status.conditions.iter().map(|c| c.type_.as_str()).collect();
            types.sort_unstable();
            ensure!(types == CONDITIONS, "{text}");
            for condition in &status.conditions {
                ensure!(
                    condition.observed_generation == status.observed_generation,
                    "{} in {text}",
                    condition.type_
                );
            }
            ensure!(status.observed_generation <= service.metadata.generation, "{text}");
        }
        // Between the change and its last pod, Ready of the new generation is not True.
        let generation = Some(2);
        let first_of_new = all
            .iter()
            .find(|service| {
                service
                    .status
                    .as_ref()
                    .is_some_and(|status| status.observed_generation == generation)
            })
            .expect("a status of the second generation");
        let (status, _, _) = find(first_of_new, "Ready").unwrap();
        ensure!(status != "True", "{}", fixtures::conditions(first_of_new));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn spec_that_only_the_operator_can_judge_is_refused_by_path_and_what_runs_goes_on() -> Result<()> {
    let _turn = TURN.read().await;
    let stage = stage().await?;
    with_temp_namespace(stage.cluster, "invalid", |namespace| async move {
        let good = Scenario::new(&namespace.name, "digits", MODEL).external("own", "sum(up)", "5");
        good.apply(&namespace.client).await?;
        good.ready(&namespace.client, PATIENCE).await?;
        let before = all_children(stage.cluster, &namespace.name).await?;
        let bad = Scenario::new(&namespace.name, "digits", MODEL).external("own", "sum(up", "5");
        bad.apply(&namespace.client).await?;
        let (status, message) = await_reason(&namespace.client, &bad, "SpecHonoured", "InvalidSpec", PATIENCE).await?;
        ensure!(status == "False");
        ensure!(
            message.contains("spec.predictor.autoScaling.metrics[0].external.metric.query"),
            "{message}"
        );
        let service = bad.api(&namespace.client).get("digits").await?;
        ensure!(find(&service, "Ready").unwrap().0 == "False");
        ensure!(service.status.unwrap().observed_generation == service.metadata.generation);
        let after = all_children(stage.cluster, &namespace.name).await?;
        ensure!(before.keys().eq(after.keys()), "{:?}", after.keys());
        good.apply(&namespace.client).await?;
        good.ready(&namespace.client, PATIENCE).await?;
        Ok(())
    })
    .await
}

/// Without its rules, as an older version of the definition might have been.
fn without_rules(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            map.remove("x-kubernetes-validations");
            map.values_mut().for_each(without_rules);
        }
        Value::Array(items) => items.iter_mut().for_each(without_rules),
        _ => {}
    }
}

#[tokio::test]
async fn object_stored_under_an_older_schema_is_refused_by_path() -> Result<()> {
    let _turn = TURN.write().await;
    let stage = stage().await?;
    with_temp_namespace(stage.cluster, "older", |namespace| async move {
        let definitions: Api<CustomResourceDefinition> = Api::all(namespace.client.clone());
        let current = &tidewright_api::crd::all_crds()[0];
        let mut older = serde_json::to_value(current)?;
        without_rules(&mut older);
        let parameters = PatchParams::apply("tidewright-e2e").force();
        let name = current.metadata.name.clone().unwrap();
        definitions.patch(&name, &parameters, &Patch::Apply(&older)).await?;
        let scenario =
            Scenario::new(&namespace.name, "digits", "s3://bucket/digits.onnx").with("/minReplicas", json!(7));
        let object: InferenceService = serde_json::from_value(scenario.object.clone())?;
        let api = scenario.api(&namespace.client);
        let stored = await_condition("the older schema to be in force", PATIENCE, || async {
            Ok(match api.create(&PostParams::default(), &object).await {
                Ok(_) => Seen::Done(()),
                Err(kube::Error::Api(status)) if status.code == 409 => Seen::Done(()),
                Err(error) => Seen::not_yet(error),
            })
        })
        .await;
        install_definitions(stage.cluster).await?;
        stored?;
        let (_, message) = await_reason(&namespace.client, &scenario, "SpecHonoured", "InvalidSpec", PATIENCE).await?;
        for path in ["spec.predictor.model.storageUri", "spec.predictor.minReplicas"] {
            ensure!(message.contains(path), "{message}");
        }
        ensure!(
            all_children(stage.cluster, &namespace.name).await?.is_empty(),
            "children of a refused spec"
        );
        let good = Scenario::new(&namespace.name, "digits", MODEL);
        good.apply(&namespace.client).await?;
        good.ready(&namespace.client, PATIENCE).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn columns_and_events_say_what_happens() -> Result<()> {
    let _turn = TURN.read().await;
    let stage = stage().await?;
    with_temp_namespace(stage.cluster, "columns", |namespace| async move {
        let scenario = rich(&namespace.name, "digits");
        scenario.apply(&namespace.client).await?;
        // No node has a GPU, and the claim does not exist: the first pool speaks.
        let api = scenario.api(&namespace.client);
        let row = await_condition("the row of the table", PATIENCE, || async {
            let arguments = ["get", "isvc", "digits", "--no-headers", "--namespace", &namespace.name];
            let row = stage.cluster.kubectl(arguments).await?;
            let columns: Vec<String> = row.split_whitespace().map(str::to_owned).collect();
            Ok(if columns.get(2).is_some_and(|ready| ready == "False") {
                Seen::Done(columns)
            } else {
                Seen::NotYet(row)
            })
        })
        .await?;
        let url = format!("http://digits.{}.svc.cluster.local", namespace.name);
        ensure!(row[0] == "digits" && row[1] == url, "{row:?}");
        ensure!(row[4] == "0/1" && row[5] == "0/1" && row[6] == "?", "{row:?}");
        let events = await_condition("the events", Duration::from_secs(20), || async {
            let arguments = ["get", "events", "--output=json", "--namespace", &namespace.name];
            let list: Value = serde_json::from_str(&stage.cluster.kubectl(arguments).await?)?;
            let ours: Vec<Value> = list["items"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|event| event["involvedObject"]["kind"] == "InferenceService")
                .cloned()
                .collect();
            Ok(
                if ours.iter().any(|event| event["reason"] == "InferenceServiceNotReady") {
                    Seen::Done(ours)
                } else {
                    Seen::NotYet(format!("{ours:?}"))
                },
            )
        })
        .await?;
        let reasons: Vec<&str> = events.iter().filter_map(|event| event["reason"].as_str()).collect();
        ensure!(reasons.contains(&"InferenceServiceNotReady"), "{reasons:?}");
        let service = api.get("digits").await?;
        ensure!(
            find(&service, "ModelLoaded").unwrap().0 == "Unknown",
            "{}",
            fixtures::conditions(&service)
        );
        Ok(())
    })
    .await
}
