//! ScalingReady.
//!
//! | situation | ScalingReady |
//! |---|---|
//! | a fixed number | True, FixedReplicas: nothing scales, as asked |
//! | scaling pauses | False, Paused |
//! | another program serves the metrics API, and a signal needs it | False, MetricsApiTaken |
//! | the operator serves no signals, or cannot register, and a signal needs them | False, MetricsUnavailable |
//! | a signal is unavailable, and not just starting | False, MetricsUnavailable |
//! | no HorizontalPodAutoscaler seen, or its controller has not looked at it as it is, or a signal is starting | Unknown, Pending |
//! | the HorizontalPodAutoscaler says that it cannot act | False, AutoscalerInactive |
//! | replicas take too long to become ready | False, ReplicasStuck |
//! | otherwise | True, Scaling |
//!
//! In mode Direct what the pods say when they are asked is a signal too, and without a Prometheus it stands for rate and queue; of CPU and memory the operator
//! itself says what is missing; its own decision stands for the HorizontalPodAutoscaler, and the metrics API does not matter.

use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition};
use tidewright_api::conditions::{ConditionType, Reason};
use tidewright_api::scaling::Mode;

use super::conditions::{Draft, Truth};
use super::pods;
use crate::domain::observed::Observed;
use crate::domain::published::Signal;
use crate::domain::reading;
use crate::domain::signals::Signals;
use crate::domain::validated::{Pool, ScalingMetric, Validated};

const NO_PROMETHEUS: &str = "NotConfigured: the operator was started without the address of a Prometheus server";
const NO_METRICS_API: &str = "NotConfigured: the metrics API of the operator is switched off";

pub(super) fn scaling(service: &Validated, observed: &Observed) -> Draft {
    let draft = |truth, reason, message: String| Draft::new(ConditionType::ScalingReady, truth, reason, message);
    if service.is_fixed {
        let total = service.fixed_total().unwrap_or_default();
        return draft(
            Truth::True,
            Reason::FixedReplicas,
            format!("fixed at {total} replicas by spec.predictor.replicas; set it to 0 to scale automatically again"),
        );
    }
    if service.is_paused {
        let message = match service.paused_until {
            Some(until) => {
                format!("paused until {until} by spec.predictor.autoScaling.pausedUntil: the replicas stay as they are")
            }
            None => "paused by spec.predictor.autoScaling.paused: the replicas stay as they are".to_owned(),
        };
        return draft(Truth::False, Reason::Paused, message);
    }
    let is_direct = service.mode == Mode::Direct;
    let needs_us = !is_direct
        && service.metrics.iter().any(|metric| match metric {
            ScalingMetric::Resource { .. } => false,
            // One of another Prometheus is served without one of the operator's own.
            ScalingMetric::External { server_address, .. } => {
                observed.signals != Signals::NoPrometheus || server_address.is_none()
            }
            ScalingMetric::RequestRate(_) | ScalingMetric::QueueDepth(_) | ScalingMetric::Concurrency(_) => true,
        });
    let absent = match &observed.signals {
        Signals::Taken(why) => Some((Reason::MetricsApiTaken, why.as_str())),
        Signals::Failing(why) => Some((Reason::MetricsUnavailable, why.as_str())),
        Signals::NoPrometheus => Some((Reason::MetricsUnavailable, NO_PROMETHEUS)),
        Signals::Off => Some((Reason::MetricsUnavailable, NO_METRICS_API)),
        Signals::Pending | Signals::Served => None,
    };
    if let Some((reason, why)) = absent.filter(|_| needs_us) {
        let left = match observed.signals.are_served() {
            Some(false) if service.are_metrics_implied => "CPU alone scales, up and down",
            _ => "CPU and memory, if named, scale up only: nothing is scaled down while a named signal is missing",
        };
        return draft(Truth::False, reason, format!("{why}; {left}"));
    }
    let are_asked = observed.decided.as_ref().is_some_and(|decided| decided.asks_pods);
    let mut starting = None;
    for pool in &service.pools {
        for (metric, reading) in service
            .metrics
            .iter()
            .zip(observed.readings.get(&pool.name).into_iter().flatten())
        {
            let Some(Err(unavailable)) = reading else { continue };
            let is_asked_for = metric
                .signal()
                .is_some_and(|signal| !matches!(signal, Signal::External(_)));
            if is_direct && are_asked && is_asked_for && unavailable.reason == reading::Reason::NotConfigured {
                // Without a Prometheus the pods alone are believed.
                continue;
            }
            let message = format!(
                "pool {}: {}: {}: {}",
                pool.name,
                metric.word(),
                unavailable.reason,
                unavailable.message
            );
            if unavailable.reason.is_starting() {
                starting.get_or_insert(message);
            } else {
                return draft(
                    Truth::False,
                    Reason::MetricsUnavailable,
                    format!("{message}; nothing is scaled down meanwhile"),
                );
            }
        }
    }
    if is_direct {
        match &observed.decided {
            None => return draft(Truth::Unknown, Reason::Pending, "not decided yet".to_owned()),
            Some(decided) => {
                if let Some(problem) = &decided.problem {
                    return draft(Truth::False, Reason::AutoscalerInactive, problem.clone());
                }
                if let Some(silence) = &decided.silence {
                    let message = format!(
                        "the operator cannot learn from the pods what they do: {silence}; nothing is scaled down meanwhile"
                    );
                    return draft(Truth::False, Reason::MetricsUnavailable, message);
                }
                if let Some(unmeasured) = &decided.unmeasured {
                    let message = format!(
                        "metrics.k8s.io does not say what the pods use: {unmeasured}; nothing is scaled down meanwhile"
                    );
                    return draft(Truth::False, Reason::MetricsUnavailable, message);
                }
            }
        }
    }
    for pool in service.pools.iter().filter(|_| !is_direct) {
        if let Err(problem) = autoscaler_acts(pool, observed.autoscalers.get(&pool.name).map(AsRef::as_ref)) {
            return match problem {
                Idle::NotYet(message) => draft(Truth::Unknown, Reason::Pending, message),
                Idle::Cannot(message) => draft(Truth::False, Reason::AutoscalerInactive, message),
            };
        }
    }
    if let Some((pool, stuck)) = service
        .pools
        .iter()
        .find_map(|pool| Some((pool, stuck(pool, observed)?)))
    {
        let why =
            pods::worst(pool, &observed.pods).map_or_else(String::new, |trouble| format!(": {}", trouble.message));
        return draft(
            Truth::False,
            Reason::ReplicasStuck,
            format!("pool {}: {stuck}{why}", pool.name),
        );
    }
    if let Some(message) = starting {
        return draft(Truth::Unknown, Reason::Pending, message);
    }
    let who = if is_direct {
        "the operator acts"
    } else {
        "the HorizontalPodAutoscalers act"
    };
    draft(
        Truth::True,
        Reason::Scaling,
        format!("every signal is fresh and {who} on them"),
    )
}

/// What is said of replicas that take too long to become ready; nothing where there are none, or nobody decides.
pub(super) fn stuck(pool: &Pool, observed: &Observed) -> Option<String> {
    let decided = observed.decided.as_ref()?.pools.get(&pool.name)?;
    (decided.stuck > 0).then(|| {
        format!(
            "{} replicas have not become ready within {:.0} s and are not counted on",
            decided.stuck, decided.stuck_after_seconds
        )
    })
}

enum Idle {
    NotYet(String),
    Cannot(String),
}

fn autoscaler_acts(pool: &Pool, autoscaler: Option<&HorizontalPodAutoscaler>) -> Result<(), Idle> {
    let name = &pool.name;
    let Some(autoscaler) = autoscaler else {
        return Err(Idle::NotYet(format!(
            "pool {name}: its HorizontalPodAutoscaler has not been observed yet"
        )));
    };
    let looked_at = autoscaler.status.as_ref().and_then(|s| s.observed_generation);
    if looked_at.unwrap_or(0) < autoscaler.metadata.generation.unwrap_or(0) {
        return Err(Idle::NotYet(format!(
            "pool {name}: the HorizontalPodAutoscaler's controller has not seen its newest targets yet"
        )));
    }
    for kind in ["AbleToScale", "ScalingActive"] {
        match condition(autoscaler, kind) {
            None => {
                return Err(Idle::NotYet(format!(
                    "pool {name}: the HorizontalPodAutoscaler has not been looked at yet"
                )));
            }
            Some(c) if c.status == "False" => {
                return Err(Idle::Cannot(format!(
                    "pool {name}: {}: {}",
                    c.reason.as_deref().unwrap_or(kind),
                    c.message.as_deref().unwrap_or_default()
                )));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// A condition of a HorizontalPodAutoscaler.
pub(super) fn condition<'a>(
    autoscaler: &'a HorizontalPodAutoscaler,
    kind: &str,
) -> Option<&'a HorizontalPodAutoscalerCondition> {
    autoscaler
        .status
        .as_ref()?
        .conditions
        .iter()
        .flatten()
        .find(|c| c.type_ == kind)
}

#[cfg(test)]
mod tests;
