//! One pass over a revision: scale it, choose who takes its requests, and say whether it is active.
//!
//! knative/serving 98e5ef90, `pkg/reconciler/autoscaling/kpa/kpa.go`; the conditions are those of `pa_lifecycle.go`.

use super::super::go;
use super::autoscaler::{DeciderSpec, DeciderStatus};
use super::config::{Config, Revision};
use super::scaler::{Mode, Path, Scaler, UNKNOWN};
use super::whole_seconds;

/// Least number of activators in a path.
const LEAST_ACTIVATORS: i32 = 2;

/// The condition `Active` of a PodAutoscaler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// `Unknown`: pods are wanted and not ready.
    Activating,
    /// `True`.
    Active,
    /// `False`: no traffic, or the pods never became ready.
    Inactive,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Active {
    pub activity: Activity,
    /// Empty while active.
    pub reason: &'static str,
    /// When activity or reason last changed, in whole seconds as in the API.
    pub since_ns: i64,
}

/// Status of a PodAutoscaler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaStatus {
    pub active: Active,
    /// It has had its initial scale once.
    pub is_scale_target_initialized: bool,
    pub desired_scale: Option<i32>,
    pub actual_scale: Option<i32>,
}

impl PaStatus {
    /// Of a revision that has just been created.
    pub fn new(now_ns: i64) -> Self {
        Self {
            active: Active {
                activity: Activity::Activating,
                reason: "",
                since_ns: whole_seconds(now_ns),
            },
            is_scale_target_initialized: false,
            desired_scale: None,
            actual_scale: None,
        }
    }

    /// Any change of the condition moves its time, also one of the reason alone.
    pub fn mark(&mut self, activity: Activity, reason: &'static str, now_ns: i64) {
        if (self.active.activity, self.active.reason) != (activity, reason) {
            self.active = Active {
                activity,
                reason,
                since_ns: whole_seconds(now_ns),
            };
        }
    }

    /// `computeStatus`: `want` as [`Scaler::scale`] returns it, `ready` pods.
    pub fn compute(&mut self, config: &Config, revision: &Revision, want: i32, ready: i32, now_ns: i64) {
        self.actual_scale = Some(ready);
        // A restarted autoscaler knows nothing yet; that is no new wish.
        if want != UNKNOWN || self.desired_scale.is_none_or(|scale| scale < 0) {
            self.desired_scale = Some(want);
        }
        let (least, _) = revision.scale_bounds(config);
        let threshold = |is_initialized: bool| {
            let first = if is_initialized {
                1
            } else {
                revision.initial_scale(config)
            };
            least.max(first)
        };
        let least_ready = threshold(self.is_scale_target_initialized);
        if ready >= least_ready {
            self.is_scale_target_initialized = true;
        }
        let is_inactive = self.active.activity == Activity::Inactive;
        let is_wanted = want > 0 || !is_inactive;
        if want == 0 || least_ready == 0 {
            let has_failed = self.active.activity == Activity::Activating && least_ready > 0;
            let reason = if has_failed { "TimedOut" } else { "NoTraffic" };
            self.mark(Activity::Inactive, reason, now_ns);
        } else if ready >= least_ready {
            if is_wanted {
                self.mark(Activity::Active, "", now_ns);
            }
        } else if is_wanted {
            self.mark(Activity::Activating, "Queued", now_ns);
        } else {
            // Initial scale 0: not woken up yet.
            self.mark(Activity::Inactive, "NoTraffic", now_ns);
        }
    }
}

/// What one pass sees.
#[derive(Debug, Clone, Copy)]
pub struct Input {
    pub now_ns: i64,
    /// `spec.replicas` of the Deployment.
    pub current_scale: i32,
    pub ready_pods: i32,
    pub decider: DeciderStatus,
    pub path: Path,
}

/// What one pass does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// New `spec.replicas`, where it changes.
    pub write: Option<i32>,
    pub mode: Mode,
    pub activators: i32,
    pub requeue_after_ns: Option<i64>,
    /// Look again when a probe through the path reaches the activator.
    pub is_probe_wanted: bool,
}

/// `ReconcileKind`, where the `ServerlessService` exists already.
pub fn reconcile(
    config: &Config,
    revision: &Revision,
    spec: &DeciderSpec,
    status: &mut PaStatus,
    input: Input,
) -> Outcome {
    let scaled = Scaler {
        config,
        revision,
        status,
        path: input.path,
        now_ns: input.now_ns,
    }
    .scale(input.decider.desired_scale, input.current_scale);
    let has_room = scaled.want > 0 && input.decider.excess_burst_capacity >= 0;
    let outcome = Outcome {
        write: scaled.write,
        mode: if has_room { Mode::Serve } else { Mode::Proxy },
        activators: activators(spec, input.ready_pods),
        requeue_after_ns: scaled.requeue_after_ns,
        is_probe_wanted: scaled.is_probe_wanted,
    };
    status.compute(config, revision, scaled.want, input.ready_pods, input.now_ns);
    outcome
}

/// `computeNumActivators`: enough to carry all pods' capacity and the burst.
pub fn activators(spec: &DeciderSpec, ready_pods: i32) -> i32 {
    if spec.target_burst_capacity == 0.0 {
        return LEAST_ACTIVATORS;
    }
    let capacity = f64::from(ready_pods) * spec.total_value + spec.target_burst_capacity.max(0.0);
    go::int32((capacity / spec.activator_capacity).ceil()).max(LEAST_ACTIVATORS)
}
