//! How many pods may be evicted at a time.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::metadata;
use crate::domain::validated::Validated;

/// One at a time, over all pools. Not a minimum: a service of one replica must not keep its node from being drained.
const UNAVAILABLE_MAX: i32 = 1;

pub(super) fn build(service: &Validated) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: metadata::object(service, service.name.clone(), None),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(UNAVAILABLE_MAX)),
            selector: Some(metadata::selector(service, None)),
            // A pod that does not serve protects nobody: it may go.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}
