//! How a service scales: bounds, signals, behaviour.

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerBehavior;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Value of `spec.predictor.replicas` that stands for "scaled automatically". The API server takes no negative number where the scale subresource
/// points to, and cannot read a scale from an absent one.
pub const REPLICAS_AUTOMATIC: i32 = 0;

/// How the number of replicas is found.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AutoScaling {
    /// Who scales.
    #[serde(default)]
    pub mode: Mode,
    /// Signals; each proposes a number of replicas and the largest wins. Without any: CPU at 70 %, 1000 requests/s and 100 waiting requests per replica;
    /// mode Direct leaves CPU out then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub metrics: Vec<Metric>,
    /// What is promised to callers. Modes Advise and Direct size for it, instead of for an amount per replica; mode Hpa cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slo: Option<Slo>,
    /// Whether scaling pauses: the replicas stay as they are until it is false again.
    #[serde(default)]
    pub paused: bool,
    /// A pause with an end: the replicas stay as they are until this time, such as 2026-01-31T14:00:00Z.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 20, max = 40), extend("format" = "date-time"))]
    pub paused_until: Option<String>,
    /// How long a number of replicas that is set by hand counts, such as 30m, 2h or 1d; a week at most. After it the operator sets
    /// `spec.predictor.replicas` to 0 again, which scales automatically. Without it such a number counts until it is changed.
    #[serde(default, rename = "overrideTTL", skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[1-9][0-9]{0,5}(s|m|h|d)$"), length(min = 2, max = 7))]
    pub override_ttl: Option<String>,
    /// Times in which there shall be more replicas at least. A floor only: what the signals ask for beyond it counts, and none is taken away by it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub schedules: Vec<Schedule>,
    /// Speed and windows of scaling up and down, passed whole to the HorizontalPodAutoscaler; mode Direct has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behavior: Option<HorizontalPodAutoscalerBehavior>,
}

/// A floor that comes again and again.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    /// Name, as reasons and messages tell it.
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    pub name: String,
    /// When it begins, in the five fields of cron (minute, hour, day of the month, month, day of the week): `0 8 * * MON-FRI`.
    #[schemars(length(min = 9, max = 100))]
    pub schedule: String,
    /// Time zone of `schedule`, by its IANA name such as Europe/Berlin.
    #[serde(default = "crate::defaults::time_zone")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: String,
    /// How long it lasts, such as 30m, 8h or 2d; a week at most.
    #[schemars(regex(pattern = r"^[1-9][0-9]{0,4}(m|h|d)$"), length(min = 2, max = 6))]
    pub duration: String,
    /// Fewest replicas meanwhile, of each pool that it is for.
    #[schemars(range(min = 1, max = 1000))]
    pub min_replicas: i32,
    /// Pool that it is for; without it, every pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 12))]
    pub pool: Option<String>,
}

/// Who scales.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Mode {
    /// One HorizontalPodAutoscaler per pool. The status says beside it what the operator would do, where it measures enough to decide.
    #[default]
    Hpa,
    /// The HorizontalPodAutoscalers scale, and the operator says what it would do in the status and, each time that it changes, as an event.
    Advise,
    /// The operator decides each second and scales by itself; there is no HorizontalPodAutoscaler.
    Direct,
}

/// What is promised to callers.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Slo {
    /// Time from arrival to answer, such as 200ms or 2s.
    #[schemars(regex(pattern = r"^[1-9][0-9]{0,5}(ms|s)$"), length(min = 2, max = 8))]
    pub latency: String,
    /// Percent of the requests that are answered within it.
    #[serde(default = "crate::defaults::percentile")]
    #[schemars(range(min = 50, max = 99))]
    pub percentile: i32,
    /// Time that one request takes in a replica when nothing waits, such as 20ms.
    #[schemars(regex(pattern = r"^[1-9][0-9]{0,5}(ms|s)$"), length(min = 2, max = 8))]
    pub service_time: String,
    /// What becomes of requests for which, as far as a replica knows, no answer within `latency` is possible: by default they wait.
    #[serde(default)]
    pub overload: Overload,
}

/// What becomes of requests that would be answered later than was promised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Overload {
    /// They wait, for as long as `timeout` says: for callers who would rather be late than refused.
    #[default]
    Queue,
    /// They are answered 429 with Retry-After, at once or while they wait, and the others are in time under any load, as far as a replica can know. Refused
    /// ones count as demand all the same.
    Refuse,
}

/// One signal.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
pub struct Metric {
    /// Kind of the signal.
    pub r#type: MetricType,
    /// Type Resource: CPU or memory of the server's container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<ResourceMetric>,
    /// Types RequestRate (requests per second), QueueDepth (waiting requests) and Concurrency (requests in work or waiting): how much of it one replica
    /// should have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<MetricTarget>,
    /// Type External: a query of your own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalMetric>,
}

/// Kind of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum MetricType {
    /// CPU or memory, from metrics-server.
    Resource,
    /// Arriving inference requests per second, from Prometheus.
    RequestRate,
    /// Inference requests that wait, from Prometheus.
    QueueDepth,
    /// Inference requests that are accepted and not answered yet, from Prometheus.
    Concurrency,
    /// A PromQL query.
    External,
}

/// CPU or memory of the server's container.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
pub struct ResourceMetric {
    /// Name of the resource.
    pub name: ResourceName,
    /// How much of it one replica should use.
    pub target: MetricTarget,
}

/// Resources that metrics-server measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ResourceName {
    /// Processor time.
    Cpu,
    /// Working set.
    Memory,
}

impl ResourceName {
    /// The name as Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
        }
    }
}

/// A PromQL query as a signal.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
pub struct ExternalMetric {
    /// The query.
    pub metric: ExternalQuery,
    /// What its value is compared with.
    pub target: MetricTarget,
}

/// A PromQL query.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalQuery {
    /// Where the query runs.
    #[serde(default)]
    pub backend: Backend,
    /// Name of the signal in the metrics API, `external-<name>`. Without it, its position among the External signals, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    pub name: Option<String>,
    /// Address of Prometheus, if it is not the operator's own. Only addresses that the operator was started with are accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 256), regex(pattern = r"^https?://"))]
    pub server_address: Option<String>,
    /// PromQL with one number as its result. Every selector is narrowed to this object's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub query: Option<String>,
}

/// Where a query runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// Prometheus' HTTP API.
    #[default]
    Prometheus,
}

/// What a signal is compared with. Exactly the number that `type` names must be given.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MetricTarget {
    /// How the signal is compared.
    pub r#type: TargetType,
    /// Type Utilization: percent of the requested resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub average_utilization: Option<i32>,
    /// Type AverageValue: amount per replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub average_value: Option<Quantity>,
    /// Type Value: amount of the whole service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Quantity>,
}

impl MetricTarget {
    /// So many percent of what was requested.
    pub fn utilization(percent: i32) -> Self {
        Self {
            r#type: TargetType::Utilization,
            average_utilization: Some(percent),
            average_value: None,
            value: None,
        }
    }

    /// So much per replica.
    pub fn average_value(quantity: &str) -> Self {
        Self {
            r#type: TargetType::AverageValue,
            average_utilization: None,
            average_value: Some(Quantity(quantity.to_owned())),
            value: None,
        }
    }
}

/// How a signal is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum TargetType {
    /// Percent of the requested resource.
    Utilization,
    /// Amount per replica.
    AverageValue,
    /// Amount of the whole service.
    Value,
}
