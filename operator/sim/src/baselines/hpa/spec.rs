//! What a HorizontalPodAutoscaler asks for: bounds, metrics with targets, behavior, and the API's defaults.
//!
//! Defaults are those of `pkg/apis/autoscaling/v2/defaults.go`. Quantities are milli-units, as the controller sees them (`Quantity.MilliValue()`).

/// `spec` of a HorizontalPodAutoscaler.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// Namespace of the object; only messages show it.
    pub namespace: String,
    /// `None` is the API's default, 1.
    pub min_replicas: Option<i32>,
    pub max_replicas: i32,
    /// Must not be empty: the API server replaces an empty list by [`Metric::default_cpu`].
    pub metrics: Vec<Metric>,
    /// `None` selects the legacy rules, `Some(Behavior::default())` the default behavior; they differ.
    pub behavior: Option<Behavior>,
}

impl Spec {
    pub fn min_replicas(&self) -> i32 {
        self.min_replicas.unwrap_or(1)
    }

    /// Whether a metric exists without pods, so that it can wake a workload up.
    pub fn has_object_or_external_metric(&self) -> bool {
        let from_outside = |metric: &Metric| matches!(metric, Metric::Object { .. } | Metric::External { .. });
        self.metrics.iter().any(from_outside)
    }
}

/// A resource of the metrics API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// In milli-cores.
    Cpu,
    /// In milli-bytes.
    Memory,
}

impl Resource {
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
        }
    }
}

/// One of `spec.metrics`.
#[derive(Debug, Clone, PartialEq)]
pub enum Metric {
    Resource {
        resource: Resource,
        target: ResourceTarget,
    },
    ContainerResource {
        resource: Resource,
        container: String,
        target: ResourceTarget,
    },
    Pods {
        name: String,
        /// `target.averageValue`.
        average_milli: i64,
    },
    Object {
        name: String,
        /// Kind and name of the described object; only messages show them.
        kind: String,
        object: String,
        /// The metric's label selector as Go prints it (`nil`, or `&LabelSelector{…}`); only messages show it.
        selector: String,
        target: ValueTarget,
    },
    External {
        name: String,
        /// As in [`Metric::Object`].
        selector: String,
        target: ValueTarget,
    },
}

impl Metric {
    /// What an HPA without metrics gets: 80 % of the requested CPU.
    pub fn default_cpu() -> Self {
        Self::Resource {
            resource: Resource::Cpu,
            target: ResourceTarget::Utilization(80),
        }
    }
}

/// Target of a resource metric. With both in the object, the controller uses the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResourceTarget {
    /// Percent of the request.
    Utilization(i32),
    /// Milli-units per pod.
    AverageValue(i64),
}

/// Target of an object or external metric, in milli-units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueTarget {
    /// For all pods together; the ready pods are scaled by value / target.
    Value(i64),
    /// Per pod; the count is value / target.
    AverageValue(i64),
}

/// `spec.behavior`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Behavior {
    pub scale_up: ScalingRules,
    pub scale_down: ScalingRules,
}

/// Rules of one direction. What is `None` gets the API's default for that direction.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ScalingRules {
    pub stabilization_window_seconds: Option<i32>,
    pub select_policy: Option<SelectPolicy>,
    pub policies: Option<Vec<Policy>>,
    /// Ratio; `None` is the controller's flag.
    pub tolerance: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SelectPolicy {
    /// The policy that allows the largest change. The default.
    Max,
    /// The policy that allows the smallest change.
    Min,
    /// No change in this direction.
    Disabled,
}

/// How far the count may move within a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    pub kind: PolicyKind,
    pub value: i32,
    pub period_seconds: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyKind {
    Pods,
    Percent,
}

const DEFAULT_UP: [Policy; 2] = [
    Policy {
        kind: PolicyKind::Pods,
        value: 4,
        period_seconds: 15,
    },
    Policy {
        kind: PolicyKind::Percent,
        value: 100,
        period_seconds: 15,
    },
];
const DEFAULT_DOWN: [Policy; 1] = [Policy {
    kind: PolicyKind::Percent,
    value: 100,
    period_seconds: 15,
}];

impl Behavior {
    pub fn up_policies(&self) -> &[Policy] {
        self.scale_up.policies.as_deref().unwrap_or(&DEFAULT_UP)
    }

    pub fn down_policies(&self) -> &[Policy] {
        self.scale_down.policies.as_deref().unwrap_or(&DEFAULT_DOWN)
    }

    pub fn up_window_seconds(&self) -> i32 {
        self.scale_up.stabilization_window_seconds.unwrap_or(0)
    }

    /// `flag_seconds`: the controller's `--horizontal-pod-autoscaler-downscale-stabilization`.
    pub fn down_window_seconds(&self, flag_seconds: i32) -> i32 {
        self.scale_down.stabilization_window_seconds.unwrap_or(flag_seconds)
    }
}

impl ScalingRules {
    pub fn select_policy(&self) -> SelectPolicy {
        self.select_policy.unwrap_or(SelectPolicy::Max)
    }
}
