//! Why a pool has as many replicas as it has: what each signal proposes, which one wins, and what limits it.
//!
//! The HorizontalPodAutoscaler controller decides; this repeats its arithmetic, `ceil(value / target)`, times the ready replicas for a target in all, on the values that it is given, to say
//! it in a sentence. The sentence is made anew only when the number or the winner changes: the values themselves move all the time, and are metrics.

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use tidewright_api::scaling::Mode;
use tidewright_api::status::{AdviceStatus, DecisionStatus, PoolStatus};

use super::scaling::condition;
use crate::domain::decided::DecidedPool;
use crate::domain::observed::Observed;
use crate::domain::published::Reading;
use crate::domain::quantity::number;
use crate::domain::validated::{Pool, ResourceTarget, ScalingMetric, Target, Validated};

struct Proposal {
    word: &'static str,
    replicas: Option<f64>,
    text: String,
}

pub(super) fn decide(
    pool: &Pool,
    service: &Validated,
    observed: &Observed,
    desired: i32,
    before: Option<&PoolStatus>,
) -> DecisionStatus {
    let fresh = fresh(pool, service, observed, desired);
    match before.and_then(|b| {
        b.decision
            .as_ref()
            .filter(|d| b.desired == desired && d.reason == fresh.reason)
    }) {
        Some(unchanged) => unchanged.clone(),
        None => fresh,
    }
}

/// What the operator would do where it only advises; the sentence is made anew when the number or the reason changes.
pub(super) fn advice(
    pool: &Pool,
    service: &Validated,
    observed: &Observed,
    before: Option<&PoolStatus>,
) -> Option<AdviceStatus> {
    if service.is_fixed || service.mode != Mode::Advise {
        return None;
    }
    let before = before.and_then(|b| b.advice.as_ref());
    let Some(decided) = decided(pool, observed) else {
        return before.cloned();
    };
    let is_same = |b: &&AdviceStatus| b.replicas == decided.replicas && b.reason == decided.reason;
    Some(before.filter(is_same).cloned().unwrap_or_else(|| AdviceStatus {
        replicas: decided.replicas,
        reason: decided.reason.to_owned(),
        message: decided.message.clone(),
    }))
}

fn decided<'a>(pool: &Pool, observed: &'a Observed) -> Option<&'a DecidedPool> {
    observed.decided.as_ref()?.pools.get(&pool.name)
}

fn fresh(pool: &Pool, service: &Validated, observed: &Observed, desired: i32) -> DecisionStatus {
    let decision = |reason: &str, message: String| DecisionStatus {
        reason: reason.to_owned(),
        message,
    };
    if let Some(fixed) = pool.fixed {
        return decision("Fixed", format!("{fixed} of a fixed total"));
    }
    if service.mode == Mode::Direct {
        return match decided(pool, observed) {
            Some(decided) => decision(decided.reason, decided.message.clone()),
            None => decision("Pending", "not decided yet".to_owned()),
        };
    }
    let autoscaler = observed.autoscalers.get(&pool.name).map(AsRef::as_ref);
    let nothing = Vec::new();
    let readings = observed.readings.get(&pool.name).unwrap_or(&nothing);
    let deployment = observed.deployments.get(&pool.name);
    let ready = deployment.and_then(|d| d.status.as_ref()?.ready_replicas).unwrap_or(0);
    let mut proposals: Vec<Proposal> = service
        .metrics
        .iter()
        .zip(readings)
        .map(|(metric, reading)| propose(metric, reading.as_ref(), autoscaler, ready))
        .collect();
    let text = |proposals: &[Proposal]| proposals.iter().map(|p| p.text.as_str()).collect::<Vec<_>>().join("; ");
    let winner = proposals
        .iter_mut()
        .filter(|p| p.replicas.is_some())
        .max_by(|a, b| a.replicas.partial_cmp(&b.replicas).unwrap_or(std::cmp::Ordering::Equal));
    let Some(winner) = winner else {
        return decision("MetricsUnavailable", format!("{desired} kept: {}", text(&proposals)));
    };
    winner.text.push_str(" (winner)");
    let (word, wants) = (winner.word, winner.replicas.unwrap_or_default());
    let message = text(&proposals);
    if wants <= f64::from(pool.replicas_min) && desired == pool.replicas_min {
        return decision("MinReplicas", format!("{message}; at least {}", pool.replicas_min));
    }
    if wants > f64::from(pool.replicas_max) && desired == pool.replicas_max {
        return decision(word, format!("{message}; at most {}", pool.replicas_max));
    }
    decision(word, message)
}

fn propose(
    metric: &ScalingMetric,
    reading: Option<&Reading>,
    autoscaler: Option<&HorizontalPodAutoscaler>,
    ready: i32,
) -> Proposal {
    let word = metric.word();
    match metric {
        ScalingMetric::Resource { name, target } => {
            let usage = autoscaler.and_then(|a| resource_usage(a, name.as_str()));
            let replicas = autoscaler
                .and_then(|a| a.status.as_ref())
                .and_then(|s| s.current_replicas);
            let (ratio, text) = match (target, usage) {
                (ResourceTarget::Utilization(percent), Some((Some(used), _))) => (
                    f64::from(used) / f64::from(*percent),
                    format!("{word} {used} % of {percent} %"),
                ),
                (ResourceTarget::AverageValue(wanted), Some((_, Some(used)))) => {
                    let ratio = number(&used)
                        .zip(number(wanted))
                        .map_or(f64::NAN, |(used, wanted)| used / wanted);
                    (ratio, format!("{word} {} of {}", used.0, wanted.0))
                }
                _ => (f64::NAN, format!("{word} unknown")),
            };
            let wants = replicas
                .map(|r| (f64::from(r) * ratio).ceil())
                .filter(|w| w.is_finite());
            Proposal {
                word,
                replicas: wants,
                text: arrow(text, wants),
            }
        }
        ScalingMetric::RequestRate(target) => of_signal(word, "req/s", target, reading, ready),
        ScalingMetric::QueueDepth(target) => of_signal(word, "queued", target, reading, ready),
        ScalingMetric::External { name, target, .. } => of_signal(word, &format!("({name})"), target, reading, ready),
    }
}

fn of_signal(word: &'static str, unit: &str, target: &Target, reading: Option<&Reading>, ready: i32) -> Proposal {
    // As much per replica makes a number of replicas; as much in all says by how much those that there are are too few.
    let (amount, per, replicas_now) = match target {
        Target::AverageValue(amount) => (amount, " per replica", 1.0),
        Target::Value(amount) => (amount, " in all", f64::from(ready.max(1))),
    };
    match reading {
        Some(Ok(sample)) => {
            let wants = number(amount)
                .filter(|a| *a > 0.0)
                .map(|amount| (sample.value / amount * replicas_now).ceil());
            let text = format!("{} {unit} / {}{per}", rounded(sample.value), amount.0);
            Proposal {
                word,
                replicas: wants,
                text: arrow(text, wants),
            }
        }
        Some(Err(unavailable)) => Proposal {
            word,
            replicas: None,
            text: format!("{word} unknown ({})", unavailable.reason),
        },
        None => Proposal {
            word,
            replicas: None,
            text: format!("{word} unknown"),
        },
    }
}

fn arrow(text: String, wants: Option<f64>) -> String {
    match wants {
        Some(wants) => format!("{text} → {wants}"),
        None => text,
    }
}

fn resource_usage(autoscaler: &HorizontalPodAutoscaler, name: &str) -> Option<(Option<i32>, Option<Quantity>)> {
    let current = autoscaler
        .status
        .as_ref()?
        .current_metrics
        .iter()
        .flatten()
        .find_map(|m| m.container_resource.as_ref().filter(|c| c.name == name))?;
    Some((
        current.current.average_utilization,
        current.current.average_value.clone(),
    ))
}

fn rounded(value: f64) -> String {
    if value >= 10.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    }
}

/// What keeps the replicas from what the signals ask for; of several pools the first that is kept.
pub(super) fn limited_by(service: &Validated, observed: &Observed) -> Option<String> {
    if service.is_fixed {
        return Some("fixed".to_owned());
    }
    if service.mode == Mode::Direct {
        let limits = service
            .pools
            .iter()
            .find_map(|pool| decided(pool, observed)?.limited_by);
        return limits.map(ToOwned::to_owned);
    }
    service.pools.iter().find_map(|pool| {
        let autoscaler = observed.autoscalers.get(&pool.name)?;
        if condition(autoscaler, "AbleToScale").and_then(|c| c.reason.as_deref()) == Some("ScaleDownStabilized") {
            return Some("behavior".to_owned());
        }
        let limited = condition(autoscaler, "ScalingLimited").filter(|c| c.status == "True")?;
        Some(
            match limited.reason.as_deref() {
                Some("TooManyReplicas") => "maxReplicas",
                Some("TooFewReplicas") => "minReplicas",
                _ => "behavior",
            }
            .to_owned(),
        )
    })
}

/// Waiting requests to two significant digits: a status that repeated every tick's number would be written at every tick.
pub fn queue_text(queue: Option<&Reading>) -> String {
    let Some(Ok(sample)) = queue else { return "?".to_owned() };
    let whole = sample.value.round().max(0.0) as u64;
    let mut unit = 1;
    while whole / unit >= 100 {
        unit *= 10;
    }
    (whole / unit * unit).to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::domain::decided::Decided;
    use crate::test_support::{deployment, validated};

    fn observed(replicas: i32, reason: &'static str, message: &str) -> Observed {
        let pool = DecidedPool {
            replicas,
            reason,
            message: message.to_owned(),
            limited_by: Some("maxReplicas"),
        };
        Observed {
            decided: Some(Arc::new(Decided {
                pools: BTreeMap::from([("cpu".to_owned(), pool)]),
                problem: None,
            })),
            ..Observed::default()
        }
    }

    #[test]
    fn the_operators_own_decision_is_advice_or_the_decision_by_the_mode() {
        let of = |mode: &str| validated(json!({"spec": {"predictor": {"autoScaling": {"mode": mode}}}}));
        let seen = observed(4, "RateSizing", "72 req/s needs 4");
        let direct = of("Direct");
        let said = decide(&direct.pools[0], &direct, &seen, 4, None);
        assert_eq!(
            (said.reason.as_str(), said.message.as_str()),
            ("RateSizing", "72 req/s needs 4")
        );
        assert_eq!(limited_by(&direct, &seen).as_deref(), Some("maxReplicas"));
        assert_eq!(advice(&direct.pools[0], &direct, &seen, None), None);
        let advise = of("Advise");
        let said = advice(&advise.pools[0], &advise, &seen, None).unwrap();
        assert_eq!((said.replicas, said.message.as_str()), (4, "72 req/s needs 4"));
        assert_eq!(
            limited_by(&advise, &seen),
            None,
            "that of the HorizontalPodAutoscaler counts"
        );
    }

    #[test]
    fn a_target_in_all_multiplies_the_replicas_that_there_are() {
        let asks = |target: serde_json::Value, ready: i32| {
            let metrics = json!([{"type": "QueueDepth", "target": target}]);
            let service = validated(json!({"spec": {"predictor": {"autoScaling": {"metrics": metrics}}}}));
            let sample = crate::domain::published::Sample {
                value: 30.0,
                at: jiff::Timestamp::UNIX_EPOCH,
            };
            let counts = json!({"readyReplicas": ready});
            let seen = Observed {
                deployments: BTreeMap::from([("cpu".to_owned(), Arc::new(deployment("cpu", 1, ready, counts)))]),
                readings: BTreeMap::from([("cpu".to_owned(), vec![Some(Ok(sample))])]),
                ..Observed::default()
            };
            decide(&service.pools[0], &service, &seen, ready, None).message
        };
        let in_all = json!({"type": "Value", "value": "10"});
        assert!(
            asks(in_all.clone(), 2).contains("30 queued / 10 in all → 6"),
            "{}",
            asks(in_all, 2)
        );
        let each = json!({"type": "AverageValue", "averageValue": "10"});
        assert!(
            asks(each.clone(), 2).contains("30 queued / 10 per replica → 3"),
            "{}",
            asks(each, 2)
        );
    }

    #[test]
    fn a_sentence_of_advice_is_made_anew_only_for_another_number_or_reason() {
        let service = validated(json!({"spec": {"predictor": {"autoScaling": {"mode": "Advise"}}}}));
        let given = |seen: &Observed, before: Option<&AdviceStatus>| {
            let before = PoolStatus {
                advice: before.cloned(),
                ..PoolStatus::default()
            };
            advice(&service.pools[0], &service, seen, Some(&before)).unwrap()
        };
        let first = given(&observed(4, "RateSizing", "72 req/s needs 4"), None);
        let same = given(&observed(4, "RateSizing", "73 req/s needs 4"), Some(&first));
        assert_eq!(same, first);
        let other = given(&observed(5, "RateSizing", "99 req/s needs 5"), Some(&first));
        assert_eq!(other.message, "99 req/s needs 5");
        assert_eq!(given(&Observed::default(), Some(&first)), first, "nothing new is known");
    }
}
