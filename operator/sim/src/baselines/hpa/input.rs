//! What one sync sees: the scale subresource, the pods, and one reading per metric.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::spec::Resource;

/// Name of a pod; cheap to clone.
pub type PodName = Arc<str>;

/// Everything outside the HPA object that one sync looks at.
#[derive(Debug, Clone)]
pub struct Input<'a> {
    pub now_ns: i64,
    /// The scale subresource, or why it could not be read.
    pub scale: Result<Scale, String>,
    /// The pods that the scale's selector selects.
    pub pods: &'a [Pod],
    /// One per metric of the spec, in its order, as the metrics client returns them.
    pub readings: &'a [Result<Reading, String>],
    /// Why a write of the scale subresource fails in this sync, if it does.
    pub update_error: Option<String>,
}

/// `spec.replicas` and `status.replicas` of the scale subresource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    pub spec_replicas: i32,
    pub status_replicas: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Pending,
    Running,
    Succeeded,
    Failed,
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionStatus {
    True,
    False,
    Unknown,
}

/// The condition `Ready` of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadyCondition {
    pub status: ConditionStatus,
    pub last_transition_ns: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    pub name: PodName,
    pub phase: Phase,
    /// A deletion timestamp is set.
    pub deleting: bool,
    /// `status.startTime`. The API has whole seconds, here and in [`ReadyCondition`].
    pub start_ns: Option<i64>,
    pub ready: Option<ReadyCondition>,
    /// The containers, then the init containers that restart always (sidecars). Other init containers do not count.
    pub containers: Vec<Container>,
    /// Where `spec.resources.requests` is set: the pod's requests as `resourcehelpers.PodRequests` adds them up.
    pub pod_level_requests: Option<Requests>,
}

impl Pod {
    /// Running and ready: what `Value` targets are scaled by.
    pub fn is_running_and_ready(&self) -> bool {
        let is_ready = self.ready.is_some_and(|ready| ready.status == ConditionStatus::True);
        self.phase == Phase::Running && is_ready
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    pub name: String,
    pub requests: Requests,
}

/// Requests in milli-units; `None` where there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Requests {
    pub cpu_milli: Option<i64>,
    pub memory_milli: Option<i64>,
}

impl Requests {
    pub fn of(self, resource: Resource) -> Option<i64> {
        match resource {
            Resource::Cpu => self.cpu_milli,
            Resource::Memory => self.memory_milli,
        }
    }
}

/// One pod's sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodMetric {
    pub value_milli: i64,
    /// Time and length of the measurement; only CPU looks at them.
    pub timestamp_ns: i64,
    pub window_ns: i64,
}

pub type PodMetrics = BTreeMap<PodName, PodMetric>;

/// What a metrics API answered, in milli-units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// For Resource, ContainerResource and Pods metrics.
    PerPod(PodMetrics),
    /// For Object metrics.
    Object(i64),
    /// For External metrics: one value per series.
    External(Vec<i64>),
}
