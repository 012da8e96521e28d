//! What is served: format, address, resources, environment.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The model of a predictor.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Model {
    /// Format of the model file.
    pub model_format: ModelFormat,
    /// Where the model file is. `pvc://CLAIM/PATH` is a file on a PersistentVolumeClaim of the same namespace, mounted read-only;
    /// `file:///PATH` is a file inside the server's image.
    #[schemars(length(min = 8, max = 1024))]
    pub storage_uri: String,
    /// SHA-256 of the model file, `sha256:` and 64 hexadecimal digits. The server refuses a file with another digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^sha256:[0-9a-f]{64}$"))]
    pub digest: Option<String>,
    /// CPU, memory and other resources of the server's container. Without a CPU request it asks for 500m, without memory for 1Gi; memory is always limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Environment variables of the server's container, as plain values. References to Secrets are not offered: they would let whoever may
    /// write this object read Secrets that they may not read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Vec<EnvVar>,
}

/// Format of the model file.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
pub struct ModelFormat {
    /// Name of the format.
    pub name: ModelFormatName,
}

/// Formats that the bundled server loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ModelFormatName {
    /// Open Neural Network Exchange.
    Onnx,
}

/// Resources of a container, as in a pod, without resource claims.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
pub struct Resources {
    /// What the scheduler sets aside.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub requests: BTreeMap<String, Quantity>,
    /// What the container may use at most.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub limits: BTreeMap<String, Quantity>,
}

/// One environment variable.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
pub struct EnvVar {
    /// Name of the variable.
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub name: String,
    /// Value of the variable.
    #[serde(default)]
    #[schemars(length(max = 4096))]
    pub value: String,
}
