//! Kubernetes' HorizontalPodAutoscaler, `autoscaling/v2`, one sync at a time.
//!
//! | module | source in kubernetes/kubernetes v1.37.2, `pkg/controller/podautoscaler` |
//! |---|---|
//! | [`reconcile`] | `horizontal.go`: `reconcileAutoscaler` |
//! | [`metrics`] | `horizontal.go`: `computeReplicasForMetrics` and what it calls |
//! | [`calculator`], [`requests`] | `replica_calculator.go` |
//! | [`behavior`] | `horizontal.go`: `normalizeDesiredReplicas…`, `storeScaleEvent` |
//! | [`samples`] | `metrics/client.go`, `metrics/utilization.go` |
//! | [`spec`] | `pkg/apis/autoscaling/v2/defaults.go` |
//! | [`state`] | the controller's maps, `setCondition` |
//!
//! The feature gates are at their defaults of 1.37: `HPAScaleToZero`, `HPAConfigurableTolerance` and `PodLevelResources` are on.
//!
//! Where this differs from the source:
//! * one call is one sync; the caller keeps the period (15 s after the end of the sync before) and brings the readings;
//! * the time stands still during a sync, where the source looks at the clock anew at each step;
//! * selectors are not parsed: `InvalidSelector` and `AmbiguousSelector` do not occur; nor do targets that the API server refuses
//!   (`InvalidMetricSourceType`, a metric without target);
//! * no events and no metrics of the controller's own;
//! * a conflict at the write of the scale is either resolved ([`Input::update_error`] is `None`) or final.

pub mod behavior;
pub mod calculator;
pub mod input;
pub mod metrics;
pub mod reconcile;
pub mod requests;
pub mod samples;
pub mod spec;
pub mod state;

pub use input::{Input, Pod, PodMetric, PodMetrics, Reading, Scale};
pub use reconcile::{Config, Outcome, sync};
pub use spec::{Behavior, Metric, Spec};
pub use state::State;

#[cfg(test)]
mod tests;
