//! One sync of one HPA: from what is seen to the count that is written and the status that says why.
//!
//! Kubernetes 1.37.2, `reconcileAutoscaler` in `horizontal.go`.

use super::behavior::{self, Bounds};
use super::calculator::{Calculator, Tolerances};
use super::input::{Input, Scale};
use super::metrics::{self, Invalid, Proposal};
use super::spec::Spec;
use super::state::{Recommendation, State, set};

/// Flags of the kube-controller-manager.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Config {
    /// `--horizontal-pod-autoscaler-tolerance`, a ratio.
    pub tolerance: f64,
    pub downscale_stabilization_ns: i64,
    pub cpu_initialization_period_ns: i64,
    pub initial_readiness_delay_ns: i64,
    /// Feature gate `HPAScaleToZero`.
    pub has_scale_to_zero: bool,
    /// Largest growth at once without `behavior`: a variable in the source that only its own tests change.
    pub scale_up_limit_factor: f64,
}

impl Default for Config {
    /// 1.37: 0.1, 5 min, 5 min, 30 s, on, 2.
    fn default() -> Self {
        Self {
            tolerance: 0.1,
            downscale_stabilization_ns: 300_000_000_000,
            cpu_initialization_period_ns: 300_000_000_000,
            initial_readiness_delay_ns: 30_000_000_000,
            has_scale_to_zero: true,
            scale_up_limit_factor: 2.0,
        }
    }
}

/// What a sync did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The count that was written; `None` if none was.
    pub written: Option<i32>,
    /// Why, in the words of the event `SuccessfulRescale`; empty where nothing is to be said.
    pub rescale_reason: String,
    /// What each metric asked for; empty where no metric was looked at.
    pub proposals: Vec<Result<Proposal, Invalid>>,
    /// What the controller logs.
    pub error: Option<String>,
}

/// Runs one sync. `state` is that of this HPA and holds its status afterwards.
pub fn sync(config: &Config, spec: &Spec, state: &mut State, input: &Input<'_>) -> Outcome {
    let now_ns = input.now_ns;
    let scale = match &input.scale {
        Ok(scale) => *scale,
        Err(error) => {
            let message = format!("the HPA controller was unable to get the target's current scale: {error}");
            set(
                &mut state.status.conditions.able_to_scale,
                false,
                "FailedGetScale",
                message,
                now_ns,
            );
            return Outcome {
                error: Some(format!("failed to query scale subresource: {error}")),
                ..Outcome::default()
            };
        }
    };
    let message = "the HPA controller was able to get the target's current scale".to_owned();
    set(
        &mut state.status.conditions.able_to_scale,
        true,
        "SucceededGetScale",
        message,
        now_ns,
    );
    if state.recommendations.is_empty() {
        state.recommendations.push(Recommendation {
            replicas: scale.spec_replicas,
            at_ns: now_ns,
        });
    }

    let mut outcome = Outcome::default();
    let decision = decide(config, spec, state, input, scale, &mut outcome);
    state.status.current_replicas = scale.spec_replicas;
    match decision {
        None => {}
        Some(desired) => write(config, spec, state, input, scale.spec_replicas, desired, &mut outcome),
    }
    outcome
}

/// The count that is wanted, and whether it is to be written.
#[derive(Debug, Clone, Copy)]
struct Desired {
    replicas: i32,
    is_rescale: bool,
}

/// `None` where the metrics say nothing.
fn decide(
    config: &Config,
    spec: &Spec,
    state: &mut State,
    input: &Input<'_>,
    scale: Scale,
    outcome: &mut Outcome,
) -> Option<Desired> {
    let current = scale.spec_replicas;
    let min = spec.min_replicas();
    let was_scaled_to_zero = config.has_scale_to_zero && is_scaled_to_zero(state);
    let written = |replicas| {
        Some(Desired {
            replicas,
            is_rescale: true,
        })
    };
    if current == 0 {
        let can_wake = was_scaled_to_zero && spec.has_object_or_external_metric();
        if !((min != 0 && was_scaled_to_zero) || can_wake) {
            let message = "scaling is disabled since the replica count of the target is zero".to_owned();
            let conditions = &mut state.status.conditions;
            set(
                &mut conditions.scaling_active,
                false,
                "ScalingDisabled",
                message,
                input.now_ns,
            );
            if !config.has_scale_to_zero {
                conditions.scaled_to_zero = None;
            }
            return Some(Desired {
                replicas: 0,
                is_rescale: false,
            });
        }
    } else if current > spec.max_replicas {
        "Current number of replicas above Spec.MaxReplicas".clone_into(&mut outcome.rescale_reason);
        return written(spec.max_replicas);
    } else if current < min {
        "Current number of replicas below Spec.MinReplicas".clone_into(&mut outcome.rescale_reason);
        return written(min);
    }

    let (recommended, metric) = recommend(config, spec, state, input, scale, outcome)?;
    // Never below zero, and named only where a metric asks for something.
    let (wanted, metric) = if recommended > 0 {
        (recommended, metric)
    } else {
        (0, String::new())
    };
    if wanted > current {
        outcome.rescale_reason = format!("{metric} above target");
    }
    if wanted < current {
        "All metrics below target".clone_into(&mut outcome.rescale_reason);
    }
    let bounds = Bounds {
        now_ns: input.now_ns,
        current,
        min,
        max: spec.max_replicas,
        downscale_stabilization_ns: config.downscale_stabilization_ns,
        scale_up_limit_factor: config.scale_up_limit_factor,
    };
    let mut replicas = match &spec.behavior {
        None => behavior::normalize_legacy(state, bounds, wanted),
        Some(rules) => behavior::normalize_with_behavior(state, bounds, rules, wanted),
    };
    // With behavior, the minimum does not act on the way up.
    if current == 0 && min != 0 && was_scaled_to_zero && replicas < min {
        replicas = min;
        if outcome.rescale_reason.is_empty() {
            "Current number of replicas below Spec.MinReplicas".clone_into(&mut outcome.rescale_reason);
        }
    }
    Some(Desired {
        replicas,
        is_rescale: replicas != current,
    })
}

/// The metrics' recommendation, and the condition `ScalingActive` about it.
fn recommend(
    config: &Config,
    spec: &Spec,
    state: &mut State,
    input: &Input<'_>,
    scale: Scale,
    outcome: &mut Outcome,
) -> Option<(i32, String)> {
    let rules = spec.behavior.as_ref();
    let calculator = Calculator {
        pods: input.pods,
        now_ns: input.now_ns,
        tolerances: Tolerances {
            scale_down: rules
                .and_then(|rules| rules.scale_down.tolerance)
                .unwrap_or(config.tolerance),
            scale_up: rules
                .and_then(|rules| rules.scale_up.tolerance)
                .unwrap_or(config.tolerance),
        },
        cpu_initialization_period_ns: config.cpu_initialization_period_ns,
        initial_readiness_delay_ns: config.initial_readiness_delay_ns,
    };
    outcome.proposals = metrics::proposals(spec, calculator, scale, input.readings);
    let slot = &mut state.status.conditions.scaling_active;
    match metrics::combine(&outcome.proposals, scale.spec_replicas) {
        Ok(recommended) => {
            let metric = recommended.metric;
            let message = format!("the HPA was able to successfully calculate a replica count from {metric}");
            set(slot, true, "ValidMetricFound", message, input.now_ns);
            outcome.error = recommended.error;
            Some((recommended.replicas, metric))
        }
        Err(unknown) => {
            let message = format!(
                "the HPA was unable to compute the replica count: {}",
                unknown.first.cause
            );
            set(slot, false, unknown.first.reason, message, input.now_ns);
            let error = unknown.error;
            outcome.error = Some(format!(
                "failed to compute desired number of replicas based on listed metrics: {error}"
            ));
            None
        }
    }
}

/// Writes the scale, if that is wanted, and says so in the status.
fn write(
    config: &Config,
    spec: &Spec,
    state: &mut State,
    input: &Input<'_>,
    current: i32,
    desired: Desired,
    outcome: &mut Outcome,
) {
    let now_ns = input.now_ns;
    if !desired.is_rescale {
        state.status.desired_replicas = current;
        return;
    }
    let replicas = desired.replicas;
    let conditions = &mut state.status.conditions;
    if let Some(error) = &input.update_error {
        let message = format!("the HPA controller was unable to update the target scale: {error}");
        set(
            &mut conditions.able_to_scale,
            false,
            "FailedUpdateScale",
            message,
            now_ns,
        );
        outcome.error = Some(format!("failed to rescale: {error}"));
        return;
    }
    let message = format!("the HPA controller was able to update the target scale to {replicas}");
    set(&mut conditions.able_to_scale, true, "SucceededRescale", message, now_ns);
    if config.has_scale_to_zero {
        let to_zero = current > 0 && replicas == 0 && spec.min_replicas() == 0 && spec.has_object_or_external_metric();
        let (reason, message) = if to_zero {
            ("ScaledToZero", "the HPA controller scaled the workload to zero")
        } else {
            (
                "NotScaledToZero",
                "the HPA controller did not scale the workload to zero",
            )
        };
        set(
            &mut conditions.scaled_to_zero,
            to_zero,
            reason,
            message.to_owned(),
            now_ns,
        );
    } else {
        conditions.scaled_to_zero = None;
    }
    if let Some(rules) = &spec.behavior {
        behavior::store_event(state, rules, now_ns, current, replicas);
    }
    state.status.desired_replicas = replicas;
    state.status.last_scale_ns = Some(now_ns);
    outcome.written = Some(replicas);
}

fn is_scaled_to_zero(state: &State) -> bool {
    let condition = state.status.conditions.scaled_to_zero.as_ref();
    condition.is_some_and(|condition| condition.is_true)
}
