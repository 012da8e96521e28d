//! KEDA: a loop of its own between zero and one, and an HPA that it makes for everything above.
//!
//! | module | source in kedacore/keda at 8b4f083c (main, 2026-08-20; the last release is 2.20.2, this state becomes 2.21) |
//! |---|---|
//! | [`object`] | `apis/keda/v1alpha1/scaledobject_types.go`, `controllers/keda/hpa.go` |
//! | [`prometheus`] | `pkg/scalers/prometheus_scaler.go`, `pkg/scalers/scaler.go` |
//! | [`fallback`] | `pkg/fallback/fallback.go` |
//! | [`scale`] | `pkg/scaling/scale_handler.go`, `pkg/scaling/executor/scale_scaledobjects.go` |
//!
//! How it runs: every [`ScaledObject::polling_interval_ns`] the operator queries all triggers, and [`scale::poll`] writes 0, 1, the idle or the
//! minimum count. The HPA ([`ScaledObject::hpa_spec`]) syncs on its own and asks the metrics server, which queries the trigger anew:
//! [`scale::metric`] is its answer. Both count failures for the fallback, in the same [`State`].
//!
//! Where this differs from the source:
//! * a failed query is repeated once there, at once, with a rebuilt scaler; here the caller's answer is final;
//! * no `scalingModifiers` (formulas), nor the fallback behavior of that name; no `useCachedMetrics`; no ScaledJobs;
//! * the condition about the HPA's health (`HPAActive`) and events are left out;
//! * writes succeed; milli-values that do not fit 64 bits stop at the largest integer.

pub mod fallback;
pub mod object;
pub mod prometheus;
pub mod scale;

pub use object::{Fallback, FallbackBehavior, Prometheus, ScaledObject, Trigger};
pub use scale::{Outcome, PollInput, State, metric, poll};

const SECOND_NS: i64 = 1_000_000_000;

/// What is left of a time in the API: whole seconds.
fn whole_seconds(time_ns: i64) -> i64 {
    time_ns.div_euclid(SECOND_NS) * SECOND_NS
}

#[cfg(test)]
mod tests;
