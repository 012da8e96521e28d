//! A reading -> a `MetricValueList`, or an error; never a stale number. Pure.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use crate::domain::published::{Reading, Reason, Sample, ServiceKey, Signal};
use crate::metrics_api::discovery::GROUP;
use crate::metrics_api::refusal::Refusal;

/// The list of one value that answers a question about one object, in the shape of `version`.
pub fn metric_value_list(
    version: &str,
    service: &ServiceKey,
    pools: Option<&[String]>,
    signal: &Signal,
    reading: Reading,
) -> Result<Value, Refusal> {
    let sample = reading.map_err(|trouble| {
        let message = format!("{} of InferenceService {service}: {trouble}", signal.metric_name());
        if trouble.reason == Reason::Unknown {
            Refusal::not_found(message)
        } else {
            Refusal::unavailable(message)
        }
    })?;
    let selector = pools.map(|pools| match pools {
        [one] => json!({ "matchLabels": { "pool": one } }),
        many => json!({ "matchExpressions": [{ "key": "pool", "operator": "In", "values": many }] }),
    });
    let mut item = json!({
        "describedObject": {
            "kind": "InferenceService",
            "namespace": service.namespace,
            "name": service.name,
            "apiVersion": "serving.tidewright.dev/v1alpha1",
        },
        "timestamp": rfc3339(sample.at),
        "value": quantity(&sample),
    });
    if let Some(item) = item.as_object_mut() {
        if version == "v1beta1" {
            item.insert("metricName".to_owned(), json!(signal.metric_name()));
            // Not optional in this version.
            item.insert("selector".to_owned(), selector.unwrap_or(Value::Null));
        } else {
            let mut metric = json!({ "name": signal.metric_name() });
            if let (Some(selector), Some(fields)) = (selector, metric.as_object_mut()) {
                fields.insert("selector".to_owned(), selector);
            }
            item.insert("metric".to_owned(), metric);
        }
    }
    Ok(json!({
        "kind": "MetricValueList",
        "apiVersion": format!("{GROUP}/{version}"),
        "metadata": {},
        "items": [item],
    }))
}

/// Whole seconds: Kubernetes' `Time` has no others.
fn rfc3339(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A Kubernetes quantity in thousandths, rounded to the nearest; what is not zero never becomes zero. Whole and broken part are taken apart first:
/// multiplying the whole number would lose digits from 2^53/1000 on.
fn quantity(sample: &Sample) -> String {
    let whole = sample.value.trunc();
    let thousandths = ((sample.value - whole) * 1000.0).round();
    let mut total = (whole as u128) * 1000 + (thousandths as u128);
    if total == 0 && sample.value > 0.0 {
        total = 1;
    }
    if total.is_multiple_of(1000) {
        (total / 1000).to_string()
    } else {
        format!("{total}m")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::published::Unavailable;
    use crate::sources::check::VALUE_MAX;

    fn key() -> ServiceKey {
        ServiceKey::new("a", "digits")
    }

    fn sample(value: f64) -> Sample {
        Sample {
            value,
            at: Timestamp::from_millisecond(1_800_000_000_900).unwrap(),
        }
    }

    #[test]
    fn both_versions_have_their_shape() {
        let one = ["cpu".to_owned()];
        let new = metric_value_list("v1beta2", &key(), Some(&one), &Signal::RequestRate, Ok(sample(12.5))).unwrap();
        assert_eq!(
            new,
            json!({
                "kind": "MetricValueList", "apiVersion": "custom.metrics.k8s.io/v1beta2", "metadata": {},
                "items": [{
                    "describedObject": {
                        "kind": "InferenceService", "namespace": "a", "name": "digits",
                        "apiVersion": "serving.tidewright.dev/v1alpha1",
                    },
                    "metric": { "name": "request_rate", "selector": { "matchLabels": { "pool": "cpu" } } },
                    "timestamp": "2027-01-15T08:00:00Z",
                    "value": "12500m",
                }],
            })
        );
        let old = metric_value_list("v1beta1", &key(), None, &Signal::QueueDepth, Ok(sample(3.0))).unwrap();
        let item = &old["items"][0];
        assert_eq!(
            (&item["metricName"], &item["value"]),
            (&json!("queue_depth"), &json!("3"))
        );
        assert!(item.get("metric").is_none() && item["selector"].is_null());
    }

    #[test]
    fn no_number_is_an_error_with_the_reason() {
        let trouble = |reason| Err(Unavailable::new(reason, "47s old"));
        let refusal = metric_value_list(
            "v1beta2",
            &key(),
            None,
            &Signal::RequestRate,
            trouble(Reason::StaleSamples),
        );
        let refusal = refusal.unwrap_err();
        assert_eq!(refusal.code, 503);
        assert_eq!(
            refusal.message,
            "request_rate of InferenceService a/digits: StaleSamples: 47s old"
        );
        let refusal = metric_value_list("v1beta2", &key(), None, &Signal::RequestRate, trouble(Reason::Unknown));
        assert_eq!(refusal.unwrap_err().code, 404);
    }

    #[test]
    fn quantities_are_exact_and_never_overflow() {
        for (value, text) in [
            (0.0, "0"),
            (1e-9, "1m"),
            (0.0004, "1m"),
            (0.35, "350m"),
            (0.9996, "1"),
            (1.0, "1"),
            (12.5, "12500m"),
            (100.000_000_000_000_01, "100"),
            (999_999_999.999, "999999999999m"),
            (123_456_789_012.5, "123456789012500m"),
            (VALUE_MAX, "100000000000000"),
            (VALUE_MAX - 0.5, "99999999999999500m"),
        ] {
            assert_eq!(quantity(&sample(value)), text, "{value}");
        }
        // The largest sum of 64 pools in thousandths still fits Kubernetes' 64 bits.
        assert!(VALUE_MAX * 64.0 * 1000.0 < i64::MAX as f64);
    }
}
