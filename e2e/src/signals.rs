//! What a HorizontalPodAutoscaler has read, as multiples of its targets, and waiting until it has nothing to do.
use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler, MetricSpec, MetricStatus, MetricTarget, MetricValueStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::{Api, Client};
use serde_json::Value;
use tidewright_api::{labels, names};

use crate::wait::{Seen, await_condition};

/// A signal per replica as a multiple of its target, from what the HorizontalPodAutoscaler says that it has read.
pub fn multiple(autoscaler: &HorizontalPodAutoscaler, name: &str) -> Option<f64> {
    let metrics = autoscaler.spec.metrics.iter().flatten();
    metrics
        .filter(|metric| of_spec(metric).is_some_and(|(known, _)| known == name))
        .find_map(|metric| read(autoscaler, metric))
}

/// All signals, by name; None for those that it has not read.
fn multiples(autoscaler: &HorizontalPodAutoscaler) -> Vec<(String, Option<f64>)> {
    let metrics = autoscaler.spec.metrics.iter().flatten();
    metrics
        .map(|metric| {
            let name = of_spec(metric).map_or(metric.type_.as_str(), |(name, _)| name);
            (name.to_owned(), read(autoscaler, metric))
        })
        .collect()
}

fn read(autoscaler: &HorizontalPodAutoscaler, metric: &MetricSpec) -> Option<f64> {
    let (name, target) = of_spec(metric)?;
    let statuses = autoscaler.status.as_ref()?.current_metrics.iter().flatten();
    let current = statuses
        .filter_map(of_status)
        .find_map(|(known, current)| (known == name).then_some(current))?;
    let (current, target) = if let Some(target) = &target.average_value {
        (number(current.average_value.as_ref()?)?, number(target)?)
    } else if let Some(target) = &target.value {
        (number(current.value.as_ref()?)?, number(target)?)
    } else {
        (
            f64::from(current.average_utilization?),
            f64::from(target.average_utilization?),
        )
    };
    (target > 0.0).then(|| current / target)
}

/// Name and target of the two kinds that the operator writes.
fn of_spec(metric: &MetricSpec) -> Option<(&str, &MetricTarget)> {
    let object = metric.object.as_ref();
    let object = object.map(|object| (object.metric.name.as_str(), &object.target));
    let resource = metric.container_resource.as_ref();
    object.or_else(|| resource.map(|resource| (resource.name.as_str(), &resource.target)))
}

fn of_status(metric: &MetricStatus) -> Option<(&str, &MetricValueStatus)> {
    let object = metric.object.as_ref();
    let object = object.map(|object| (object.metric.name.as_str(), &object.current));
    let resource = metric.container_resource.as_ref();
    object.or_else(|| resource.map(|resource| (resource.name.as_str(), &resource.current)))
}

/// A quantity as the HorizontalPodAutoscaler writes it: whole numbers, thousandths, thousands.
fn number(quantity: &Quantity) -> Option<f64> {
    let text = quantity.0.as_str();
    for (suffix, factor) in [("n", 1e-9), ("u", 1e-6), ("m", 1e-3), ("k", 1e3), ("M", 1e6)] {
        if let Some(digits) = text.strip_suffix(suffix) {
            return digits.parse::<f64>().ok().map(|value| value * factor);
        }
    }
    text.parse().ok()
}

/// Waits until the only pool of a service is calm: its autoscaler has read every signal, none asks for more than there is, and the minimum runs.
///
/// CPU figures are of the past, up to half a minute back. They count from when they say nothing any more of what was before `since`, such as the
/// loading of the model, which would otherwise be taken for load.
pub async fn await_calm(
    client: &Client,
    (namespace, service): (&str, &str),
    since: Timestamp,
    deadline: Duration,
) -> Result<()> {
    let name = names::pool(service, names::DEFAULT_POOL);
    let autoscalers: Api<HorizontalPodAutoscaler> = Api::namespaced(client.clone(), namespace);
    await_condition(&format!("{name} to be calm"), deadline, || async {
        let autoscaler = autoscalers.get(&name).await?;
        let metrics = autoscaler.spec.metrics.iter().flatten();
        if metrics.clone().any(|metric| metric.container_resource.is_some()) {
            let measured = measured_from(client, namespace, service).await?;
            if measured < since {
                return Ok(Seen::not_yet(format!(
                    "CPU figures from {measured} on, needed from {since} on"
                )));
            }
        }
        let status = autoscaler.status.clone().unwrap_or_default();
        let least = autoscaler.spec.min_replicas.unwrap_or(1);
        let read = multiples(&autoscaler);
        let is_calm = read
            .iter()
            .all(|(_, multiple)| multiple.is_some_and(|multiple| multiple <= 1.0))
            && status.desired_replicas == least
            && status.current_replicas == Some(least);
        Ok(if is_calm {
            Seen::Done(())
        } else {
            Seen::not_yet(format!(
                "{:?} replicas, {} wanted, multiples of the targets {read:?}",
                status.current_replicas, status.desired_replicas
            ))
        })
    })
    .await
}

/// The instant from which on the resource metrics of a service's pods count: the beginning of the earliest interval that was measured.
async fn measured_from(client: &Client, namespace: &str, service: &str) -> Result<Timestamp> {
    let path = format!(
        "/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods?labelSelector={}%3D{service}",
        labels::SERVICE
    );
    let list: Value = client.request(http::Request::get(path).body(Vec::new())?).await?;
    let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let begins = items.iter().map(|item| {
        let text = |key: &str| {
            item[key]
                .as_str()
                .with_context(|| format!("resource metrics without {key}"))
        };
        let (end, window): (Timestamp, SignedDuration) = (text("timestamp")?.parse()?, text("window")?.parse()?);
        anyhow::Ok(end.checked_sub(window)?)
    });
    begins
        .min_by_key(|begin| begin.as_ref().ok().copied())
        .context("no resource metrics yet")?
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn autoscaler(current: &Value) -> HorizontalPodAutoscaler {
        let rate = json!({"describedObject": {"kind": "InferenceService", "name": "digits"}, "metric": {"name": "request_rate"},
            "target": {"type": "AverageValue", "averageValue": "100"}});
        let cpu = json!({"name": "cpu", "container": "kserve-container", "target": {"type": "Utilization", "averageUtilization": 70}});
        serde_json::from_value(json!({
            "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "digits-cpu"},
                "metrics": [{"type": "Object", "object": rate}, {"type": "ContainerResource", "containerResource": cpu}]},
            "status": {"desiredReplicas": 1, "currentMetrics": current},
        }))
        .unwrap()
    }

    #[test]
    fn signals_are_multiples_of_their_own_targets() {
        let rate = json!({"describedObject": {"kind": "InferenceService", "name": "digits"}, "metric": {"name": "request_rate"},
            "current": {"averageValue": "250", "value": "250"}});
        let cpu = json!({"name": "cpu", "container": "kserve-container", "current": {"averageUtilization": 35}});
        let both = autoscaler(
            &json!([{"type": "Object", "object": rate}, {"type": "ContainerResource", "containerResource": cpu}]),
        );
        assert_eq!(multiple(&both, "request_rate"), Some(2.5));
        assert_eq!(multiple(&both, "cpu"), Some(0.5));
        assert_eq!(multiple(&both, "queue_depth"), None);
        let one = autoscaler(&json!([{"type": "Object", "object": rate}]));
        assert_eq!(
            multiples(&one),
            [("request_rate".to_owned(), Some(2.5)), ("cpu".to_owned(), None)]
        );
    }

    #[test]
    fn quantities_are_read_as_the_controller_writes_them() {
        let read = |text: &str| number(&Quantity(text.to_owned()));
        assert_eq!(read("250"), Some(250.0));
        assert_eq!(read("1500m"), Some(1.5));
        assert_eq!(read("2k"), Some(2000.0));
        assert_eq!(read("x"), None);
    }
}
