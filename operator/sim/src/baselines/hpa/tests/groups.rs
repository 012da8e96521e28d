//! `replica_calculator_test.go`: TestGroupPods, TestCalculateRequests, TestCalculatePodRequestsFromContainers_NonExistentContainer; `client_test.go`.

use super::super::calculator::{Calculator, Groups, Tolerances};
use super::super::input::{
    ConditionStatus, Container, Phase, Pod, PodMetric, PodMetrics, PodName, Reading, ReadyCondition, Requests,
};
use super::super::samples::{self, PodUsage};
use super::super::{requests, spec::Resource};
use super::{NOW_NS, SECOND_NS};

/// A pod: name, phase, seconds since the start, readiness and seconds since it became so.
type Description = (&'static str, Phase, Option<i64>, Option<(ConditionStatus, i64)>);

fn pod((name, phase, started, ready): Description) -> Pod {
    let ago = |seconds: i64| NOW_NS - seconds * SECOND_NS;
    Pod {
        name: name.into(),
        phase,
        deleting: name == "deleted",
        start_ns: started.map(ago),
        ready: ready.map(|(status, age)| ReadyCondition {
            status,
            last_transition_ns: ago(age),
        }),
        containers: Vec::new(),
        pod_level_requests: None,
    }
}

/// A sample of a time, over a window, both in seconds; without a time it is as old as can be.
fn sample(pod: &str, taken: Option<i64>, window: i64) -> (PodName, PodMetric) {
    let metric = PodMetric {
        value_milli: 1,
        timestamp_ns: taken.map_or(0, |age| NOW_NS - age * SECOND_NS),
        window_ns: window * SECOND_NS,
    };
    (pod.into(), metric)
}

fn group(pods: &[Description], metrics: PodMetrics, resource: Resource) -> Groups {
    let pods: Vec<_> = pods.iter().copied().map(pod).collect();
    Calculator {
        pods: &pods,
        now_ns: NOW_NS,
        tolerances: Tolerances {
            scale_down: 0.1,
            scale_up: 0.1,
        },
        cpu_initialization_period_ns: 120 * SECOND_NS,
        initial_readiness_delay_ns: 10 * SECOND_NS,
    }
    .group(&metrics, Some(resource))
}

#[test]
fn group_pods() {
    use ConditionStatus::{False, True};
    use Phase::{Failed, Pending, Succeeded};
    const READY: (usize, &str, &str, &str) = (1, "", "", "");
    let cases = [
        ("void", vec![], vec![], (0, "", "", "")),
        (
            "unready a pod without ready condition - CPU",
            vec![("lucretius", Succeeded, Some(0), None)],
            vec![sample("lucretius", None, 0)],
            (0, "lucretius", "", ""),
        ),
        (
            "count in a ready pod with fresh metrics during initialization period - CPU",
            vec![("bentham", Succeeded, Some(60), Some((True, 30)))],
            vec![sample("bentham", Some(0), 30)],
            READY,
        ),
        (
            "unready a ready pod without fresh metrics during initialization period - CPU",
            vec![("bentham", Succeeded, Some(60), Some((True, 30)))],
            vec![sample("bentham", Some(0), 60)],
            (0, "bentham", "", ""),
        ),
        (
            "unready an unready pod during initialization period - CPU",
            vec![("lucretius", Succeeded, Some(600), Some((False, 594)))],
            vec![sample("lucretius", None, 0)],
            (0, "lucretius", "", ""),
        ),
        (
            "count in a ready pod without fresh metrics after initialization period - CPU",
            vec![("bentham", Succeeded, Some(180), Some((True, 180)))],
            vec![sample("bentham", Some(120), 60)],
            READY,
        ),
        (
            "count in an unready pod that was ready after initialization period - CPU",
            vec![("lucretius", Succeeded, Some(600), Some((False, 540)))],
            vec![sample("lucretius", None, 0)],
            READY,
        ),
        (
            "unready pod that has never been ready after initialization period - CPU",
            vec![("lucretius", Succeeded, Some(600), Some((False, 590)))],
            vec![sample("lucretius", None, 0)],
            READY,
        ),
        (
            "a missing pod",
            vec![("epicurus", Succeeded, Some(180), None)],
            vec![],
            (0, "", "epicurus", ""),
        ),
        (
            "several pods",
            vec![
                ("lucretius", Succeeded, Some(0), None),
                ("niccolo", Succeeded, Some(180), Some((True, 180))),
                ("epicurus", Succeeded, Some(180), None),
            ],
            vec![sample("lucretius", None, 0), sample("niccolo", None, 0)],
            (1, "lucretius", "epicurus", ""),
        ),
        (
            "pending pods are unreadied",
            vec![("unscheduled", Pending, None, None)],
            vec![],
            (0, "unscheduled", "", ""),
        ),
        (
            "ignore pods with deletion timestamps",
            vec![("deleted", Pending, None, None)],
            vec![sample("deleted", None, 0)],
            (0, "", "", "deleted"),
        ),
        (
            "ignore pods in a failed state",
            vec![("failed", Failed, None, None)],
            vec![sample("failed", None, 0)],
            (0, "", "", "failed"),
        ),
    ];
    for (name, pods, metrics, (ready, unready, missing, ignored)) in cases {
        let groups = group(&pods, metrics.into_iter().collect(), Resource::Cpu);
        let names = |set: &std::collections::BTreeSet<_>| set.iter().cloned().collect::<Vec<_>>().join(",");
        assert_eq!(groups.ready, ready, "{name}");
        assert_eq!(names(&groups.unready), unready, "{name}");
        assert_eq!(names(&groups.missing), missing, "{name}");
        assert_eq!(names(&groups.ignored), ignored, "{name}");
    }
    // "count in a ready pod - memory": the age of a sample matters to CPU only.
    let metrics = PodMetrics::from([sample("bentham", Some(0), 60)]);
    assert_eq!(
        group(&[("bentham", Succeeded, None, None)], metrics, Resource::Memory).ready,
        1
    );
}

fn with_requests(requests: [(&str, Option<i64>); 2], pod_level: Option<i64>) -> [Pod; 1] {
    let of = |cpu_milli| Requests {
        cpu_milli,
        memory_milli: None,
    };
    let mut pod = pod(("test-pod", Phase::Running, None, None));
    pod.containers = requests
        .map(|(name, request)| Container {
            name: name.to_owned(),
            requests: of(request),
        })
        .to_vec();
    pod.pod_level_requests = pod_level.map(|milli| of(Some(milli)));
    [pod]
}

#[test]
fn calculate_requests() {
    let both = [("container1", Some(100)), ("container2", Some(50))];
    let half = [("container1", None), ("container2", Some(50))];
    let restartable = [("container1", Some(100)), ("restartable-container1", Some(50))];
    let cases = [
        (
            "Pod-level resources are enabled, but not set",
            both,
            None,
            None,
            Ok(150),
        ),
        (
            "Pod-level resources override container requests",
            both,
            Some(800),
            None,
            Ok(800),
        ),
        (
            "Fail if at least one of the containers is missing requests",
            half,
            None,
            None,
            Err("missing request for cpu in container container1 of Pod test-pod"),
        ),
        (
            "Pod-level resources override missing container requests",
            half,
            Some(800),
            None,
            Ok(800),
        ),
        (
            "Container: only that container",
            both,
            None,
            Some("container1"),
            Ok(100),
        ),
        (
            "Container: ignore pod-level requests",
            both,
            Some(800),
            Some("container1"),
            Ok(100),
        ),
        ("pod with restartable init containers", restartable, None, None, Ok(150)),
        (
            "NonExistentContainer",
            both,
            None,
            Some("non_existent_container"),
            Err("container non_existent_container not found in Pod test-pod"),
        ),
    ];
    for (name, containers, pod_level, container, expected) in cases {
        let pods = with_requests(containers, pod_level);
        let actual = requests::of_pods(&pods, container, Resource::Cpu).map(|requests| requests["test-pod"]);
        assert_eq!(actual, expected.map_err(str::to_owned), "{name}");
    }
    assert_eq!(requests::of_pods(&[], None, Resource::Cpu), Ok([].into()), "void");
    let missing = requests::of_pods(&with_requests(both, Some(800)), None, Resource::Memory);
    assert_eq!(
        missing,
        Err("missing pod-level request for memory in Pod test-pod".to_owned())
    );
}

/// A pod that misses a container's usage has no sample; an empty list is an error.
#[test]
fn samples_are_whole_or_missing() {
    let item = |pod: &str, usages: &[Option<i64>]| PodUsage {
        pod: pod.into(),
        timestamp_ns: 0,
        window_ns: 0,
        containers: usages
            .iter()
            .enumerate()
            .map(|(index, usage)| (format!("c{index}"), *usage))
            .collect(),
    };
    let items = [
        item("whole", &[Some(1), Some(2)]),
        item("half", &[Some(4), None]),
        item("none", &[]),
    ];
    let values = |container| -> Vec<(PodName, i64)> {
        match samples::from_resource_api(&items, container) {
            Ok(Reading::PerPod(metrics)) => metrics
                .into_iter()
                .map(|(pod, metric)| (pod, metric.value_milli))
                .collect(),
            other => panic!("{other:?}"),
        }
    };
    let expect = |pairs: &[(&str, i64)]| {
        pairs
            .iter()
            .map(|(pod, value)| ((*pod).into(), *value))
            .collect::<Vec<_>>()
    };
    assert_eq!(values(None), expect(&[("whole", 3)]));
    assert_eq!(values(Some("c0")), expect(&[("half", 4), ("whole", 1)]));
    assert_eq!(values(Some("c1")), expect(&[("whole", 2)]));
    let empty = [
        (samples::from_resource_api(&[], None), "resource"),
        (samples::from_custom_api(PodMetrics::new()), "custom"),
        (samples::from_external_api(Vec::new()), "external"),
    ];
    for (result, api) in empty {
        assert_eq!(result, Err(format!("no metrics returned from {api} metrics API")));
    }
}
