//! From a raw recommendation to a permitted count: stabilisation windows, rate limits, bounds.
//!
//! Kubernetes 1.37.2, `horizontal.go`: `normalizeDesiredReplicas` (no `behavior`) and `normalizeDesiredReplicasWithBehaviors`. The edges of the
//! windows differ between the two, as in the source: without behavior a recommendation of exactly the window's age counts, with behavior it does not.

use super::super::go;
use super::spec::{Behavior, Policy, PolicyKind, SelectPolicy};
use super::state::{Recommendation, ScaleEvent, State, set};

const SECOND_NS: i64 = 1_000_000_000;

/// What both kinds of rules look at.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub now_ns: i64,
    pub current: i32,
    pub min: i32,
    pub max: i32,
    /// `--horizontal-pod-autoscaler-downscale-stabilization`.
    pub downscale_stabilization_ns: i64,
    /// 2 upstream; its tests raise it.
    pub scale_up_limit_factor: f64,
}

/// A count, and why it may not be the wanted one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limited {
    pub replicas: i32,
    pub reason: &'static str,
    pub message: &'static str,
}

const WITHIN: (&str, &str) = ("DesiredWithinRange", "the desired count is within the acceptable range");
const TOO_FAST_UP: (&str, &str) = (
    "ScaleUpLimit",
    "the desired replica count is increasing faster than the maximum scale rate",
);
const TOO_FAST_DOWN: (&str, &str) = (
    "ScaleDownLimit",
    "the desired replica count is decreasing faster than the maximum scale rate",
);
const TOO_MANY: (&str, &str) = (
    "TooManyReplicas",
    "the desired replica count is more than the maximum replica count",
);
const TOO_FEW: (&str, &str) = (
    "TooFewReplicas",
    "the desired replica count is less than the minimum replica count",
);
const STABILIZED_UP: (&str, &str) = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const STABILIZED_DOWN: (&str, &str) = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);
const READY: (&str, &str) = ("ReadyForNewScale", "recommended size matches current size");

fn limited(replicas: i32, (reason, message): (&'static str, &'static str)) -> Limited {
    Limited {
        replicas,
        reason,
        message,
    }
}

/// `normalizeDesiredReplicas`: no `behavior` in the spec.
pub fn normalize_legacy(state: &mut State, bounds: Bounds, wanted: i32) -> i32 {
    let stable = stabilize_legacy(&mut state.recommendations, bounds, wanted);
    report_stabilisation(state, stable != wanted, STABILIZED_DOWN, bounds.now_ns);
    let result = limit_legacy(bounds, stable);
    report_limit(state, result, stable, bounds.now_ns)
}

/// `normalizeDesiredReplicasWithBehaviors`.
pub fn normalize_with_behavior(state: &mut State, bounds: Bounds, behavior: &Behavior, wanted: i32) -> i32 {
    let stable = stabilize(&mut state.recommendations, bounds, behavior, wanted);
    let reason = if wanted >= bounds.current {
        STABILIZED_UP
    } else {
        STABILIZED_DOWN
    };
    report_stabilisation(state, stable != wanted, reason, bounds.now_ns);
    let result = limit(state, bounds, behavior, stable);
    report_limit(state, result, stable, bounds.now_ns)
}

fn report_stabilisation(state: &mut State, is_changed: bool, why: (&'static str, &str), now_ns: i64) {
    let (reason, message) = if is_changed { why } else { READY };
    let slot = &mut state.status.conditions.able_to_scale;
    set(slot, true, reason, message.to_owned(), now_ns);
}

fn report_limit(state: &mut State, result: Limited, stable: i32, now_ns: i64) -> i32 {
    let is_limited = result.replicas != stable;
    let slot = &mut state.status.conditions.scaling_limited;
    set(slot, is_limited, result.reason, result.message.to_owned(), now_ns);
    result.replicas
}

/// `stabilizeRecommendation`: the highest of the window.
pub fn stabilize_legacy(recommendations: &mut Vec<Recommendation>, bounds: Bounds, wanted: i32) -> i32 {
    let cutoff_ns = bounds.now_ns - bounds.downscale_stabilization_ns;
    let is_old = |recommendation: &Recommendation| recommendation.at_ns < cutoff_ns;
    let recent = recommendations.iter().filter(|recommendation| !is_old(recommendation));
    let highest = recent
        .map(|recommendation| recommendation.replicas)
        .fold(wanted, i32::max);
    remember(recommendations, is_old, wanted, bounds.now_ns);
    highest
}

/// `stabilizeRecommendationWithBehaviors`: the current count, moved into [lowest of the up window, highest of the down window].
pub fn stabilize(recommendations: &mut Vec<Recommendation>, bounds: Bounds, behavior: &Behavior, wanted: i32) -> i32 {
    let seconds = |seconds: i32| bounds.now_ns - i64::from(seconds) * SECOND_NS;
    // The flag reaches the rules in whole seconds.
    let flag_seconds = (bounds.downscale_stabilization_ns / SECOND_NS) as i32;
    let up_cutoff_ns = seconds(behavior.up_window_seconds());
    let down_cutoff_ns = seconds(behavior.down_window_seconds(flag_seconds));
    let (mut lowest, mut highest) = (wanted, wanted);
    for recommendation in recommendations.iter() {
        if recommendation.at_ns > up_cutoff_ns {
            lowest = lowest.min(recommendation.replicas);
        }
        if recommendation.at_ns > down_cutoff_ns {
            highest = highest.max(recommendation.replicas);
        }
    }
    let is_old = |old: &Recommendation| old.at_ns < up_cutoff_ns && old.at_ns < down_cutoff_ns;
    remember(recommendations, is_old, wanted, bounds.now_ns);
    bounds.current.max(lowest).min(highest)
}

/// Puts the recommendation into the last old slot, or a new one.
fn remember(list: &mut Vec<Recommendation>, is_old: impl Fn(&Recommendation) -> bool, replicas: i32, now_ns: i64) {
    let new = Recommendation {
        replicas,
        at_ns: now_ns,
    };
    match list.iter_mut().rev().find(|slot| is_old(slot)) {
        Some(slot) => *slot = new,
        None => list.push(new),
    }
}

/// `convertDesiredReplicasWithRules`: at most max(factor · current, 4) at once, and the bounds.
pub fn limit_legacy(bounds: Bounds, wanted: i32) -> Limited {
    let fastest = go::int32((bounds.scale_up_limit_factor * f64::from(bounds.current)).max(4.0));
    if wanted < bounds.min {
        limited(bounds.min, TOO_FEW)
    } else if bounds.max > fastest && wanted > fastest {
        limited(fastest, TOO_FAST_UP)
    } else if wanted > bounds.max {
        limited(bounds.max, TOO_MANY)
    } else {
        limited(wanted, WITHIN)
    }
}

/// `convertDesiredReplicasWithBehaviorRate`. The bounds act only in the direction of the change.
pub fn limit(state: &State, bounds: Bounds, behavior: &Behavior, wanted: i32) -> Limited {
    let current = bounds.current;
    let events = Events {
        up: &state.scale_up_events,
        down: &state.scale_down_events,
        now_ns: bounds.now_ns,
    };
    if wanted > current {
        let fastest = events.up_limit(current, behavior).max(current);
        let (most, why) = if bounds.max > fastest {
            (fastest, TOO_FAST_UP)
        } else {
            (bounds.max, TOO_MANY)
        };
        if wanted > most {
            return limited(most, why);
        }
    } else if wanted < current {
        let fastest = events.down_limit(current, behavior).min(current);
        let (least, why) = if bounds.min < fastest {
            (fastest, TOO_FAST_DOWN)
        } else {
            (bounds.min, TOO_FEW)
        };
        if wanted < least {
            return limited(least, why);
        }
    }
    limited(wanted, WITHIN)
}

/// What has been added and removed lately.
#[derive(Debug, Clone, Copy)]
pub struct Events<'a> {
    pub up: &'a [ScaleEvent],
    pub down: &'a [ScaleEvent],
    pub now_ns: i64,
}

impl Events<'_> {
    /// `calculateScaleUpLimitWithScalingRules`.
    pub fn up_limit(&self, current: i32, behavior: &Behavior) -> i32 {
        let proposals = behavior.up_policies().iter().map(|policy| {
            let start = self.at_start(current, policy);
            match policy.kind {
                PolicyKind::Pods => start.wrapping_add(policy.value),
                // Rounded up, or a small count would never grow.
                PolicyKind::Percent => go::int32((f64::from(start) * (1.0 + f64::from(policy.value) / 100.0)).ceil()),
            }
        });
        match behavior.scale_up.select_policy() {
            SelectPolicy::Disabled => current,
            SelectPolicy::Min => proposals.fold(i32::MAX, i32::min),
            SelectPolicy::Max => proposals.fold(i32::MIN, i32::max),
        }
    }

    /// `calculateScaleDownLimitWithBehaviors`.
    pub fn down_limit(&self, current: i32, behavior: &Behavior) -> i32 {
        let proposals = behavior.down_policies().iter().map(|policy| {
            let start = self.at_start(current, policy);
            match policy.kind {
                PolicyKind::Pods => start.wrapping_sub(policy.value),
                PolicyKind::Percent => go::int32(f64::from(start) * (1.0 - f64::from(policy.value) / 100.0)),
            }
        });
        match behavior.scale_down.select_policy() {
            SelectPolicy::Disabled => current,
            SelectPolicy::Min => proposals.fold(i32::MIN, i32::max),
            SelectPolicy::Max => proposals.fold(i32::MAX, i32::min),
        }
    }

    /// The count at the start of the policy's period.
    fn at_start(&self, current: i32, policy: &Policy) -> i32 {
        let cutoff_ns = self.now_ns - i64::from(policy.period_seconds) * SECOND_NS;
        let within = |events: &[ScaleEvent]| {
            let recent = events.iter().filter(|event| event.at_ns > cutoff_ns);
            recent.fold(0_i32, |sum, event| sum.wrapping_add(event.change))
        };
        current.wrapping_sub(within(self.up)).wrapping_add(within(self.down))
    }
}

/// `storeScaleEvent`: remembers a change, in a slot that no policy's period reaches any more if there is one.
pub fn store_event(state: &mut State, behavior: &Behavior, now_ns: i64, previous: i32, new: i32) {
    let (events, policies) = if new > previous {
        (&mut state.scale_up_events, behavior.up_policies())
    } else {
        (&mut state.scale_down_events, behavior.down_policies())
    };
    let longest_seconds = policies.iter().map(|policy| policy.period_seconds).fold(0, i32::max);
    let cutoff_ns = now_ns - i64::from(longest_seconds) * SECOND_NS;
    for event in events.iter_mut().filter(|event| event.at_ns < cutoff_ns) {
        event.is_outdated = true;
    }
    let change = new.wrapping_sub(previous).wrapping_abs();
    let event = ScaleEvent {
        change,
        at_ns: now_ns,
        is_outdated: false,
    };
    match events.iter_mut().rev().find(|slot| slot.is_outdated) {
        Some(slot) => *slot = event,
        None => events.push(event),
    }
}
