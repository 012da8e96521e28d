//! From what the metrics APIs answer to readings and ratios.
//!
//! Kubernetes 1.37.2, `podautoscaler/metrics/client.go` and `utilization.go`: sums are 64-bit integers that wrap, averages and utilisation are
//! truncated.

use std::collections::BTreeMap;

use super::input::{PodMetric, PodMetrics, PodName, Reading};

/// One item of `metrics.k8s.io` `PodMetrics`: a pod, and the usage of one resource by each of its containers (`None`: not reported).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodUsage {
    pub pod: PodName,
    pub timestamp_ns: i64,
    pub window_ns: i64,
    pub containers: Vec<(String, Option<i64>)>,
}

/// `GetResourceMetric`: sums the containers of each pod, or takes the one that is named. A pod with a gap has no sample.
pub fn from_resource_api(items: &[PodUsage], container: Option<&str>) -> Result<Reading, String> {
    if items.is_empty() {
        return Err("no metrics returned from resource metrics API".to_owned());
    }
    let sample = |item: &PodUsage| {
        let value_milli = match container {
            Some(wanted) => item.containers.iter().find(|(name, _)| name == wanted)?.1?,
            None if item.containers.is_empty() => return None,
            None => {
                let mut sum = 0_i64;
                for (_, usage) in &item.containers {
                    sum = sum.wrapping_add((*usage)?);
                }
                sum
            }
        };
        let (timestamp_ns, window_ns) = (item.timestamp_ns, item.window_ns);
        Some((
            item.pod.clone(),
            PodMetric {
                value_milli,
                timestamp_ns,
                window_ns,
            },
        ))
    };
    Ok(Reading::PerPod(items.iter().filter_map(sample).collect()))
}

/// `GetRawMetric`: an empty list is an error, not zero.
pub fn from_custom_api(metrics: PodMetrics) -> Result<Reading, String> {
    if metrics.is_empty() {
        return Err("no metrics returned from custom metrics API".to_owned());
    }
    Ok(Reading::PerPod(metrics))
}

/// `GetExternalMetric`: an empty list is an error, not zero.
pub fn from_external_api(values_milli: Vec<i64>) -> Result<Reading, String> {
    if values_milli.is_empty() {
        return Err("no metrics returned from external metrics API".to_owned());
    }
    Ok(Reading::External(values_milli))
}

/// What `GetResourceUtilizationRatio` returns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Utilization {
    /// Utilisation / target, after truncation of the utilisation to whole percents.
    pub ratio: f64,
    /// Percent of the requests.
    pub percent: i32,
    /// Average usage of the pods that have both a sample and a request, truncated.
    pub average_milli: i64,
}

/// `100·Σusage/Σrequests` over the pods that have both, truncated, over `target_percent`.
pub fn utilization(
    metrics: &PodMetrics,
    requests: &BTreeMap<PodName, i64>,
    target_percent: i32,
) -> Result<Utilization, String> {
    let (mut usage, mut requested, mut pods) = (0_i64, 0_i64, 0_i64);
    for (pod, metric) in metrics {
        if let Some(request) = requests.get(pod) {
            usage = usage.wrapping_add(metric.value_milli);
            requested = requested.wrapping_add(*request);
            pods += 1;
        }
    }
    if requested == 0 {
        return Err("no metrics returned matched known pods".to_owned());
    }
    let percent = usage.wrapping_mul(100).wrapping_div(requested) as i32;
    Ok(Utilization {
        ratio: f64::from(percent) / f64::from(target_percent),
        percent,
        average_milli: usage / pods,
    })
}

/// `GetMetricUsageRatio`: (average / target, average truncated). `metrics` must not be empty.
pub fn usage_ratio(metrics: &PodMetrics, target_milli: i64) -> (f64, i64) {
    let sum = metrics
        .values()
        .fold(0_i64, |sum, metric| sum.wrapping_add(metric.value_milli));
    let average_milli = sum / i64::try_from(metrics.len()).unwrap_or(i64::MAX);
    (average_milli as f64 / target_milli as f64, average_milli)
}
