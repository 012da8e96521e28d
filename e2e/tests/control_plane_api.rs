//! The API as the API server enforces it: rules, strictness, defaults, columns, the scale subresource.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#[path = "control_plane_api/borrowed.rs"]
mod borrowed;
#[path = "control_plane_api/kserve.rs"]
mod kserve;
#[path = "control_plane_api/rules.rs"]
mod rules;
#[path = "control_plane_api/times.rs"]
mod times;

use anyhow::{Result, ensure};
use kube::Client;
use serde_json::{Value, json};
use tidewright_e2e::control_plane::ControlPlane;
use tidewright_e2e::namespace::with_temp_namespace;
use tidewright_e2e::operator_process::install_definitions;
use tidewright_e2e::options::ClusterOptions;
use tidewright_e2e::shared::shared_control_plane;
use tokio::sync::OnceCell;

const CRD: &str = "inferenceservices.serving.tidewright.dev";

async fn cluster() -> Result<&'static ControlPlane> {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    let cluster = shared_control_plane(|| Ok(ClusterOptions::for_tests("cp-api"))).await?;
    INSTALLED.get_or_try_init(|| install_definitions(cluster)).await?;
    Ok(cluster)
}

/// The smallest object that is accepted.
fn smallest(name: &str) -> Value {
    json!({
        "apiVersion": "serving.tidewright.dev/v1alpha1",
        "kind": "InferenceService",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"predictor": {"model": {"modelFormat": {"name": "onnx"}, "storageUri": "file:///models/digits.onnx"}}},
    })
}

/// Creates nothing, but answers as if: the object with its defaults, or the API server's complaint.
async fn try_create(client: &Client, object: &Value) -> Result<Value, String> {
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
    let url = format!(
        "/apis/serving.tidewright.dev/v1alpha1/namespaces/{namespace}/inferenceservices?dryRun=All&fieldValidation=Strict"
    );
    let request = http::Request::post(url)
        .header("content-type", "application/json")
        .body(serde_json::to_vec(object).unwrap())
        .unwrap();
    match client.request::<Value>(request).await {
        Ok(created) => Ok(created),
        Err(kube::Error::Api(status)) => Err(status.message.clone()),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn definition_applies_on_both_sides_again_and_again() -> Result<()> {
    let cluster = cluster().await?;
    let crd = &tidewright_api::crd::all_crds()[0];
    let text = serde_json::to_string(crd)?;
    // Client-side apply keeps a copy of the object in an annotation of at most 256 KiB.
    ensure!(text.len() < 256 * 1024, "the definition has {} bytes", text.len());
    for _ in 0..2 {
        cluster
            .program("kubectl", ["apply", "--filename=-"], Some(&text))
            .await?;
        let arguments = ["apply", "--server-side", "--force-conflicts", "--filename=-"];
        cluster.program("kubectl", arguments, Some(&text)).await?;
    }
    let applied = cluster.kubectl(["get", "crd", CRD, "--output=json"]).await?;
    let applied: Value = serde_json::from_str(&applied)?;
    let complaints: Vec<&Value> = applied["status"]["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|c| c["type"] == "NonStructuralSchema" || c["type"] == "KubernetesAPIApprovalPolicyConformant")
        .collect();
    ensure!(complaints.is_empty(), "{complaints:?}");
    Ok(())
}

#[tokio::test]
async fn defaults_are_filled_in_and_amounts_may_be_whole_numbers() -> Result<()> {
    let client = cluster().await?.client().await?;
    let mut object = smallest("defaults");
    object["spec"]["predictor"]["model"]["resources"] = json!({"requests": {"cpu": 1, "memory": 134_217_728}});
    object["spec"]["predictor"]["batcher"] = json!({});
    object["spec"]["predictor"]["autoScaling"] = json!({"metrics": [
        {"type": "RequestRate", "target": {"type": "AverageValue", "averageValue": 1000}},
        {"type": "External", "external": {"metric": {"query": "sum(up)"}, "target": {"type": "Value", "value": 5}}},
    ]});
    object["spec"]["cache"] =
        json!({"memory": {"maxBytes": 1_048_576}, "redis": {"mode": "Sidecar", "maxMemory": null}});
    object["spec"]["pools"] = json!([{"name": "gpu", "accelerator": {"resource": "nvidia.com/gpu"}}]);
    let created = try_create(&client, &object).await.map_err(anyhow::Error::msg)?;
    let predictor = &created["spec"]["predictor"];
    let filled = [
        (&predictor["replicas"], json!(0)),
        (&predictor["minReplicas"], json!(1)),
        (&predictor["maxReplicas"], json!(10)),
        (&predictor["containerConcurrency"], json!(0)),
        (&predictor["timeout"], json!(60)),
        (&predictor["batcher"]["maxBatchSize"], json!(32)),
        (&predictor["batcher"]["maxLatency"], json!(0)),
        (&predictor["autoScaling"]["mode"], json!("Hpa")),
        (
            &predictor["autoScaling"]["metrics"][1]["external"]["metric"]["backend"],
            json!("prometheus"),
        ),
        (&created["spec"]["cache"]["memory"]["ttl"], json!("5m")),
        (&created["spec"]["pools"][0]["accelerator"]["count"], json!(1)),
    ];
    for (is, should) in filled {
        ensure!(*is == should, "{is} is not {should} in {created:#}");
    }
    // What users may write the operator must be able to read: one object that it cannot would break its watch of all.
    let read: tidewright_api::InferenceService = serde_json::from_value(created)?;
    let cpu = &read.spec.predictor.model.resources.unwrap().requests["cpu"];
    ensure!(cpu.0 == "1", "{cpu:?}");
    Ok(())
}

#[tokio::test]
async fn unknown_field_is_an_error_that_names_it() -> Result<()> {
    let cluster = cluster().await?;
    let mut object = smallest("unknown");
    object["spec"]["predictor"]["scaleTarget"] = json!(80);
    object["spec"]["predictor"]["model"]["runtimeVersion"] = json!("1");
    let refused = try_create(&cluster.client().await?, &object).await.unwrap_err();
    let applied = cluster
        .program(
            "kubectl",
            ["apply", "--validate=strict", "--filename=-"],
            Some(&object.to_string()),
        )
        .await
        .unwrap_err()
        .to_string();
    for field in ["spec.predictor.scaleTarget", "spec.predictor.model.runtimeVersion"] {
        ensure!(refused.contains(&format!("unknown field \"{field}\"")), "{refused}");
        ensure!(applied.contains(&format!("unknown field \"{field}\"")), "{applied}");
    }
    Ok(())
}

#[tokio::test]
async fn every_field_is_explained() -> Result<()> {
    fn missing(schema: &Value, path: &str, all: &mut Vec<String>) {
        for (name, child) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            if child["description"].as_str().is_none_or(|text| text.trim().is_empty()) {
                all.push(path.clone());
            }
            missing(child, &path, all);
        }
        if schema["items"].is_object() {
            missing(&schema["items"], &format!("{path}[]"), all);
        }
    }
    let cluster = cluster().await?;
    let crd: Value = serde_json::from_str(&cluster.kubectl(["get", "crd", CRD, "--output=json"]).await?)?;
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    let mut unexplained = Vec::new();
    missing(&schema["spec"], "spec", &mut unexplained);
    missing(&schema["status"], "status", &mut unexplained);
    ensure!(unexplained.is_empty(), "no description: {unexplained:?}");
    for (path, text) in [
        ("isvc.spec.predictor.model.storageUri", "pvc://CLAIM/PATH"),
        ("tide.spec.predictor.replicas", "scaled automatically"),
        ("inferenceservices.spec.cache.redis.mode", "Where Redis runs"),
    ] {
        let explained = cluster.kubectl(["explain", path]).await?;
        let explained = explained.split_whitespace().collect::<Vec<_>>().join(" ");
        ensure!(explained.contains(text), "{path}: {explained}");
    }
    Ok(())
}

#[tokio::test]
async fn table_shows_the_documented_columns_under_every_name() -> Result<()> {
    let cluster = cluster().await?;
    with_temp_namespace(cluster, "columns", |namespace| async move {
        let mut object = smallest("digits");
        object["metadata"]["namespace"] = json!(namespace.name);
        cluster.apply(&[object]).await?;
        let in_namespace = format!("--namespace={}", namespace.name);
        for name in ["isvc", "tide", "inferenceservice", "tidewright", "all"] {
            let table = cluster.kubectl(["get", name, &in_namespace]).await?;
            let head: Vec<&str> = table.lines().next().unwrap_or_default().split_whitespace().collect();
            let wanted = ["NAME", "URL", "READY", "REASON", "GPU", "CPU", "QUEUE", "AGE"];
            ensure!(head == wanted, "{name}: {table}");
        }
        let wide = cluster.kubectl(["get", "isvc", &in_namespace, "--output=wide"]).await?;
        for column in ["MODEL", "DIGEST", "DESIRED", "LIMITEDBY"] {
            ensure!(wide.contains(column), "{wide}");
        }
        ensure!(wide.contains("file:///models/digits.onnx"), "{wide}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn scale_subresource_is_read_and_written_by_kubectl() -> Result<()> {
    let cluster = cluster().await?;
    with_temp_namespace(cluster, "scale", |namespace| async move {
        let mut object = smallest("digits");
        object["metadata"]["namespace"] = json!(namespace.name);
        cluster.apply(&[object]).await?;
        let url = format!(
            "/apis/serving.tidewright.dev/v1alpha1/namespaces/{}/inferenceservices/digits/scale",
            namespace.name
        );
        let scale = || async {
            anyhow::Ok(serde_json::from_str::<Value>(
                &cluster.kubectl(["get", "--raw", &url]).await?,
            )?)
        };
        // A zero is left out by the API server's encoding.
        let before = scale().await?;
        ensure!(before["spec"]["replicas"].as_i64().unwrap_or(0) == 0, "{before}");
        let in_namespace = format!("--namespace={}", namespace.name);
        cluster
            .kubectl(["scale", "isvc/digits", "--replicas=3", &in_namespace])
            .await?;
        let fixed = scale().await?;
        ensure!(fixed["spec"]["replicas"] == 3, "{fixed}");
        let status = json!({"status": {"replicas": 2, "selector": "serving.tidewright.dev/inferenceservice=digits"}});
        let patch = format!("--patch={status}");
        cluster
            .kubectl([
                "patch",
                "isvc/digits",
                &in_namespace,
                "--subresource=status",
                "--type=merge",
                &patch,
            ])
            .await?;
        let reported = scale().await?;
        ensure!(reported["status"]["replicas"] == 2, "{reported}");
        ensure!(
            reported["status"]["selector"] == "serving.tidewright.dev/inferenceservice=digits",
            "{reported}"
        );
        // The way back to scaling automatically, and a number that cannot be.
        cluster
            .kubectl(["scale", "isvc/digits", "--replicas=0", &in_namespace])
            .await?;
        ensure!(scale().await?["spec"]["replicas"].as_i64().unwrap_or(0) == 0);
        let autoscaled = [
            "autoscale",
            "isvc/digits",
            "--min=2",
            "--max=5",
            "--cpu=70%",
            &in_namespace,
        ];
        let made = cluster.kubectl(autoscaled).await?;
        ensure!(made.contains("autoscaled"), "{made}");
        Ok(())
    })
    .await
}
