//! From the metrics of a spec to one recommendation: the highest of the valid ones, or none.
//!
//! Kubernetes 1.37.2, `computeReplicasForMetrics` in `horizontal.go`. An invalid metric forbids to scale down, not up.

use super::calculator::{Calculator, Count};
use super::input::{PodMetrics, Reading, Scale};
use super::spec::{Metric, Resource, ResourceTarget, Spec, ValueTarget};

/// What one metric asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    pub count: Count,
    /// How messages call the metric.
    pub metric: String,
}

/// Why one metric asks for nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// Reason of the condition `ScalingActive`.
    pub reason: &'static str,
    /// What that condition says.
    pub cause: String,
    /// What the controller logs.
    pub error: String,
}

/// What all metrics ask for together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recommended {
    /// The highest proposal.
    pub replicas: i32,
    pub metric: String,
    /// Set where some metric is invalid and the rest scales up.
    pub error: Option<String>,
}

/// Why nothing is recommended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    pub first: Invalid,
    pub error: String,
}

/// One result per metric of the spec, in its order.
pub fn proposals(
    spec: &Spec,
    calculator: Calculator<'_>,
    scale: Scale,
    readings: &[Result<Reading, String>],
) -> Vec<Result<Proposal, Invalid>> {
    let unread = Err("no reading".to_owned());
    let one = |(index, metric)| {
        let reading = readings.get(index).unwrap_or(&unread);
        let namespace = &spec.namespace;
        Source {
            namespace,
            calculator,
            scale,
            reading,
        }
        .proposal(metric)
    };
    spec.metrics.iter().enumerate().map(one).collect()
}

/// `computeReplicasForMetrics`, after the single metrics.
pub fn combine(proposals: &[Result<Proposal, Invalid>], spec_replicas: i32) -> Result<Recommended, Unknown> {
    let (mut replicas, mut metric) = (0, String::new());
    let mut first: Option<&Invalid> = None;
    let mut invalid = 0;
    for proposal in proposals {
        match proposal {
            Ok(proposal) if replicas == 0 || proposal.count.replicas > replicas => {
                replicas = proposal.count.replicas;
                metric.clone_from(&proposal.metric);
            }
            Ok(_) => {}
            Err(problem) => {
                invalid += 1;
                first = first.or(Some(problem));
            }
        }
    }
    let total = proposals.len();
    let describe = |problem: &Invalid| {
        let error = &problem.error;
        format!("invalid metrics ({invalid} invalid out of {total}), first error is: {error}")
    };
    match first {
        Some(problem) if invalid >= total || replicas < spec_replicas => Err(Unknown {
            first: problem.clone(),
            error: describe(problem),
        }),
        problem => Ok(Recommended {
            replicas,
            metric,
            error: problem.map(describe),
        }),
    }
}

struct Source<'a> {
    namespace: &'a str,
    calculator: Calculator<'a>,
    scale: Scale,
    reading: &'a Result<Reading, String>,
}

impl Source<'_> {
    /// `computeReplicasForMetric`.
    fn proposal(&self, metric: &Metric) -> Result<Proposal, Invalid> {
        match metric {
            Metric::Resource { resource, target } => self.resource(*resource, None, *target),
            Metric::ContainerResource {
                resource,
                container,
                target,
            } => self.resource(*resource, Some(container), *target),
            Metric::Pods { name, average_milli } => self.pods(name, *average_milli),
            Metric::Object {
                name,
                kind,
                object,
                selector,
                target,
            } => self.object(name, kind, object, selector, *target),
            Metric::External { name, selector, target } => self.external(name, selector, *target),
        }
    }

    fn resource(
        &self,
        resource: Resource,
        container: Option<&str>,
        target: ResourceTarget,
    ) -> Result<Proposal, Invalid> {
        let name = resource.name();
        let current = self.scale.spec_replicas;
        let fetched = self
            .per_pod()
            .map_err(|error| format!("unable to get metrics for resource {name}: {error}"));
        let what = if container.is_some() { " container" } else { "" };
        let (result, metric) = match target {
            ResourceTarget::AverageValue(milli) => (
                fetched
                    .and_then(|metrics| self.calculator.average_value(current, milli, Some(resource), metrics))
                    .map_err(|error| format!("failed to get {name} usage: {error}")),
                format!("{name} resource"),
            ),
            ResourceTarget::Utilization(percent) => (
                fetched
                    .and_then(|metrics| {
                        let calculator = self.calculator;
                        calculator.resource_utilization(current, percent, resource, container, metrics)
                    })
                    .map_err(|error| format!("failed to get {name} utilization: {error}")),
                format!("{name}{what} resource utilization (percentage of request)"),
            ),
        };
        match (result, container) {
            (Ok(count), _) => Ok(Proposal { count, metric }),
            (Err(cause), None) => Err(Invalid {
                reason: "FailedGetResourceMetric",
                error: format!("failed to get {name} resource metric value: {cause}"),
                cause,
            }),
            (Err(cause), Some(container)) => Err(Invalid {
                reason: "FailedGetContainerResourceMetric",
                error: format!("failed to get {container} container metric value: {cause}"),
                cause,
            }),
        }
    }

    fn pods(&self, name: &str, average_milli: i64) -> Result<Proposal, Invalid> {
        let current = self.scale.spec_replicas;
        let count = self
            .per_pod()
            .map_err(|error| format!("unable to get metric {name}: {error}"))
            .and_then(|metrics| self.calculator.average_value(current, average_milli, None, metrics));
        match count {
            Ok(count) => Ok(Proposal {
                count,
                metric: format!("pods metric {name}"),
            }),
            Err(cause) => Err(Invalid {
                reason: "FailedGetPodsMetric",
                error: format!("failed to get pods metric value: {cause}"),
                cause,
            }),
        }
    }

    fn object(
        &self,
        name: &str,
        kind: &str,
        object: &str,
        selector: &str,
        target: ValueTarget,
    ) -> Result<Proposal, Invalid> {
        let namespace = self.namespace;
        let fetched = match self.reading {
            Ok(Reading::Object(value)) => Ok(*value),
            Ok(_) => Err("not a metric of an object".to_owned()),
            Err(error) => Err(error.clone()),
        }
        .map_err(|error| format!("unable to get metric {name} on {kind} {namespace}/{object}: {error}"));
        let calculator = self.calculator;
        let (count, metric, inner) = match target {
            ValueTarget::Value(milli) => (
                fetched.and_then(|value| calculator.object_value(self.scale.spec_replicas, milli, value)),
                format!("{kind} metric {name}"),
                String::new(),
            ),
            ValueTarget::AverageValue(milli) => (
                fetched.map(|value| calculator.object_average(self.scale.status_replicas, milli, value)),
                // The source says "external" here.
                format!("external metric {name}({selector})"),
                format!("failed to get {name} object metric: "),
            ),
        };
        count.map(|count| Proposal { count, metric }).map_err(|cause| Invalid {
            reason: "FailedGetObjectMetric",
            error: format!("failed to get object metric value: {inner}{cause}"),
            cause,
        })
    }

    fn external(&self, name: &str, selector: &str, target: ValueTarget) -> Result<Proposal, Invalid> {
        let namespace = self.namespace;
        let fetched = match self.reading {
            Ok(Reading::External(values)) => Ok(values),
            Ok(_) => Err("not an external metric"),
            Err(error) => Err(error.as_str()),
        }
        .map_err(|error| format!("unable to get external metric {namespace}/{name}/{selector}: {error}"));
        let calculator = self.calculator;
        let (count, inner) = match target {
            ValueTarget::Value(milli) => (
                fetched.and_then(|values| calculator.external_value(self.scale.spec_replicas, milli, values)),
                format!("failed to get external metric {name}"),
            ),
            ValueTarget::AverageValue(milli) => (
                fetched.map(|values| calculator.external_average(self.scale.status_replicas, milli, values)),
                format!("failed to get {name} external metric"),
            ),
        };
        let metric = format!("external metric {name}({selector})");
        count.map(|count| Proposal { count, metric }).map_err(|cause| Invalid {
            reason: "FailedGetExternalMetric",
            error: format!("failed to get {name} external metric value: {inner}: {cause}"),
            cause,
        })
    }

    fn per_pod(&self) -> Result<PodMetrics, String> {
        match self.reading {
            Ok(Reading::PerPod(metrics)) => Ok(metrics.clone()),
            Ok(_) => Err("not a metric of pods".to_owned()),
            Err(error) => Err(error.clone()),
        }
    }
}
