//! A metrics API that follows a script: one step per sync of an autoscaler, which it notes with what the autoscaler saw of the scale.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::{Api, Client};
use serde_json::{Value, json};
use tidewright_e2e::aggregated_api::{AggregatedApi, Answers, Served};
use tidewright_e2e::clock;
use tidewright_e2e::control_plane::ControlPlane;

use super::PATIENCE;
use super::cases::Case;

const GROUP: &str = "custom.metrics.k8s.io";
const VERSION: &str = "v1beta2";

/// One sync of an autoscaler, as it began.
#[derive(Debug)]
pub struct Sync {
    pub at_ns: i64,
    pub spec_replicas: i32,
    pub status_replicas: i32,
    /// Whether the sync before this one could not write the scale, because somebody had written the Deployment meanwhile.
    pub is_after_conflict: bool,
}

struct Shared {
    client: Client,
    namespace: String,
    steps: BTreeMap<String, Vec<Vec<Option<i64>>>>,
    syncs: Mutex<BTreeMap<String, Vec<Arc<Sync>>>>,
}

pub struct MetricsApi {
    api: AggregatedApi,
    shared: Arc<Shared>,
}

impl MetricsApi {
    pub async fn start(cluster: &ControlPlane, namespace: &str, cases: &[Case]) -> Result<Self> {
        let shared = Arc::new(Shared {
            client: cluster.client().await?,
            namespace: namespace.to_owned(),
            steps: cases
                .iter()
                .map(|case| (case.name.clone(), case.steps.clone()))
                .collect(),
            syncs: Mutex::default(),
        });
        let served = Served {
            group: GROUP,
            version: VERSION,
            resources: json!([{"name": "services/load-0", "singularName": "", "namespaced": true, "kind": "MetricValueList", "verbs": ["get"]}]),
        };
        let answering = Arc::clone(&shared);
        let answers: Answers = Arc::new(move |parts| {
            let shared = Arc::clone(&answering);
            Box::pin(async move { answer(&shared, &parts).await })
        });
        let api = AggregatedApi::start(cluster, served, answers).await?;
        Ok(Self { api, shared })
    }

    /// Leads the API server to it, and waits until it is led.
    pub async fn register(&self, cluster: &ControlPlane) -> Result<()> {
        self.api.register(cluster, &self.shared.namespace, PATIENCE).await
    }

    pub fn syncs(&self, case: &str) -> Vec<Arc<Sync>> {
        self.shared.syncs.lock().unwrap().get(case).cloned().unwrap_or_default()
    }
}

async fn answer(shared: &Shared, parts: &[String]) -> Result<Option<Value>> {
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let ["namespaces", _, "services", case, metric] = parts.as_slice() else {
        return Ok(None);
    };
    let index: usize = metric.strip_prefix("load-").context("no such metric")?.parse()?;
    let now = clock::time_of_day()?.to_string();
    Ok(shared.value(case, index).await?.map(|value| {
        json!({"kind": "MetricValueList", "apiVersion": format!("{GROUP}/{VERSION}"), "metadata": {}, "items": [{
            "describedObject": {"kind": "Service", "namespace": shared.namespace, "name": case, "apiVersion": "v1"},
            "metric": {"name": metric}, "timestamp": now, "value": format!("{value}m")}]})
    }))
}

impl Shared {
    /// The first metric of an autoscaler begins a sync. The controller waits for this answer: what is read now is what it goes by.
    async fn value(&self, case: &str, index: usize) -> Result<Option<i64>> {
        let steps = self.steps.get(case).context("no such case")?;
        if index == 0 {
            let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), &self.namespace);
            let at_ns = i64::try_from(clock::time_of_day()?.as_nanosecond())?;
            let scale = deployments.get_scale(case).await?;
            let autoscalers: Api<HorizontalPodAutoscaler> = Api::namespaced(self.client.clone(), &self.namespace);
            let status = autoscalers.get(case).await?.status.unwrap_or_default();
            let mut conditions = status.conditions.iter().flatten();
            let sync = Sync {
                is_after_conflict: conditions.any(|c| c.reason.as_deref() == Some("FailedUpdateScale")),
                at_ns,
                spec_replicas: scale.spec.and_then(|spec| spec.replicas).unwrap_or(0),
                status_replicas: scale.status.map_or(0, |status| status.replicas),
            };
            self.syncs
                .lock()
                .unwrap()
                .entry(case.to_owned())
                .or_default()
                .push(Arc::new(sync));
        }
        let begun = self.syncs.lock().unwrap().get(case).map_or(0, Vec::len);
        // Beyond the script nothing is compared.
        let step = steps.get(begun.saturating_sub(1)).or(steps.last()).context("no step")?;
        Ok(step.get(index).copied().flatten())
    }
}
