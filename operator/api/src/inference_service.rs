//! The main kind: `InferenceService`.

#![allow(
    clippy::duplicated_attributes,
    reason = "the lint takes the columns of the derive macro for one attribute"
)]

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, Toleration};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cache::Cache;
use crate::defaults;
use crate::model::Model;
use crate::pools::Pool;
use crate::scaling::AutoScaling;
use crate::status::InferenceServiceStatus;

/// What should be served, and how it scales.
#[derive(CustomResource, Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "serving.tidewright.dev",
    version = "v1alpha1",
    kind = "InferenceService",
    plural = "inferenceservices",
    singular = "inferenceservice",
    shortname = "isvc",
    shortname = "tide",
    category = "all",
    category = "tidewright",
    namespaced,
    status = "InferenceServiceStatus",
    derive = "PartialEq",
    doc = "A served model that scales itself: apply one, get Deployments, HorizontalPodAutoscalers and Services.",
    scale(
        spec_replicas_path = ".spec.predictor.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "URL",
        type_ = "string",
        json_path = ".status.url",
        description = "Address inside the cluster"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status",
        description = "Whether every pool of this generation serves"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason",
        description = "Why it is, or is not, ready"
    ),
    printcolumn(
        name = "GPU",
        type_ = "string",
        json_path = ".status.gpu",
        description = "Ready/desired replicas on GPUs"
    ),
    printcolumn(
        name = "CPU",
        type_ = "string",
        json_path = ".status.cpu",
        description = "Ready/desired replicas on CPUs"
    ),
    printcolumn(
        name = "Queue",
        type_ = "string",
        json_path = ".status.queue",
        description = "Waiting requests, two significant digits; ? where Prometheus does not say"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Time since creation"
    ),
    printcolumn(
        name = "Model",
        type_ = "string",
        json_path = ".spec.predictor.model.storageUri",
        priority = 1,
        description = "Address of the model file"
    ),
    printcolumn(
        name = "Digest",
        type_ = "string",
        json_path = ".status.model.digest",
        priority = 1,
        description = "Digest of the model that is asked for, or else served"
    ),
    printcolumn(
        name = "Desired",
        type_ = "integer",
        json_path = ".status.desiredReplicas",
        priority = 1,
        description = "Replicas that scaling asks for"
    ),
    printcolumn(
        name = "LimitedBy",
        type_ = "string",
        json_path = ".status.limitedBy",
        priority = 1,
        description = "What keeps scaling from what the signals ask for"
    )
)]
pub struct InferenceServiceSpec {
    /// The model server and how it scales.
    pub predictor: Predictor,
    /// Pools of replicas of the same model, e.g. one on GPUs and one on CPUs. Without this field there is one pool, `cpu`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub pools: Vec<Pool>,
    /// Result cache: an answer to an identical request is given again without computing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<Cache>,
}

/// The model server and how it scales.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Predictor {
    /// What is served.
    pub model: Model,
    /// A fixed number of replicas over all pools; 0, the default, stands for "scaled automatically". `kubectl scale` writes it, and so does a
    /// HorizontalPodAutoscaler of your own. While it is not 0 the operator's HorizontalPodAutoscalers are gone. The way back: set it to 0.
    #[serde(default = "defaults::replicas")]
    #[schemars(range(min = 0, max = 10000))]
    pub replicas: i32,
    /// Fewest replicas of each pool that does not say otherwise.
    #[serde(default = "defaults::min_replicas")]
    #[schemars(range(min = 1, max = 1000))]
    pub min_replicas: i32,
    /// Most replicas of each pool that does not say otherwise.
    #[serde(default = "defaults::max_replicas")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_replicas: i32,
    /// Most requests that one replica works on or queues at a time; 0 leaves only the server's own bound. Beyond it a request is answered 429 at once.
    #[serde(default = "defaults::container_concurrency")]
    #[schemars(range(min = 0, max = 100_000))]
    pub container_concurrency: i32,
    /// Seconds after which a request that has not been answered is given up with 504.
    #[serde(default = "defaults::timeout_seconds")]
    #[schemars(range(min = 1, max = 3600))]
    pub timeout: i64,
    /// How requests are put together before the model runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batcher: Option<Batcher>,
    /// Signals and behaviour of scaling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_scaling: Option<AutoScaling>,
    /// ServiceAccount of the pods. Without it they get one of their own that has no rights. No token is mounted in either case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"))]
    pub service_account_name: Option<String>,
    /// Node labels that every replica needs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that every replica tolerates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// Affinity of every replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Labels for the pods, beside the operator's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub labels: BTreeMap<String, String>,
    /// Annotations for the pods, beside the operator's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub annotations: BTreeMap<String, String>,
}

/// How requests are put together before the model runs.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Batcher {
    /// Most items of one run of the model.
    #[serde(default = "defaults::max_batch_size")]
    #[schemars(range(min = 1, max = 4096))]
    pub max_batch_size: i32,
    /// Milliseconds that a batch may wait to fill; 0 never waits.
    #[serde(default = "defaults::max_latency_millis")]
    #[schemars(range(min = 0, max = 60_000))]
    pub max_latency: i32,
    /// Seconds after which a request of a batch that has not been answered is given up with 504, where that is less than the predictor's `timeout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3600))]
    pub timeout: Option<i64>,
}

impl InferenceService {
    /// Whether the operator scales this service, rather than a fixed number or somebody else's autoscaler.
    pub fn is_scaled_automatically(&self) -> bool {
        self.spec.predictor.replicas == crate::scaling::REPLICAS_AUTOMATIC
    }
}
