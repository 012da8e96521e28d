//! One HorizontalPodAutoscaler per pool. Signals of ours are Object metrics that describe the InferenceService; the selector names the pool.

use std::collections::BTreeMap;

use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricSource, CrossVersionObjectReference, HPAScalingRules, HorizontalPodAutoscaler,
    HorizontalPodAutoscalerBehavior, HorizontalPodAutoscalerSpec, MetricIdentifier, MetricSpec, MetricTarget,
    ObjectMetricSource,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use tidewright_api::{GROUP, VERSION, names};

use super::metadata;
use crate::domain::validated::{Pool, ResourceTarget, ScalingMetric, Target, Validated};

/// Label by which the metrics API tells pools apart.
const POOL_SELECTOR: &str = "pool";

/// An autoscaler scales nothing down while one of its metrics has no value. Signals that nobody serves are left out of it, unless the user named
/// them: who asked for nothing gets CPU alone, in both directions.
pub(super) fn build(service: &Validated, pool: &Pool, are_signals_served: bool) -> HorizontalPodAutoscaler {
    let is_left_out =
        |metric: &ScalingMetric| service.are_metrics_implied && !are_signals_served && metric.signal().is_some();
    let metrics = service.metrics.iter().filter(|metric| !is_left_out(metric));
    let name = names::pool(&service.name, &pool.name);
    HorizontalPodAutoscaler {
        metadata: metadata::object(service, name.clone(), Some(pool)),
        spec: HorizontalPodAutoscalerSpec {
            scale_target_ref: CrossVersionObjectReference {
                api_version: Some("apps/v1".to_owned()),
                kind: "Deployment".to_owned(),
                name,
            },
            min_replicas: Some(pool.fewest()),
            max_replicas: pool.replicas_max,
            metrics: Some(metrics.map(|m| metric(service, pool, m)).collect()),
            behavior: behavior(service),
        },
        status: None,
    }
}

/// As asked; in neither direction while scaling pauses.
fn behavior(service: &Validated) -> Option<HorizontalPodAutoscalerBehavior> {
    if !service.is_paused {
        return service.behavior.clone();
    }
    let nothing = || HPAScalingRules {
        select_policy: Some("Disabled".to_owned()),
        ..HPAScalingRules::default()
    };
    Some(HorizontalPodAutoscalerBehavior {
        scale_up: Some(nothing()),
        scale_down: Some(nothing()),
    })
}

/// Whether an autoscaler reads signals of ours.
pub fn reads_signals(autoscaler: &HorizontalPodAutoscaler) -> bool {
    autoscaler.spec.metrics.iter().flatten().any(|m| m.object.is_some())
}

fn metric(service: &Validated, pool: &Pool, metric: &ScalingMetric) -> MetricSpec {
    match metric {
        // Of the server's container alone: a sidecar's use, or its missing request, would blur the share.
        ScalingMetric::Resource { name, target } => MetricSpec {
            type_: "ContainerResource".to_owned(),
            container_resource: Some(ContainerResourceMetricSource {
                name: name.as_str().to_owned(),
                container: names::SERVER_CONTAINER.to_owned(),
                target: match target {
                    ResourceTarget::Utilization(percent) => MetricTarget {
                        type_: "Utilization".to_owned(),
                        average_utilization: Some(*percent),
                        ..MetricTarget::default()
                    },
                    ResourceTarget::AverageValue(amount) => target_of(&Target::AverageValue(amount.clone())),
                },
            }),
            ..MetricSpec::default()
        },
        ScalingMetric::RequestRate(target)
        | ScalingMetric::QueueDepth(target)
        | ScalingMetric::Concurrency(target)
        | ScalingMetric::External { target, .. } => MetricSpec {
            type_: "Object".to_owned(),
            object: Some(ObjectMetricSource {
                described_object: CrossVersionObjectReference {
                    api_version: Some(format!("{GROUP}/{VERSION}")),
                    kind: "InferenceService".to_owned(),
                    name: service.name.clone(),
                },
                metric: MetricIdentifier {
                    name: metric.signal().map(|s| s.metric_name()).unwrap_or_default(),
                    selector: Some(LabelSelector {
                        match_labels: Some(BTreeMap::from([(POOL_SELECTOR.to_owned(), pool.name.clone())])),
                        match_expressions: None,
                    }),
                },
                target: target_of(target),
            }),
            ..MetricSpec::default()
        },
    }
}

fn target_of(target: &Target) -> MetricTarget {
    match target {
        Target::AverageValue(amount) => MetricTarget {
            type_: "AverageValue".to_owned(),
            average_value: Some(amount.clone()),
            ..MetricTarget::default()
        },
        Target::Value(amount) => MetricTarget {
            type_: "Value".to_owned(),
            value: Some(amount.clone()),
            ..MetricTarget::default()
        },
    }
}
