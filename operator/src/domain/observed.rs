//! What was observed of one service: the facts that its status is made of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Pod;

use super::decided::Decided;
use super::published::Reading;
use super::signals::Signals;

/// Facts about one service. A Deployment here is as it is after this reconcile's own writes.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// By pool.
    pub deployments: BTreeMap<String, Arc<Deployment>>,
    /// By pool; absent where a fixed number was asked for, or before the first observation.
    pub autoscalers: BTreeMap<String, Arc<HorizontalPodAutoscaler>>,
    /// Pools whose Deployment, as it was last written, has been seen rolled out completely: since then only its number of replicas can have changed.
    pub settled: BTreeSet<String>,
    /// Every pod of the service.
    pub pods: Vec<Arc<Pod>>,
    /// Readings of the operator's own signals, by pool and position in the spec; `None` for CPU and memory.
    pub readings: BTreeMap<String, Vec<Option<Reading>>>,
    /// Waiting requests of all pools.
    pub queue: Option<Reading>,
    /// Digests of what its pods have loaded, as they say themselves; empty while unknown.
    pub digests: BTreeSet<String>,
    /// What the operator itself decided; absent before the first decision, and where it has nothing to decide by.
    pub decided: Option<Arc<Decided>>,
    /// Whether autoscalers can read the readings.
    pub signals: Signals,
}
