//! From a decision to a write: bounds, the initial scale, and the way to zero.
//!
//! knative/serving 98e5ef90, `pkg/reconciler/autoscaling/kpa/scaler.go`.

use super::SECOND_NS;
use super::config::{Config, Revision};
use super::reconciler::{Activity, PaStatus};

/// A scale that is not known.
pub const UNKNOWN: i32 = -1;

/// How much longer than the progress deadline an activation may take.
const ACTIVATION_BUFFER_NS: i64 = 30 * SECOND_NS;

/// Who takes the requests of a revision: mode of its `ServerlessService`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The pods.
    Serve,
    /// The activator, which holds what the pods cannot take.
    Proxy,
}

/// What is known of the way that requests take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// What is asked for.
    pub mode: Mode,
    /// How long the activator has been in the path (`ProxyFor`); 0 if it is not.
    pub proxy_for_ns: i64,
    /// Whether a probe through the path is answered by the activator.
    pub is_activator_answering: bool,
}

/// What `scale` decides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scaled {
    /// The wanted scale, which is not always written; [`UNKNOWN`] without metrics.
    pub want: i32,
    /// The scale that is written, where it is another than the current one.
    pub write: Option<i32>,
    /// When to look again, if nothing happens before.
    pub requeue_after_ns: Option<i64>,
    /// The activator does not answer yet: look again when a probe succeeds.
    pub is_probe_wanted: bool,
}

/// What `scale` looks at.
#[derive(Debug, Clone, Copy)]
pub struct Scaler<'a> {
    pub config: &'a Config,
    pub revision: &'a Revision,
    pub status: &'a PaStatus,
    pub path: Path,
    pub now_ns: i64,
}

/// `applyBounds`; a maximum of 0 is none.
pub fn apply_bounds(min: i32, max: i32, scale: i32) -> i32 {
    if scale < min {
        min
    } else if max != 0 && scale > max {
        max
    } else {
        scale
    }
}

/// A scale to write, unless it is the current one, and when to look again; or nothing to write.
enum Step {
    Write(i32, Option<i64>),
    Wait(Scaled),
}

impl Scaler<'_> {
    /// `scale`: `desired` is the last decision, `current` is `spec.replicas`.
    pub fn scale(&self, desired: i32, current: i32) -> Scaled {
        if desired < 0 && self.status.active.activity != Activity::Activating {
            return Scaled {
                want: desired,
                ..Scaled::default()
            };
        }
        let (mut min, max) = self.revision.scale_bounds(self.config);
        let initial = self.revision.initial_scale(self.config);
        if initial > 1 && !self.status.is_scale_target_initialized && self.revision.is_reachable {
            min = min.max(initial);
        }
        let bounded = apply_bounds(min, max, desired);
        let step = if bounded == 0 {
            self.approach_zero()
        } else {
            Step::Write(bounded, None)
        };
        match step {
            Step::Wait(scaled) => scaled,
            Step::Write(want, requeue_after_ns) => Scaled {
                want,
                write: (want != current).then_some(want),
                requeue_after_ns,
                is_probe_wanted: false,
            },
        }
    }

    /// `handleScaleToZero`.
    fn approach_zero(&self) -> Step {
        if !self.config.enable_scale_to_zero {
            return Step::Write(1, None);
        }
        match self.status.active.activity {
            Activity::Activating => self.give_up_activation(),
            Activity::Active => self.deactivate(),
            Activity::Inactive => self.leave_to_activator(),
        }
    }

    /// Zero, if the pods have not become ready in time.
    fn give_up_activation(&self) -> Step {
        let deadline_ns = self
            .revision
            .progress_deadline_ns
            .unwrap_or(self.config.progress_deadline_ns);
        let timeout_ns = deadline_ns + ACTIVATION_BUFFER_NS;
        if self.since_change_ns() > timeout_ns {
            Step::Write(0, None)
        } else {
            wait(UNKNOWN, Some(timeout_ns))
        }
    }

    /// First inactive, after it was active for a stable window; until then one pod.
    fn deactivate(&self) -> Step {
        let idle_left_ns = self.revision.stable_window_ns(self.config) - self.since_change_ns();
        if idle_left_ns > 0 {
            return Step::Write(1, Some(idle_left_ns));
        }
        // In proxy mode nothing else would change and call the reconciler.
        let is_proxy = self.path.mode == Mode::Proxy;
        wait(0, is_proxy.then_some(3 * SECOND_NS))
    }

    /// Zero, once the activator has been in the path for long enough.
    fn leave_to_activator(&self) -> Step {
        let is_always_in_path = self.revision.is_always_behind_activator(self.config);
        if !is_always_in_path && !self.path.is_activator_answering {
            return Step::Wait(Scaled {
                is_probe_wanted: true,
                ..Scaled::default()
            });
        }
        let grace_ns = self.config.scale_to_zero_grace_period_ns;
        let retention_ns = self.pod_retention_ns();
        let inactive_ns = self.since_change_ns();
        if inactive_ns >= grace_ns.max(retention_ns) {
            return Step::Write(0, None);
        }
        if inactive_ns < retention_ns {
            return wait(0, Some(retention_ns - inactive_ns));
        }
        let left_ns = grace_ns - self.path.proxy_for_ns;
        if left_ns <= 0 {
            Step::Write(0, None)
        } else {
            wait(0, Some(left_ns))
        }
    }

    fn pod_retention_ns(&self) -> i64 {
        if !self.revision.is_reachable {
            return 0;
        }
        let own_ns = self.revision.scale_to_zero_pod_retention_period_ns;
        own_ns.unwrap_or(self.config.scale_to_zero_pod_retention_period_ns)
    }

    fn since_change_ns(&self) -> i64 {
        self.now_ns - self.status.active.since_ns
    }
}

fn wait(want: i32, requeue_after_ns: Option<i64>) -> Step {
    Step::Wait(Scaled {
        want,
        requeue_after_ns,
        ..Scaled::default()
    })
}
