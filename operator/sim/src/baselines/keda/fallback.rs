//! Failures in a row, and the value that is reported in place of a failed trigger's.
//!
//! kedacore/keda 8b4f083c, `pkg/fallback/fallback.go`. Failures are counted only with a valid fallback.

use super::super::go;
use super::object::{Fallback, FallbackBehavior, MetricType, Prometheus};

/// `status.health` of one trigger.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Health {
    pub failures: i32,
    pub is_failing: bool,
}

/// What a fallback looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workload {
    /// `spec.replicas`; `None` where it cannot be read.
    pub current_replicas: Option<i32>,
    /// Pods that are running and ready; `None` where they cannot be counted.
    pub ready_replicas: Option<i32>,
}

/// What is reported for a trigger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reported {
    pub value_milli: i64,
    pub is_fallback: bool,
}

/// `GetMetricsWithFallback`: counts the failure, and replaces it once there are more than the threshold.
pub fn with_fallback(
    fallback: Option<Fallback>,
    trigger: &Prometheus,
    health: &mut Health,
    read: Result<i64, String>,
    workload: Workload,
) -> Result<Reported, String> {
    let fallback = fallback.filter(|fallback| fallback.is_valid());
    let error = match read {
        Ok(value_milli) => {
            if fallback.is_some() {
                *health = Health::default();
            }
            return Ok(Reported {
                value_milli,
                is_fallback: false,
            });
        }
        Err(error) => error,
    };
    let Some(fallback) = fallback else {
        return Err(error);
    };
    health.failures = health.failures.saturating_add(1);
    health.is_failing = true;
    if health.failures <= fallback.failure_threshold {
        return Err(error);
    }
    let Some(replicas) = replicas(fallback, workload.current_replicas) else {
        return Err(error);
    };
    value(trigger, replicas, workload.ready_replicas)
        .map(|value_milli| Reported {
            value_milli,
            is_fallback: true,
        })
        .ok_or_else(|| "error performing fallback".to_owned())
}

/// `None` where the count of replicas is needed and not known.
fn replicas(fallback: Fallback, current: Option<i32>) -> Option<i32> {
    match fallback.behavior {
        FallbackBehavior::Static => Some(fallback.replicas),
        FallbackBehavior::CurrentReplicas => current,
        FallbackBehavior::CurrentReplicasIfHigher => current.map(|current| current.max(fallback.replicas)),
        FallbackBehavior::CurrentReplicasIfLower => current.map(|current| current.min(fallback.replicas)),
    }
}

/// `doFallback`: the value at which the HPA comes to `replicas`. A `Value` target cannot be met without a ready pod.
fn value(trigger: &Prometheus, replicas: i32, ready: Option<i32>) -> Option<i64> {
    let mut replicas = f64::from(replicas);
    if trigger.metric_type == MetricType::Value {
        let ready = ready.filter(|ready| *ready != 0)?;
        replicas /= f64::from(ready);
    }
    // `AsApproximateFloat64` multiplies by a thousandth, which is not the same as to divide by a thousand.
    let target = super::prometheus::milli(trigger.threshold) as f64 * 0.001;
    Some(go::int64(target * 1000.0 * replicas))
}
