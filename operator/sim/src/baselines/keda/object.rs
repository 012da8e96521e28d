//! What a ScaledObject asks for, and the HPA that KEDA makes of it.

use super::super::hpa::spec::{Behavior, Metric, ScalingRules, SelectPolicy, Spec, ValueTarget};
use super::SECOND_NS;
use super::prometheus;

/// `spec` of a ScaledObject and the annotations that change what happens. `None` gets KEDA's default.
#[derive(Debug, Clone, PartialEq)]
pub struct ScaledObject {
    pub namespace: String,
    pub name: String,
    /// When it was created; whole seconds count.
    pub created_ns: i64,
    pub polling_interval_seconds: Option<i32>,
    pub cooldown_period_seconds: Option<i32>,
    pub initial_cooldown_period_seconds: Option<i32>,
    pub idle_replica_count: Option<i32>,
    pub min_replica_count: Option<i32>,
    pub max_replica_count: Option<i32>,
    pub triggers: Vec<Trigger>,
    pub fallback: Option<Fallback>,
    /// `advanced.horizontalPodAutoscalerConfig.behavior`.
    pub behavior: Option<Behavior>,
    /// Annotations `paused` or `paused-replicas`.
    pub is_paused: bool,
    pub is_scale_in_paused: bool,
    pub is_scale_out_paused: bool,
    pub is_activation_forced: bool,
}

/// A source of demand.
#[derive(Debug, Clone, PartialEq)]
pub enum Trigger {
    Prometheus(Prometheus),
    /// `cpu` or `memory`: the HPA's affair, always a resource metric of either kind.
    Resource(Metric),
}

/// A Prometheus trigger.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prometheus {
    pub threshold: f64,
    /// Above it the trigger is active. 0 by default.
    pub activation_threshold: f64,
    /// True by default: no data is 0.
    pub ignore_null_values: bool,
    pub metric_type: MetricType,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MetricType {
    #[default]
    AverageValue,
    Value,
}

impl Prometheus {
    /// A trigger with KEDA's defaults.
    pub fn new(threshold: f64) -> Self {
        Self {
            threshold,
            activation_threshold: 0.0,
            ignore_null_values: true,
            metric_type: MetricType::AverageValue,
        }
    }
}

/// What to report after a trigger has failed for some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fallback {
    /// It acts after more failures in a row than this.
    pub failure_threshold: i32,
    pub replicas: i32,
    pub behavior: FallbackBehavior,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FallbackBehavior {
    #[default]
    Static,
    CurrentReplicas,
    CurrentReplicasIfHigher,
    CurrentReplicasIfLower,
}

impl Fallback {
    /// `HasValidFallback`.
    pub fn is_valid(self) -> bool {
        self.failure_threshold >= 0 && self.replicas >= 0
    }
}

impl Default for ScaledObject {
    /// KEDA's defaults, without a trigger.
    fn default() -> Self {
        Self {
            namespace: String::new(),
            name: String::new(),
            created_ns: 0,
            polling_interval_seconds: None,
            cooldown_period_seconds: None,
            initial_cooldown_period_seconds: None,
            idle_replica_count: None,
            min_replica_count: None,
            max_replica_count: None,
            triggers: Vec::new(),
            fallback: None,
            behavior: None,
            is_paused: false,
            is_scale_in_paused: false,
            is_scale_out_paused: false,
            is_activation_forced: false,
        }
    }
}

fn nanoseconds(seconds: Option<i32>, default: i32) -> i64 {
    i64::from(seconds.unwrap_or(default)) * SECOND_NS
}

impl ScaledObject {
    pub fn polling_interval_ns(&self) -> i64 {
        nanoseconds(self.polling_interval_seconds, 30)
    }

    pub fn cooldown_period_ns(&self) -> i64 {
        nanoseconds(self.cooldown_period_seconds, 300)
    }

    pub fn initial_cooldown_period_ns(&self) -> i64 {
        nanoseconds(self.initial_cooldown_period_seconds, 0)
    }

    pub fn min_replicas(&self) -> i32 {
        self.min_replica_count.unwrap_or(0)
    }

    /// `newHPAForScaledObject`: never below one replica; the pause annotations disable a direction.
    pub fn hpa_spec(&self) -> Spec {
        let mut behavior = self.behavior.clone();
        if self.is_scale_in_paused {
            disable(&mut behavior.get_or_insert_default().scale_down);
        }
        if self.is_scale_out_paused {
            disable(&mut behavior.get_or_insert_default().scale_up);
        }
        // External metrics come first: the source sorts by type.
        let mut metrics = Vec::new();
        for (index, trigger) in self.triggers.iter().enumerate() {
            if let Trigger::Prometheus(trigger) = trigger {
                metrics.push(self.external_metric(index, trigger));
            }
        }
        for trigger in &self.triggers {
            if let Trigger::Resource(metric) = trigger {
                metrics.push(metric.clone());
            }
        }
        Spec {
            namespace: self.namespace.clone(),
            min_replicas: Some(self.min_replicas().max(1)),
            max_replicas: self.max_replica_count.unwrap_or(100),
            metrics,
            behavior,
        }
    }

    fn external_metric(&self, index: usize, trigger: &Prometheus) -> Metric {
        let name = &self.name;
        Metric::External {
            name: format!("s{index}-prometheus"),
            selector: format!(
                "&LabelSelector{{MatchLabels:map[string]string{{scaledobject.keda.sh/name: {name},}},MatchExpressions:[]LabelSelectorRequirement{{}},}}"
            ),
            target: trigger.target(),
        }
    }
}

impl Prometheus {
    /// `GetMetricTargetMili`.
    pub fn target(&self) -> ValueTarget {
        let milli = prometheus::milli(self.threshold);
        match self.metric_type {
            MetricType::AverageValue => ValueTarget::AverageValue(milli),
            MetricType::Value => ValueTarget::Value(milli),
        }
    }
}

fn disable(rules: &mut ScalingRules) {
    rules.select_policy = Some(SelectPolicy::Disabled);
}
