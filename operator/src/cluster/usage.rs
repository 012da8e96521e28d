//! What the servers use of processor and memory, from metrics.k8s.io: one list for all services, in all namespaces.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::Client;
use kube::api::ListParams;
use kube::core::Request;
use serde::Deserialize;
use tidewright_api::{labels, names};

use super::call::call;
use crate::domain::quantity::thousandths;
use crate::domain::usage::{Usage, Usages};
use crate::error::Result;

const PODS: &str = "/apis/metrics.k8s.io/v1beta1/pods";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct List {
    items: Vec<PodMetrics>,
}

/// No field is needed to decode it: one pod that says less must not hide the others.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PodMetrics {
    metadata: Metadata,
    timestamp: String,
    window: String,
    containers: Vec<ContainerMetrics>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metadata {
    namespace: String,
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ContainerMetrics {
    name: String,
    usage: BTreeMap<String, Quantity>,
}

/// What every server of ours used last.
///
/// # Errors
/// `NotFound` where nobody serves metrics.k8s.io; what the API server says otherwise.
pub async fn usages(client: &Client) -> Result<Usages> {
    let ours = ListParams::default().labels(&format!("{}={}", labels::MANAGED_BY, labels::MANAGER));
    let listing = async {
        let request = Request::new(PODS).list(&ours).map_err(kube::Error::BuildRequest)?;
        client.request::<List>(request).await
    };
    let list = call(|| "list what pods use (metrics.k8s.io)".to_owned(), listing).await?;
    Ok(known(list))
}

fn known(list: List) -> Usages {
    let items = list.items.into_iter();
    items
        .filter_map(|pod| {
            let usage = of_server(&pod)?;
            Some(((pod.metadata.namespace, pod.metadata.name), usage))
        })
        .collect()
}

fn of_server(pod: &PodMetrics) -> Option<Usage> {
    let mut containers = pod.containers.iter();
    let server = containers.find(|container| container.name == names::SERVER_CONTAINER)?;
    let amount = |resource: &str| thousandths(server.usage.get(resource)?);
    Some(Usage {
        at: pod.timestamp.parse::<Timestamp>().ok()?,
        window: pod.window.parse::<SignedDuration>().ok()?,
        cpu_millis: amount("cpu")?,
        memory_millis: amount("memory")?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(items: &Value) -> Usages {
        let text =
            json!({"kind": "PodMetricsList", "apiVersion": "metrics.k8s.io/v1beta1", "metadata": {}, "items": items});
        known(serde_json::from_str(&text.to_string()).unwrap())
    }

    fn item(name: &str, window: &str, container: &str) -> Value {
        json!({"metadata": {"name": name, "namespace": "demo", "creationTimestamp": "2026-01-01T00:00:30Z", "labels": {"a": "b"}},
            "timestamp": "2026-01-01T00:00:12Z", "window": window,
            "containers": [
                {"name": "redis", "usage": {"cpu": "900m", "memory": "1Gi"}},
                {"name": container, "usage": {"cpu": "123456789n", "memory": "102400Ki"}}]})
    }

    #[test]
    fn the_server_of_each_pod_counts_and_nothing_beside_it() {
        let usages = read(&json!([
            item("a", "10.061s", "kserve-container"),
            item("b", "1m0s", "kserve-container")
        ]));
        let of = |name: &str| usages[&("demo".to_owned(), name.to_owned())];
        assert_eq!(of("a").at, "2026-01-01T00:00:12Z".parse().unwrap());
        assert_eq!((of("a").cpu_millis, of("a").memory_millis), (124, 104_857_600_000));
        assert_eq!(of("a").window, SignedDuration::from_millis(10_061));
        assert_eq!(of("b").window, SignedDuration::from_secs(60));
    }

    #[test]
    fn a_pod_that_says_less_than_it_should_is_missing_and_the_others_are_there() {
        let mut without_memory = item("c", "10s", "kserve-container");
        without_memory["containers"][1]["usage"] = json!({"cpu": "1"});
        let mut without_time = item("d", "10s", "kserve-container");
        without_time["timestamp"] = json!("yesterday");
        let usages = read(&json!([
            item("a", "10s", "kserve-container"),
            item("b", "10s", "another"),
            without_memory,
            without_time,
            item("e", "some time", "kserve-container"),
            {"metadata": {"name": "f", "namespace": "demo"}},
        ]));
        assert_eq!(usages.len(), 1, "{usages:?}");
        assert!(read(&json!([])).is_empty());
    }
}
