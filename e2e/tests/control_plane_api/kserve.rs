//! KServe v1beta1 manifests, written from its documented fields, with nothing but the `apiVersion` changed: accepted whole, or refused by field.
use anyhow::{Result, ensure};
use serde_json::Value;
use tidewright_e2e::fixtures::objects;

use super::{cluster, try_create};

const KSERVE: &str = "serving.kserve.io/v1beta1";
const OURS: &str = "serving.tidewright.dev/v1alpha1";

/// Raw deployment, ONNX, resources, bounds, batcher, autoscaling with behaviour.
const RAW_ONNX: &str = r#"
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: style-sample
  annotations:
    serving.kserve.io/deploymentMode: RawDeployment
    serving.kserve.io/autoscalerClass: hpa
spec:
  predictor:
    minReplicas: 1
    maxReplicas: 5
    containerConcurrency: 10
    timeout: 60
    serviceAccountName: models
    labels: {team: vision}
    nodeSelector: {kubernetes.io/arch: amd64}
    tolerations:
    - {key: dedicated, operator: Equal, value: inference, effect: NoSchedule}
    batcher:
      maxBatchSize: 32
      maxLatency: 5
    autoScaling:
      metrics:
      - type: Resource
        resource:
          name: cpu
          target:
            type: Utilization
            averageUtilization: 50
      - type: External
        external:
          metric:
            backend: prometheus
            serverAddress: http://prometheus.monitoring:9090
            query: sum(rate(http_requests_total[1m]))
          target:
            type: AverageValue
            averageValue: 50
      behavior:
        scaleDown:
          stabilizationWindowSeconds: 300
          policies:
          - {type: Percent, value: 50, periodSeconds: 60}
    model:
      modelFormat:
        name: onnx
      storageUri: pvc://models/style/model.onnx
      env:
      - {name: OMP_NUM_THREADS, value: "2"}
      resources:
        requests: {cpu: 100m, memory: 256Mi}
        limits: {cpu: "1", memory: 1Gi}
"#;

/// The first sample of KServe's own introduction: a format and a store that are not offered.
const SKLEARN_ON_GCS: &str = r"
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: sklearn-iris
spec:
  predictor:
    model:
      modelFormat:
        name: sklearn
      storageUri: gs://kfserving-examples/models/sklearn/1.0/model
";

/// Canary share, transformer, scale target in one number, payload logger.
const CANARY_WITH_TRANSFORMER: &str = r"
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: torchserve-transformer
spec:
  transformer:
    containers:
    - name: kserve-container
      image: kserve/image-transformer:latest
  predictor:
    canaryTrafficPercent: 20
    scaleMetric: concurrency
    scaleTarget: 5
    logger: {mode: all, url: http://message-dumper}
    model:
      modelFormat: {name: onnx, version: '1'}
      storageUri: pvc://models/style/model.onnx
";

fn ours(manifest: &str) -> Value {
    assert_eq!(manifest.matches(KSERVE).count(), 1);
    objects(&manifest.replace(KSERVE, OURS)).unwrap().remove(0)
}

#[tokio::test]
async fn kserve_manifest_of_known_fields_is_accepted_whole() -> Result<()> {
    let client = cluster().await?.client().await?;
    let manifest = ours(RAW_ONNX);
    let created = try_create(&client, &manifest).await.map_err(anyhow::Error::msg)?;
    let kept = contains(&created["spec"], &manifest["spec"]);
    ensure!(kept, "something was dropped or changed: {created:#}");
    Ok(())
}

#[tokio::test]
async fn kserve_manifest_with_another_format_and_store_is_refused_by_field() -> Result<()> {
    let client = cluster().await?.client().await?;
    let mut manifest = ours(SKLEARN_ON_GCS);
    let message = try_create(&client, &manifest).await.unwrap_err();
    ensure!(message.contains("spec.predictor.model.modelFormat.name"), "{message}");
    manifest["spec"]["predictor"]["model"]["modelFormat"]["name"] = "onnx".into();
    let message = try_create(&client, &manifest).await.unwrap_err();
    ensure!(message.contains("spec.predictor.model.storageUri"), "{message}");
    ensure!(message.contains("pvc://CLAIM/PATH"), "{message}");
    Ok(())
}

#[tokio::test]
async fn kserve_manifest_with_unknown_fields_is_refused_by_each_of_them() -> Result<()> {
    let client = cluster().await?.client().await?;
    let message = try_create(&client, &ours(CANARY_WITH_TRANSFORMER)).await.unwrap_err();
    for field in [
        "spec.transformer",
        "spec.predictor.canaryTrafficPercent",
        "spec.predictor.scaleMetric",
        "spec.predictor.scaleTarget",
        "spec.predictor.logger",
        "spec.predictor.model.modelFormat.version",
    ] {
        ensure!(
            message.contains(&format!("unknown field \"{field}\"")),
            "{field}: {message}"
        );
    }
    Ok(())
}

fn contains(all: &Value, part: &Value) -> bool {
    match (all, part) {
        (Value::Object(all), Value::Object(part)) => part
            .iter()
            .all(|(key, value)| all.get(key).is_some_and(|all| contains(all, value))),
        (Value::Array(all), Value::Array(part)) => {
            all.len() == part.len() && all.iter().zip(part).all(|(all, part)| contains(all, part))
        }
        _ => all == part,
    }
}
