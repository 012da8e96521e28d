//! What a scenario starts from: a Prometheus, an InferenceService, its address, and waiting until it is ready.
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tidewright_api::{InferenceService, labels};
use tokio::net::TcpStream;

use crate::access::Access;
use crate::wait::{Seen, await_condition};
use crate::{images, paths};

/// Where Prometheus listens, as pods name it.
pub const PROMETHEUS_URL: &str = "http://prometheus.monitoring.svc:9090";

/// The InferenceService of a scenario, as it is applied. Small requests, so that many fit on one machine, and a rollout that does not wait long.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub namespace: String,
    pub name: String,
    pub object: Value,
}

impl Scenario {
    /// A service of the model at `storage_uri` (`pvc://CLAIM/FILE`), of one to five replicas, that scales by nothing but what is added.
    pub fn new(namespace: &str, name: &str, storage_uri: &str) -> Self {
        let object = json!({
            "apiVersion": "serving.tidewright.dev/v1alpha1",
            "kind": "InferenceService",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"predictor": {
                "model": {
                    "modelFormat": {"name": "onnx"},
                    "storageUri": storage_uri,
                    "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
                },
                "minReplicas": 1,
                "maxReplicas": 5,
                "autoScaling": {"metrics": [], "behavior": quick_behavior()},
            }},
        });
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            object,
        }
    }

    /// Replaces or adds a field of `spec.predictor`, by its JSON pointer below it: `.with("/maxReplicas", json!(3))`.
    #[must_use]
    pub fn with(mut self, pointer: &str, value: Value) -> Self {
        set(&mut self.object["spec"]["predictor"], pointer, value);
        self
    }

    /// Replaces or adds a field of `spec`, such as `/pools` or `/cache`.
    #[must_use]
    pub fn with_spec(mut self, pointer: &str, value: Value) -> Self {
        set(&mut self.object["spec"], pointer, value);
        self
    }

    /// Adds a signal.
    #[must_use]
    pub fn signal(mut self, metric: Value) -> Self {
        if let Some(metrics) = self.object["spec"]["predictor"]["autoScaling"]["metrics"].as_array_mut() {
            metrics.push(metric);
        }
        self
    }

    /// CPU, as percent of the request.
    #[must_use]
    pub fn cpu(self, percent: u32) -> Self {
        let target = json!({"type": "Utilization", "averageUtilization": percent});
        self.signal(json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}))
    }

    /// Requests per second and replica.
    #[must_use]
    pub fn request_rate(self, per_replica: &str) -> Self {
        self.signal(json!({"type": "RequestRate", "target": {"type": "AverageValue", "averageValue": per_replica}}))
    }

    /// Waiting requests per replica.
    #[must_use]
    pub fn queue_depth(self, per_replica: &str) -> Self {
        self.signal(json!({"type": "QueueDepth", "target": {"type": "AverageValue", "averageValue": per_replica}}))
    }

    /// Requests in work or waiting, per replica.
    #[must_use]
    pub fn concurrency(self, per_replica: &str) -> Self {
        self.signal(json!({"type": "Concurrency", "target": {"type": "AverageValue", "averageValue": per_replica}}))
    }

    /// A PromQL query, as an amount per replica.
    #[must_use]
    pub fn external(self, name: &str, query: &str, per_replica: &str) -> Self {
        self.signal(json!({"type": "External", "external": {
            "metric": {"backend": "prometheus", "name": name, "query": query},
            "target": {"type": "AverageValue", "averageValue": per_replica},
        }}))
    }

    /// Applies it as a user does: strictly, so that an unknown field is an error.
    pub async fn apply(&self, client: &Client) -> Result<InferenceService> {
        let mut parameters = PatchParams::apply("tidewright-e2e").force();
        parameters.field_validation = Some(kube::api::ValidationDirective::Strict);
        Ok(self
            .api(client)
            .patch(&self.name, &parameters, &Patch::Apply(&self.object))
            .await?)
    }

    pub fn api(&self, client: &Client) -> Api<InferenceService> {
        Api::namespaced(client.clone(), &self.namespace)
    }

    /// Waits for the condition Ready of the present generation.
    pub async fn ready(&self, client: &Client, deadline: Duration) -> Result<InferenceService> {
        await_ready(client, &self.namespace, &self.name, deadline).await
    }

    /// Where clients send requests: the Service's own address, with its load balancing.
    pub async fn address(&self, client: &Client) -> Result<SocketAddr> {
        cluster_address(client, &self.namespace, &self.name).await
    }

    /// Its pods that are not on their way out.
    pub async fn pods(&self, client: &Client) -> Result<Vec<Pod>> {
        let pods: Api<Pod> = Api::namespaced(client.clone(), &self.namespace);
        let selector = format!("{}={}", labels::SERVICE, self.name);
        let list = pods.list(&ListParams::default().labels(&selector)).await?;
        Ok(list
            .items
            .into_iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none())
            .collect())
    }
}

/// Up at once, down after five seconds: a test has no time for five minutes.
pub fn quick_behavior() -> Value {
    json!({
        "scaleUp": {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 4, "periodSeconds": 5}]},
        "scaleDown": {"stabilizationWindowSeconds": 5, "policies": [{"type": "Percent", "value": 100, "periodSeconds": 5}]},
    })
}

fn set(target: &mut Value, pointer: &str, value: Value) {
    let mut at = target;
    for step in pointer.split('/').skip(1) {
        if at.is_null() {
            *at = json!({});
        }
        at = &mut at[step];
    }
    *at = value;
}

/// Waits for the condition Ready of the present generation. The failure says what the conditions say.
pub async fn await_ready(client: &Client, namespace: &str, name: &str, deadline: Duration) -> Result<InferenceService> {
    let services: Api<InferenceService> = Api::namespaced(client.clone(), namespace);
    await_condition(
        &format!("InferenceService {namespace}/{name} to be Ready"),
        deadline,
        || async {
            let Some(service) = services.get_opt(name).await? else {
                return Ok(Seen::not_yet("no such object"));
            };
            let status = service.status.clone().unwrap_or_default();
            let is_current = status.observed_generation == service.metadata.generation;
            let is_ready = status
                .conditions
                .iter()
                .any(|condition| condition.type_ == "Ready" && condition.status == "True");
            Ok(if is_current && is_ready {
                Seen::Done(service)
            } else {
                Seen::not_yet(conditions(&service))
            })
        },
    )
    .await
}

/// The conditions in one line, for failures.
pub fn conditions(service: &InferenceService) -> String {
    let Some(status) = &service.status else {
        return "no status".to_owned();
    };
    let lines: Vec<String> = status
        .conditions
        .iter()
        .map(|condition| {
            format!(
                "{}={} {}: {}",
                condition.type_, condition.status, condition.reason, condition.message
            )
        })
        .collect();
    let (observed, generation) = (status.observed_generation, service.metadata.generation);
    format!("generation {generation:?}, observed {observed:?}; {}", lines.join("; "))
}

/// How long the node's proxy may take to learn of a ready server, and an attempt to connect through it. Until then it may drop connections to a new
/// Service, which a client only notices when its time is over.
const PROXY: Duration = Duration::from_secs(20);
const CONNECT: Duration = Duration::from_millis(500);

/// Address and first port of a Service, once connections to it are accepted.
pub async fn cluster_address(client: &Client, namespace: &str, name: &str) -> Result<SocketAddr> {
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let spec = services.get(name).await?.spec.context("a Service without spec")?;
    let port = spec
        .ports
        .unwrap_or_default()
        .first()
        .map(|port| port.port)
        .context("a Service without port")?;
    let address: IpAddr = spec
        .cluster_ip
        .context("a Service without address")?
        .parse()
        .context("a Service's address")?;
    let address = SocketAddr::new(address, u16::try_from(port)?);
    await_condition(
        &format!("the node's proxy for Service {namespace}/{name}"),
        PROXY,
        || async {
            Ok(match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
                Ok(Ok(_)) => Seen::Done(()),
                Ok(Err(refused)) => Seen::not_yet(refused.to_string()),
                Err(_) => Seen::not_yet("no answer"),
            })
        },
    )
    .await?;
    Ok(address)
}

/// Waits until every replica of a Deployment's present generation is available.
pub async fn await_deployment(client: &Client, namespace: &str, name: &str, deadline: Duration) -> Result<Deployment> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    await_condition(&format!("Deployment {namespace}/{name}"), deadline, || async {
        let Some(deployment) = deployments.get_opt(name).await? else {
            return Ok(Seen::not_yet("no such object"));
        };
        let wanted = deployment.spec.replicas.unwrap_or(1);
        let status = deployment.status.clone().unwrap_or_default();
        let current = status.observed_generation == deployment.metadata.generation;
        let (updated, available) = (
            status.updated_replicas.unwrap_or(0),
            status.available_replicas.unwrap_or(0),
        );
        if current && updated == wanted && available == wanted && status.replicas.unwrap_or(0) == wanted {
            return Ok(Seen::Done(deployment));
        }
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let waiting: Vec<String> = pods
            .list(&ListParams::default())
            .await?
            .items
            .iter()
            .filter_map(why_waiting)
            .collect();
        Ok(Seen::not_yet(format!(
            "{available} of {wanted} available; {}",
            waiting.join(", ")
        )))
    })
    .await
}

/// Why a pod's container waits, if one does.
fn why_waiting(pod: &Pod) -> Option<String> {
    let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
    let waiting = containers
        .iter()
        .find_map(|container| container.state.as_ref()?.waiting.as_ref())?;
    let (reason, message) = (
        waiting.reason.as_deref().unwrap_or_default(),
        waiting.message.as_deref().unwrap_or_default(),
    );
    Some(format!(
        "{}: {reason} {message}",
        pod.metadata.name.as_deref().unwrap_or_default()
    ))
}

/// Installs Prometheus from an image that the node has or can pull, and waits until it is ready.
pub async fn install_prometheus(access: &Access, image: &str) -> Result<()> {
    let path = paths::source_dir().join("manifests/prometheus.yaml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let text = text.replace(images::PROMETHEUS, image);
    access.apply(&objects(&text)?).await.context("applying Prometheus")?;
    let client = access.client().await?;
    await_deployment(&client, "monitoring", "prometheus", Duration::from_secs(180))
        .await
        .map(drop)
}

/// The documents of a YAML text.
pub fn objects(yaml: &str) -> Result<Vec<Value>> {
    let objects: Vec<Value> = serde_saphyr::from_multiple(yaml).context("reading YAML")?;
    Ok(objects.into_iter().filter(|object| !object.is_null()).collect())
}

/// The present value of a PromQL expression with one number as its result; None where there is no sample.
pub async fn query(prometheus: SocketAddr, expression: &str) -> Result<Option<f64>> {
    let mut url = reqwest::Url::parse(&format!("http://{prometheus}/api/v1/query"))?;
    url.query_pairs_mut().append_pair("query", expression);
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(4))
        .no_proxy()
        .build()?;
    let answer: Value = serde_json::from_slice(&client.get(url).send().await?.error_for_status()?.bytes().await?)?;
    let series = answer["data"]["result"].as_array().context("no result")?;
    match series.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one["value"][1].as_str().context("no value")?.parse()?)),
        more => bail!("{} series", more.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_is_an_object_of_the_api() {
        let scenario = Scenario::new("demo", "digits", "pvc://models/digits.onnx")
            .cpu(70)
            .request_rate("100")
            .queue_depth("2")
            .external("jobs", "sum(jobs)", "5")
            .with("/maxReplicas", json!(3))
            .with("/model/resources/limits/cpu", json!("250m"))
            .with("/batcher/maxBatchSize", json!(1))
            .with_spec("/pools", json!([{"name": "small"}]));
        let service: InferenceService = serde_json::from_value(scenario.object).unwrap();
        let predictor = &service.spec.predictor;
        assert_eq!((predictor.min_replicas, predictor.max_replicas), (1, 3));
        assert_eq!(predictor.auto_scaling.as_ref().unwrap().metrics.len(), 4);
        assert_eq!(predictor.model.resources.as_ref().unwrap().limits.len(), 2);
        assert_eq!(predictor.batcher.as_ref().unwrap().max_batch_size, 1);
        assert_eq!(service.spec.pools[0].name, "small");
    }

    #[test]
    fn the_manifest_of_prometheus_is_read_whole() {
        let path = paths::source_dir().join("manifests/prometheus.yaml");
        let kinds: Vec<String> = objects(&std::fs::read_to_string(path).unwrap())
            .unwrap()
            .iter()
            .map(|object| object["kind"].as_str().unwrap().to_owned())
            .collect();
        let expected = [
            "Namespace",
            "ServiceAccount",
            "ClusterRole",
            "ClusterRoleBinding",
            "ConfigMap",
            "Deployment",
            "Service",
        ];
        assert_eq!(kinds, expected);
    }
}
