//! One decision every two seconds: how many pods, and how much room for a burst.
//!
//! knative/serving 98e5ef90, `pkg/autoscaler/scaling/autoscaler.go` (`Scale`) and `multiscaler.go` (the status, `Poke`).

use super::super::go;
use super::SECOND_NS;
use super::collector::Stat;
use super::config::ScalingMetric;
use super::delay::MaxWindow;

/// Time between decisions.
pub const TICK_NS: i64 = 2 * SECOND_NS;

/// What a revision's decisions depend on; see [`super::config::Revision::decider_spec`].
#[derive(Debug, Clone, PartialEq)]
pub struct DeciderSpec {
    pub max_scale_up_rate: f64,
    pub max_scale_down_rate: f64,
    pub metric: ScalingMetric,
    /// Value per pod that is aimed for.
    pub target_value: f64,
    /// Value per pod that a pod can take.
    pub total_value: f64,
    pub target_burst_capacity: f64,
    pub activator_capacity: f64,
    /// Panic starts where the pods wanted by the panic window are this many times the ready ones.
    pub panic_threshold: f64,
    pub stable_window_ns: i64,
    pub scale_down_delay_ns: i64,
    pub initial_scale: i32,
    pub is_reachable: bool,
    /// Least count above zero; acts from 2.
    pub activation_scale: i32,
}

/// What the autoscaler remembers of a revision.
#[derive(Debug, Clone, PartialEq)]
pub struct Autoscaler {
    /// When the panic began or was last renewed.
    pub panic_since_ns: Option<i64>,
    pub max_panic_pods: i32,
    delay: Option<MaxWindow>,
}

/// A valid decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    pub desired_pods: i32,
    /// Requests that the pods could take at once beyond those in flight and the target burst; negative keeps the activator in the path.
    pub excess_burst_capacity: i32,
}

impl Autoscaler {
    /// Starts in panic if more than one pod is ready: the history is lost, and must not scale down. `ready`: `None` where it cannot be counted.
    pub fn new(spec: &DeciderSpec, ready: Option<i32>, now_ns: i64) -> Self {
        let ready = ready.unwrap_or(0);
        Self {
            panic_since_ns: (ready > 1).then_some(now_ns),
            max_panic_pods: ready,
            delay: (spec.scale_down_delay_ns > 0).then(|| MaxWindow::new(spec.scale_down_delay_ns, TICK_NS)),
        }
    }

    /// `Scale`. `ready`: pods that are ready, `None` where they cannot be counted; `observed`: (stable, panic) averages, `None` without data.
    pub fn scale(
        &mut self,
        spec: &DeciderSpec,
        ready: Option<i32>,
        observed: Option<(f64, f64)>,
        now_ns: i64,
    ) -> Option<Decision> {
        let (ready, (stable, panic)) = (ready?, observed?);
        let pods = f64::from(ready).max(1.0);
        // Rounded away from the current count, or a small rate would never leave it.
        let most = (spec.max_scale_up_rate * pods).ceil();
        let least = if spec.is_reachable {
            (pods / spec.max_scale_down_rate).floor()
        } else {
            0.0
        };
        let wanted_stable = (stable / spec.target_value).ceil();
        let wanted_panic = (panic / spec.target_value).ceil();
        let desired = |wanted: f64| {
            let pods = go::int32(wanted.max(least).min(most));
            let is_activating = spec.activation_scale > 1 && wanted > 0.0;
            if is_activating {
                pods.max(spec.activation_scale)
            } else {
                pods
            }
        };

        let is_over = wanted_panic / pods >= spec.panic_threshold;
        self.follow_panic(is_over, spec.stable_window_ns, now_ns);
        let mut desired_pods = desired(wanted_stable);
        if self.panic_since_ns.is_some() {
            // Never down, and for the stable window too, which may ask for more.
            self.max_panic_pods = self.max_panic_pods.max(desired_pods).max(desired(wanted_panic));
            desired_pods = self.max_panic_pods;
        }
        if spec.is_reachable
            && let Some(delay) = &mut self.delay
        {
            delay.record(now_ns, desired_pods);
            desired_pods = delay.current();
        }
        Some(Decision {
            desired_pods,
            excess_burst_capacity: go::int32(excess_burst_capacity(spec, ready, panic)),
        })
    }

    fn follow_panic(&mut self, is_over: bool, stable_window_ns: i64, now_ns: i64) {
        if is_over {
            self.panic_since_ns = Some(now_ns);
        } else if self
            .panic_since_ns
            .is_some_and(|since_ns| since_ns + stable_window_ns < now_ns)
        {
            self.panic_since_ns = None;
            self.max_panic_pods = 0;
        }
    }
}

fn excess_burst_capacity(spec: &DeciderSpec, ready: i32, panic: f64) -> f64 {
    if spec.target_burst_capacity == 0.0 {
        0.0
    } else if spec.target_burst_capacity > 0.0 {
        (f64::from(ready) * spec.total_value - spec.target_burst_capacity - panic).floor()
    } else {
        -1.0
    }
}

/// The last decision, as the reconciler sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeciderStatus {
    /// -1: none yet.
    pub desired_scale: i32,
    pub excess_burst_capacity: i32,
}

impl DeciderStatus {
    /// Before the first decision.
    pub fn new(spec: &DeciderSpec) -> Self {
        let burst = spec.target_burst_capacity;
        let at_start = f64::from(spec.initial_scale) * spec.total_value - burst;
        Self {
            desired_scale: -1,
            excess_burst_capacity: go::int32(if burst > 0.0 { at_start } else { burst }),
        }
    }

    /// Takes a decision over; true where the reconciler has to look: another count, or another sign of the capacity.
    pub fn update(&mut self, decision: Decision) -> bool {
        let has_sign_changed = (self.excess_burst_capacity < 0) != (decision.excess_burst_capacity < 0);
        let has_changed = self.desired_scale != decision.desired_pods || has_sign_changed;
        *self = Self {
            desired_scale: decision.desired_pods,
            excess_burst_capacity: decision.excess_burst_capacity,
        };
        has_changed
    }
}

/// `Poke`: whether a statistic of the activator calls for a decision at once.
pub fn is_poke(status: DeciderStatus, stat: Stat) -> bool {
    status.desired_scale == 0 && stat.average_concurrent_requests != 0.0
}
