//! Signals and their targets.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use tidewright_api::defaults;
use tidewright_api::scaling::{AutoScaling, Metric, MetricTarget, MetricType, Mode, Overload, Slo, TargetType};

use super::quantity;
use crate::domain::problem::Problem;
use crate::domain::validated::{Objective, ResourceTarget, ScalingMetric, Target};

/// Judges a query, or an address: the reason why it is refused, if it is.
pub type Refusal = Box<dyn Fn(&str, &str) -> Option<String> + Send + Sync>;

/// What the operator knows of Prometheus, as far as a spec can disagree with it.
pub struct Prometheus {
    /// `(query, namespace)`: why the query cannot be narrowed to the namespace.
    pub query_refusal: Refusal,
    /// `(address, namespace)`: why the address is not accepted.
    pub address_refusal: Refusal,
}

impl std::fmt::Debug for Prometheus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Prometheus")
    }
}

pub(super) fn validate(
    spec: Option<&AutoScaling>,
    namespace: &str,
    prometheus: &Prometheus,
    problems: &mut Vec<Problem>,
) -> Vec<ScalingMetric> {
    let given = spec.map(|s| s.metrics.as_slice()).unwrap_or_default();
    let mut implied = if given.is_empty() {
        defaults::metrics()
    } else {
        Vec::new()
    };
    if spec.is_some_and(|s| s.mode == Mode::Direct) {
        // Of a service that names none, those that the operator itself goes by: without metrics-server CPU would let nothing shrink.
        implied.retain(|metric| metric.r#type != MetricType::Resource);
    }
    let mut externals = 0;
    let mut metrics: Vec<ScalingMetric> = Vec::new();
    for (index, metric) in given.iter().chain(&implied).enumerate() {
        let path = format!("spec.predictor.autoScaling.metrics[{index}]");
        let Some(metric) = one(metric, &path, namespace, &mut externals, prometheus, problems) else {
            continue;
        };
        // A signal without a name is called by its position, which another may have for a name.
        if metric
            .signal()
            .is_some_and(|signal| metrics.iter().any(|other| other.signal() == Some(signal.clone())))
        {
            problems.push(Problem::new(
                path,
                format!(
                    "another signal is called {:?} too: give each External one a name of its own",
                    metric.word()
                ),
            ));
            continue;
        }
        metrics.push(metric);
    }
    metrics
}

/// When a pause ends.
pub(super) fn paused_until(spec: Option<&str>, problems: &mut Vec<Problem>) -> Option<Timestamp> {
    let text = spec?;
    let until = text.parse().ok();
    if until.is_none() {
        problems.push(Problem::new(
            "spec.predictor.autoScaling.pausedUntil",
            format!("{text:?} is not a time such as 2026-01-31T14:00:00Z"),
        ));
    }
    until
}

/// What is promised to callers.
pub(super) fn objective(spec: Option<&Slo>, problems: &mut Vec<Problem>) -> Option<Objective> {
    let slo = spec?;
    let path = "spec.predictor.autoScaling.slo";
    let latency_seconds = duration(&slo.latency, &format!("{path}.latency"), problems)?;
    let service_seconds = duration(&slo.service_time, &format!("{path}.serviceTime"), problems)?;
    if service_seconds >= latency_seconds {
        problems.push(Problem::new(
            format!("{path}.latency"),
            format!(
                "{:?} cannot be kept where one request alone takes {:?}",
                slo.latency, slo.service_time
            ),
        ));
        return None;
    }
    Some(Objective {
        latency_seconds,
        late_share: 1.0 - f64::from(slo.percentile.clamp(1, 99)) / 100.0,
        service_seconds,
        refuses_late: slo.overload == Overload::Refuse,
    })
}

/// A time such as `200ms` or `2s`, in seconds.
fn duration(text: &str, path: &str, problems: &mut Vec<Problem>) -> Option<f64> {
    let (number, factor) = match text.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None => (text.strip_suffix('s').unwrap_or_default(), 1.0),
    };
    let seconds = number
        .parse::<u32>()
        .ok()
        .map(|n| f64::from(n) * factor)
        .filter(|s| *s > 0.0);
    if seconds.is_none() {
        problems.push(Problem::new(
            path,
            format!("{text:?} is not a time such as 200ms or 2s"),
        ));
    }
    seconds
}

fn one(
    metric: &Metric,
    path: &str,
    namespace: &str,
    externals: &mut usize,
    prometheus: &Prometheus,
    problems: &mut Vec<Problem>,
) -> Option<ScalingMetric> {
    match metric.r#type {
        MetricType::Resource => {
            let Some(resource) = &metric.resource else {
                return missing(path, "resource", problems);
            };
            let path = format!("{path}.resource.target");
            let target = match (resource.target.r#type, resource.target.average_utilization) {
                (TargetType::Utilization, Some(percent)) if percent > 0 => ResourceTarget::Utilization(percent),
                (TargetType::Utilization, _) => return missing(&path, "averageUtilization", problems),
                (TargetType::AverageValue, _) => ResourceTarget::AverageValue(amount(
                    resource.target.average_value.as_ref(),
                    &path,
                    "averageValue",
                    problems,
                )?),
                (TargetType::Value, _) => {
                    problems.push(Problem::new(
                        format!("{path}.type"),
                        "must be Utilization or AverageValue for a resource",
                    ));
                    return None;
                }
            };
            Some(ScalingMetric::Resource {
                name: resource.name,
                target,
            })
        }
        MetricType::RequestRate => Some(ScalingMetric::RequestRate(target(
            metric.target.as_ref(),
            path,
            problems,
        )?)),
        MetricType::QueueDepth => Some(ScalingMetric::QueueDepth(target(
            metric.target.as_ref(),
            path,
            problems,
        )?)),
        MetricType::Concurrency => Some(ScalingMetric::Concurrency(target(
            metric.target.as_ref(),
            path,
            problems,
        )?)),
        MetricType::External => {
            let position = *externals;
            *externals += 1;
            let Some(external) = &metric.external else {
                return missing(path, "external", problems);
            };
            let path = format!("{path}.external");
            let Some(query) = external.metric.query.as_ref() else {
                return missing(&path, "metric.query", problems);
            };
            if let Some(why) = (prometheus.query_refusal)(query, namespace) {
                problems.push(Problem::new(format!("{path}.metric.query"), why));
                return None;
            }
            if let Some(address) = &external.metric.server_address
                && let Some(why) = (prometheus.address_refusal)(address, namespace)
            {
                problems.push(Problem::new(format!("{path}.metric.serverAddress"), why));
                return None;
            }
            Some(ScalingMetric::External {
                name: external.metric.name.clone().unwrap_or_else(|| position.to_string()),
                query: query.clone(),
                server_address: external.metric.server_address.clone(),
                target: target(Some(&external.target), &path, problems)?,
            })
        }
    }
}

fn target(spec: Option<&MetricTarget>, path: &str, problems: &mut Vec<Problem>) -> Option<Target> {
    let Some(spec) = spec else {
        return missing(path, "target", problems);
    };
    let path = format!("{path}.target");
    match spec.r#type {
        TargetType::AverageValue => Some(Target::AverageValue(amount(
            spec.average_value.as_ref(),
            &path,
            "averageValue",
            problems,
        )?)),
        TargetType::Value => Some(Target::Value(amount(spec.value.as_ref(), &path, "value", problems)?)),
        TargetType::Utilization => {
            problems.push(Problem::new(
                format!("{path}.type"),
                "must be AverageValue or Value: this signal has no utilisation",
            ));
            None
        }
    }
}

fn amount(given: Option<&Quantity>, path: &str, field: &str, problems: &mut Vec<Problem>) -> Option<Quantity> {
    let Some(given) = given else {
        return missing(path, field, problems);
    };
    quantity::positive(given, &format!("{path}.{field}"), problems).map(|_| given.clone())
}

fn missing<T>(path: &str, field: &str, problems: &mut Vec<Problem>) -> Option<T> {
    problems.push(Problem::new(format!("{path}.{field}"), "is missing"));
    None
}
