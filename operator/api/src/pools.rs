//! Pools: groups of equal replicas of one model, on GPUs or on CPUs.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, Toleration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::Resources;

/// One pool. What it does not name it takes from `spec.predictor`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pool {
    /// Name of the pool: part of the names of its Deployment and HorizontalPodAutoscaler, and the value of the metrics' selector `pool`.
    #[schemars(length(min = 1, max = 12), regex(pattern = r"^[a-z]([a-z0-9-]*[a-z0-9])?$"))]
    pub name: String,
    /// Fewest replicas of this pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub min_replicas: Option<i32>,
    /// Most replicas of this pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_replicas: Option<i32>,
    /// Resources of the server's container in this pool; they replace those of the model as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Accelerator of each replica. A pool with one counts as GPU, without one as CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator: Option<Accelerator>,
    /// Execution providers in order of preference. A provider that is not available is skipped for the next one; if none is left the model does not load.
    /// Without this field: `cuda` with an accelerator, else `cpu`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub execution_providers: Vec<ExecutionProvider>,
    /// Node labels that replicas of this pool need; they replace those of the predictor.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that replicas of this pool tolerate; they replace those of the predictor.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// Affinity of the replicas of this pool; it replaces that of the predictor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
}

/// An extended resource that each replica needs.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
pub struct Accelerator {
    /// Name of the extended resource, e.g. `nvidia.com/gpu`.
    #[schemars(length(min = 3, max = 128), regex(pattern = r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$"))]
    pub resource: String,
    /// How many of it one replica gets.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 16))]
    pub count: i32,
}

fn one() -> i32 {
    1
}

/// Where ONNX Runtime computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExecutionProvider {
    /// TensorRT on an NVIDIA GPU.
    Tensorrt,
    /// CUDA on an NVIDIA GPU.
    Cuda,
    /// The processor.
    Cpu,
}
