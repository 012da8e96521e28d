//! Every kind of object that the operator owns: one list, for applying, pruning, watching and for the rights it needs.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

/// The children of one service, in the order in which they are applied: what a pod needs comes before the pod.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Objects {
    /// The pods' own account, without rights.
    pub service_accounts: Vec<ServiceAccount>,
    /// Server configuration per pool, named by its content.
    pub config_maps: Vec<ConfigMap>,
    /// Who may talk to the pods.
    pub network_policies: Vec<NetworkPolicy>,
    /// For clients, and one that resolves to each pod.
    pub services: Vec<Service>,
    /// How many pods may be evicted at a time.
    pub disruption_budgets: Vec<PodDisruptionBudget>,
    /// One per pool.
    pub deployments: Vec<Deployment>,
    /// One per pool that scales.
    pub autoscalers: Vec<HorizontalPodAutoscaler>,
}

/// Calls a macro with every kind: `(field of Objects, type)`.
macro_rules! for_each_kind {
    ($callback:ident) => {
        $callback! {
            (service_accounts, k8s_openapi::api::core::v1::ServiceAccount),
            (config_maps, k8s_openapi::api::core::v1::ConfigMap),
            (network_policies, k8s_openapi::api::networking::v1::NetworkPolicy),
            (services, k8s_openapi::api::core::v1::Service),
            (disruption_budgets, k8s_openapi::api::policy::v1::PodDisruptionBudget),
            (deployments, k8s_openapi::api::apps::v1::Deployment),
            (autoscalers, k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler)
        }
    };
}
pub(crate) use for_each_kind;
