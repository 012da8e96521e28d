//! `replica_calculator_test.go`: replicas for one metric.
//!
//! TestReplicaCalcResourceScale, …ResourceTolerance, …ResourceMissingMetrics, …ComputedToleranceAlgImplementation, …PodMetric, …ObjectMetric,
//! …ObjectPerPodMetric, …ExternalMetric, …ExternalPerPodMetric.

use super::super::calculator::{Calculator, Count, Tolerances};
use super::super::input::{Pod, PodMetric, PodMetrics, Reading};
use super::super::samples::{self, PodUsage};
use super::super::spec::Resource;
use super::table::{Row, section};
use super::{NOW_NS, SECOND_NS, pod};

const TABLE: &str = include_str!("replica_calculator.txt");

fn pods(row: &Row) -> Vec<Pod> {
    let replicas: usize = row.number("n").unwrap();
    let count = replicas.max(row.get("phase").map_or(0, str::len));
    let requests = row
        .list("requests")
        .map(|request| request.parse().ok())
        .collect::<Vec<_>>();
    let request = |index| requests.get(index).copied().unwrap_or(Some(1000));
    let no_request = row.get("requests") == Some("none");
    (0..count)
        .map(|index| pod(row, index, if no_request { None } else { request(index) }))
        .collect()
}

fn calculator<'a>(row: &Row, pods: &'a [Pod]) -> Calculator<'a> {
    let (down, up) = row
        .get("tolerance")
        .and_then(|both| both.split_once('/'))
        .unwrap_or(("0.1", "0.1"));
    Calculator {
        pods,
        now_ns: NOW_NS,
        tolerances: Tolerances {
            scale_down: down.parse().unwrap(),
            scale_up: up.parse().unwrap(),
        },
        cpu_initialization_period_ns: 120 * SECOND_NS,
        initial_readiness_delay_ns: 10 * SECOND_NS,
    }
}

fn check(row: &Row, result: Result<Count, String>) {
    let actual = match result {
        Ok(count) => match count.utilization_percent {
            Some(percent) => format!("{} {percent}% {}", count.replicas, count.usage_milli),
            None => format!("{} {}", count.replicas, count.usage_milli),
        },
        Err(error) if error.contains(row.expected) => return,
        Err(error) => error,
    };
    assert_eq!(actual, row.expected, "{}", row.name);
}

/// The samples as metrics-server has them: of the time 0, over a minute.
fn usage(row: &Row) -> Vec<PodUsage> {
    let names: Vec<_> = row.list("names").collect();
    let item = |(index, entry): (usize, &'static str)| {
        let (first, second) = entry.split_once('/').unwrap_or((entry, entry));
        let containers = match second {
            "" => vec![("container1", first)],
            _ => vec![("container1", first), ("container2", second)],
        };
        PodUsage {
            pod: names
                .get(index)
                .map_or_else(|| format!("test-pod-{index}"), ToString::to_string)
                .into(),
            timestamp_ns: 0,
            window_ns: 60 * SECOND_NS,
            containers: containers
                .into_iter()
                .map(|(name, milli)| (name.to_owned(), milli.parse().ok()))
                .collect(),
        }
    };
    row.list("usage").enumerate().map(item).collect()
}

fn per_pod(reading: Reading) -> PodMetrics {
    match reading {
        Reading::PerPod(metrics) => metrics,
        other => panic!("{other:?}"),
    }
}

#[test]
fn resource_scale_tolerance_and_missing_metrics() {
    for row in section(TABLE, "Resource") {
        let pods = pods(&row);
        let (current, target) = (row.number("n").unwrap(), row.number("target").unwrap());
        let container = row.get("container");
        let result = samples::from_resource_api(&usage(&row), container)
            .map_err(|error| format!("unable to get metrics for resource cpu: {error}"))
            .map(per_pod)
            .and_then(|metrics| {
                calculator(&row, &pods).resource_utilization(current, target, Resource::Cpu, container, metrics)
            });
        check(&row, result);
    }
}

#[test]
fn pod_metric() {
    for row in section(TABLE, "PodMetric") {
        let pods = pods(&row);
        let sample = |(index, value_milli)| {
            let metric = PodMetric {
                value_milli,
                timestamp_ns: 0,
                window_ns: 60 * SECOND_NS,
            };
            (format!("test-pod-{index}").into(), metric)
        };
        let metrics = row.numbers("values").into_iter().enumerate().map(sample).collect();
        let metrics = per_pod(samples::from_custom_api(metrics).unwrap());
        let (current, target) = (row.number("n").unwrap(), row.number("target").unwrap());
        check(
            &row,
            calculator(&row, &pods).average_value(current, target, None, metrics),
        );
    }
}

#[test]
fn object_and_external_metric() {
    for name in [
        "ObjectMetric",
        "ObjectPerPodMetric",
        "ExternalMetric",
        "ExternalPerPodMetric",
    ] {
        for row in section(TABLE, name) {
            let pods = pods(&row);
            let calculator = calculator(&row, &pods);
            let (current, target) = (row.number("n").unwrap(), row.number("target").unwrap());
            let values = row.numbers("values");
            let result = match name {
                "ObjectMetric" => calculator.object_value(current, target, values[0]),
                "ObjectPerPodMetric" => Ok(calculator.object_average(current, target, values[0])),
                "ExternalMetric" => calculator.external_value(current, target, &values),
                _ => Ok(calculator.external_average(current, target, &values)),
            };
            check(&row, result);
        }
    }
}
