//! Every default, as a function with its reason.

use crate::model::Resources;
use crate::scaling::{Metric, MetricTarget, MetricType, ResourceMetric};

/// One replica: a service answers as soon as it is applied.
pub fn min_replicas() -> i32 {
    1
}
/// Ten replicas: room to scale without surprising a cluster's budget.
pub fn max_replicas() -> i32 {
    10
}
/// A minute, as in KServe.
pub fn timeout_seconds() -> i64 {
    60
}
/// No limit of concurrent requests per replica beyond the server's bounded queue, as in KServe.
pub fn container_concurrency() -> i32 {
    0
}
/// Batches of 32: past it, small models gain little and big ones lose their cache.
pub fn max_batch_size() -> i32 {
    32
}
/// Never wait for a batch to fill: greedy batching adds no latency.
pub fn max_latency_millis() -> i32 {
    0
}
/// 95 of 100: what most objectives of latency name, and what a few minutes of load can show.
pub fn percentile() -> i32 {
    95
}
/// The one that no government changes.
pub fn time_zone() -> String {
    "UTC".to_owned()
}
/// Zero stands for "scaled automatically": the scale subresource needs a number to be there.
pub fn replicas() -> i32 {
    crate::scaling::REPLICAS_AUTOMATIC
}
/// Five minutes: long enough to be of use, short enough not to surprise.
pub fn cache_ttl() -> String {
    "5m".to_owned()
}
/// 64 MiB beside each server.
pub fn redis_max_memory() -> k8s_openapi::apimachinery::pkg::api::resource::Quantity {
    k8s_openapi::apimachinery::pkg::api::resource::Quantity("64Mi".to_owned())
}
/// CPU of a server that asks for none. A share must be asked for, or a utilisation has nothing to be a share of.
pub const CPU_REQUEST: &str = "500m";
/// Memory of a server that asks for none; it is also the limit.
pub const MEMORY: &str = "1Gi";

/// What a container gets when the spec names no resources; what it names wins.
pub fn resources(given: Option<&Resources>) -> Resources {
    let mut all = given.cloned().unwrap_or_default();
    let quantity = |text: &str| k8s_openapi::apimachinery::pkg::api::resource::Quantity(text.to_owned());
    if !all.requests.contains_key("cpu") {
        let cpu = all.limits.get("cpu").cloned().unwrap_or_else(|| quantity(CPU_REQUEST));
        all.requests.insert("cpu".to_owned(), cpu);
    }
    if !all.requests.contains_key("memory") {
        let memory = all.limits.get("memory").cloned().unwrap_or_else(|| quantity(MEMORY));
        all.requests.insert("memory".to_owned(), memory);
    }
    if !all.limits.contains_key("memory") {
        let memory = all.requests["memory"].clone();
        all.limits.insert("memory".to_owned(), memory);
    }
    all
}

/// The three signals of a service that names none; the largest proposal wins.
pub fn metrics() -> Vec<Metric> {
    let average = |text: &str| MetricTarget::average_value(text);
    vec![
        Metric {
            r#type: MetricType::Resource,
            resource: Some(ResourceMetric {
                name: crate::scaling::ResourceName::Cpu,
                target: MetricTarget::utilization(70),
            }),
            target: None,
            external: None,
        },
        Metric {
            r#type: MetricType::RequestRate,
            resource: None,
            target: Some(average("1000")),
            external: None,
        },
        Metric {
            r#type: MetricType::QueueDepth,
            resource: None,
            target: Some(average("100")),
            external: None,
        },
    ]
}
