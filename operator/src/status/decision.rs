//! Why a pool has as many replicas as it has: what each signal proposes, which one wins, and what limits it.
//!
//! The HorizontalPodAutoscaler controller decides; this repeats its arithmetic, `ceil(value / target)`, times the ready replicas for a target in all, on the values that it is given, to say
//! it in a sentence. The sentence is made anew only when the number or the winner changes, or the schedule that it names, or a moment that it names has passed: the values
//! themselves move all the time, and are metrics.

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tidewright_api::scaling::Mode;
use tidewright_api::status::{AdviceStatus, DecisionStatus, PoolStatus, ScheduleStatus};

use super::moments;
use super::scaling::condition;
use crate::domain::decided::DecidedPool;
use crate::domain::observed::Observed;
use crate::domain::published::Reading;
use crate::domain::quantity::number;
use crate::domain::signals::Signals;
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
    now: Timestamp,
) -> DecisionStatus {
    let fresh = fresh(pool, service, observed, desired);
    let is_same = |d: &&DecisionStatus| d.reason == fresh.reason && d.schedule == fresh.schedule;
    match before.and_then(|b| {
        b.decision
            .as_ref()
            .filter(|_| b.desired == desired)
            .filter(is_same)
            .filter(|d| !moments::has_one_passed(&d.message, now))
    }) {
        Some(unchanged) => unchanged.clone(),
        None => fresh,
    }
}

/// What the operator would do where a HorizontalPodAutoscaler scales; the sentence is made anew when the number or the reason changes, or a moment that
/// it names has passed.
pub(super) fn advice(
    pool: &Pool,
    service: &Validated,
    observed: &Observed,
    before: Option<&PoolStatus>,
    now: Timestamp,
) -> Option<AdviceStatus> {
    if service.mode == Mode::Direct || !service.is_decidable() {
        return None;
    }
    if service.mode == Mode::Hpa && observed.signals == Signals::NoPrometheus && !service.names_resource() {
        return None;
    }
    let before = before.and_then(|b| b.advice.as_ref());
    let Some(decided) = decided(pool, observed) else {
        return before.cloned();
    };
    let is_same = |b: &&AdviceStatus| {
        let is_outdated = moments::has_one_passed(&b.message, now);
        b.replicas == decided.replicas && b.reason == decided.reason && b.schedule == decided.schedule && !is_outdated
    };
    Some(before.filter(is_same).cloned().unwrap_or_else(|| AdviceStatus {
        replicas: decided.replicas,
        reason: decided.reason.to_owned(),
        message: decided.message.clone(),
        schedule: decided.schedule.clone(),
    }))
}

fn decided<'a>(pool: &Pool, observed: &'a Observed) -> Option<&'a DecidedPool> {
    observed.decided.as_ref()?.pools.get(&pool.name)
}

fn fresh(pool: &Pool, service: &Validated, observed: &Observed, desired: i32) -> DecisionStatus {
    let decision = |reason: &str, message: String| DecisionStatus {
        reason: reason.to_owned(),
        message,
        schedule: None,
    };
    if let Some(fixed) = pool.fixed {
        return decision("Fixed", format!("{fixed} of a fixed total"));
    }
    if service.mode == Mode::Direct {
        return match decided(pool, observed) {
            Some(decided) => DecisionStatus {
                schedule: decided.schedule.clone(),
                ..decision(decided.reason, decided.message.clone())
            },
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
    let fewest = pool.fewest();
    if wants <= f64::from(fewest)
        && desired == fewest
        && let Some(schedule) = pool.schedule()
    {
        let (until, name) = (schedule.until, schedule.name.clone());
        let message = format!("{message}; at least {fewest} until {until} by schedule {name}");
        let until = Time(until);
        return DecisionStatus {
            schedule: Some(ScheduleStatus { name, until }),
            ..decision("Schedule", message)
        };
    }
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
        ScalingMetric::Concurrency(target) => of_signal(word, "in work", target, reading, ready),
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
                Some("TooFewReplicas") if pool.schedule().is_some() => "schedule",
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
mod tests;
