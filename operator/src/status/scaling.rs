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
//! | otherwise | True, Scaling |
//!
//! In mode Direct the operator's own decision stands for the HorizontalPodAutoscaler, and the metrics API does not matter.

use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition};
use tidewright_api::conditions::{ConditionType, Reason};
use tidewright_api::scaling::Mode;

use super::conditions::{Draft, Truth};
use crate::domain::observed::Observed;
use crate::domain::signals::Signals;
use crate::domain::validated::{Pool, ScalingMetric, Validated};

const NO_PROMETHEUS: &str = "NotConfigured: the operator was started without the address of a Prometheus server";
const NO_METRICS_API: &str = "NotConfigured: the metrics API of the operator is switched off";

pub(super) fn scaling(service: &Validated, observed: &Observed) -> Draft {
    let draft = |truth, reason, message: String| Draft::new(ConditionType::ScalingReady, truth, reason, message);
    if service.is_fixed {
        let total: i32 = service.pools.iter().filter_map(|p| p.fixed).sum();
        return draft(
            Truth::True,
            Reason::FixedReplicas,
            format!("fixed at {total} replicas by spec.predictor.replicas; set it to 0 to scale automatically again"),
        );
    }
    if service.is_paused {
        let message = "paused by spec.predictor.autoScaling.paused: the replicas stay as they are";
        return draft(Truth::False, Reason::Paused, message.to_owned());
    }
    let is_direct = service.mode == Mode::Direct;
    let needs_us = !is_direct
        && service.metrics.iter().any(|metric| match metric {
            ScalingMetric::Resource { .. } => false,
            // One of another Prometheus is served without one of the operator's own.
            ScalingMetric::External { server_address, .. } => {
                observed.signals != Signals::NoPrometheus || server_address.is_none()
            }
            ScalingMetric::RequestRate(_) | ScalingMetric::QueueDepth(_) => true,
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
    let mut starting = None;
    for pool in &service.pools {
        for (metric, reading) in service
            .metrics
            .iter()
            .zip(observed.readings.get(&pool.name).into_iter().flatten())
        {
            let Some(Err(unavailable)) = reading else { continue };
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
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::domain::decided::Decided;
    use crate::test_support::{OTHER_PROMETHEUS, validated};

    fn said(changes: Value, signals: Signals) -> Draft {
        let observed = Observed {
            signals,
            ..Observed::default()
        };
        scaling(&validated(changes), &observed)
    }

    #[test]
    fn signals_that_nobody_serves_are_told_with_what_still_scales() {
        let cpu = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}});
        let rate = json!({"type": "RequestRate", "target": {"type": "AverageValue", "averageValue": "50"}});
        let named = |metrics: Value| json!({"spec": {"predictor": {"autoScaling": {"metrics": metrics}}}});
        let taken = || Signals::Taken("APIService x points to y".to_owned());
        let defaults = said(json!({}), taken());
        assert_eq!(
            (defaults.truth, defaults.reason),
            (Truth::False, Reason::MetricsApiTaken)
        );
        assert_eq!(
            defaults.message,
            "APIService x points to y; CPU alone scales, up and down"
        );
        let both = said(named(json!([cpu, rate])), taken());
        assert_eq!(both.reason, Reason::MetricsApiTaken);
        assert!(both.message.contains("nothing is scaled down"), "{}", both.message);
        let cpu_alone = said(named(json!([cpu])), taken());
        assert_eq!(cpu_alone.reason, Reason::Pending, "CPU needs no metrics API");
        for signals in [
            Signals::Off,
            Signals::NoPrometheus,
            Signals::Failing("no answer".to_owned()),
        ] {
            assert_eq!(said(json!({}), signals).reason, Reason::MetricsUnavailable);
        }
        let elsewhere = json!({"type": "External", "external": {"metric": {"name": "jobs", "query": "sum(jobs)",
            "serverAddress": OTHER_PROMETHEUS}, "target": {"type": "Value", "value": "7"}}});
        let elsewhere = |signals| said(named(json!([elsewhere])), signals).reason;
        assert_eq!(elsewhere(Signals::Off), Reason::MetricsUnavailable, "nobody serves it");
        assert_eq!(elsewhere(Signals::NoPrometheus), Reason::Pending, "it has a Prometheus");
        assert_eq!(elsewhere(taken()), Reason::MetricsApiTaken);
        for signals in [Signals::Pending, Signals::Served] {
            assert_eq!(said(json!({}), signals).reason, Reason::Pending);
        }
    }

    #[test]
    fn what_an_autoscaler_says_counts_once_its_controller_has_seen_it_as_it_is() {
        let cpu = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}});
        let service = validated(json!({"spec": {"predictor": {"autoScaling": {"metrics": [cpu]}}}}));
        let at = |generation: i64, seen: Option<i64>| {
            let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": "x", "message": ""});
            let autoscaler = serde_json::from_value(json!({
                "metadata": {"name": "digits-cpu", "generation": generation}, "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "", "name": ""}},
                "status": {"observedGeneration": seen, "desiredReplicas": 1, "conditions": [condition("AbleToScale"), condition("ScalingActive")]},
            }));
            let observed = Observed {
                autoscalers: BTreeMap::from([("cpu".to_owned(), Arc::new(autoscaler.unwrap()))]),
                ..Observed::default()
            };
            scaling(&service, &observed).truth
        };
        assert_eq!(at(2, Some(2)), Truth::True);
        assert_eq!(at(2, Some(1)), Truth::Unknown, "new targets");
        assert_eq!(at(1, None), Truth::Unknown);
    }

    #[test]
    fn in_mode_direct_the_operators_own_decision_stands_for_the_autoscaler() {
        let at = |paused: bool, decided: Option<Decided>| {
            let service = json!({"spec": {"predictor": {"autoScaling": {"mode": "Direct", "paused": paused}}}});
            let observed = Observed {
                // Another program has the metrics API: nobody needs it here.
                signals: Signals::Taken("APIService x points to y".to_owned()),
                decided: decided.map(Arc::new),
                ..Observed::default()
            };
            let draft = scaling(&validated(service), &observed);
            (draft.truth, draft.reason, draft.message)
        };
        let (truth, reason, _) = at(false, None);
        assert_eq!((truth, reason), (Truth::Unknown, Reason::Pending));
        let (truth, reason, message) = at(false, Some(Decided::default()));
        assert_eq!((truth, reason), (Truth::True, Reason::Scaling));
        assert!(message.contains("the operator acts"), "{message}");
        let refused = Decided {
            problem: Some("scale Deployment a/b from 1 to 2: forbidden".to_owned()),
            ..Decided::default()
        };
        let (truth, reason, message) = at(false, Some(refused));
        assert_eq!((truth, reason), (Truth::False, Reason::AutoscalerInactive));
        assert!(message.contains("forbidden"), "{message}");
        let (truth, reason, _) = at(true, Some(Decided::default()));
        assert_eq!((truth, reason), (Truth::False, Reason::Paused));
    }
}
