//! What a decision looks at: pods, numbers, and what is missing.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::plan::plan;
use super::*;
use crate::domain::published::Unavailable;
use crate::test_support::{deployment, validated};

const TIMES: Times = Times {
    rate_window: Duration::from_secs(30),
    stale_after: Duration::from_secs(33),
    relearn: Duration::from_secs(300),
    has_prometheus: true,
    asks_pods: Some(Duration::from_secs(1)),
};

fn unasked(_: &Use) -> Reading {
    Err(Absence::NotAsked)
}

fn pod(uid: char, changes: Value) -> Arc<Pod> {
    let uid = format!("{}-1111-2222-3333-444444444444", uid.to_string().repeat(8));
    let mut pod = json!({"metadata": {"name": "p", "uid": uid, "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": {"serving.tidewright.dev/pool": "cpu"}}, "status": {}});
    if let Some(deleted) = changes.get("deletionTimestamp") {
        pod["metadata"]["deletionTimestamp"] = deleted.clone();
    }
    pod["status"] = changes["status"].clone();
    Arc::new(serde_json::from_value(pod).unwrap())
}

#[test]
fn pods_are_seen_as_what_they_are() {
    let condition = |kind: &str, status: &str, reason: &str| {
        json!({"status": {"phase": "Pending", "conditions": [{"type": kind, "status": status, "reason": reason,
            "lastTransitionTime": "2026-01-01T00:00:09Z"}]}})
    };
    let mut ending = condition("Ready", "True", "");
    ending["deletionTimestamp"] = json!("2026-01-01T00:01:00Z");
    let phases = [
        (condition("Ready", "True", ""), Phase::Ready),
        (ending, Phase::Terminating),
        (
            condition("PodScheduled", "False", "Unschedulable"),
            Phase::Unschedulable,
        ),
        (condition("PodScheduled", "True", ""), Phase::Starting),
        (json!({"status": {"phase": "Failed"}}), Phase::Failed),
        (json!({}), Phase::Starting),
    ];
    for (changes, phase) in phases {
        let seen = seen(&pod('a', changes.clone()), None).unwrap();
        assert_eq!(seen.phase, phase, "{changes}");
        if phase == Phase::Ready {
            let started = seen.ready_at.unwrap().seconds_since(seen.created_at);
            assert!((started - 9.0).abs() < 1e-9, "{started}");
        }
    }
}

#[test]
fn a_start_is_measured_where_it_is_known_and_late_is_what_does_not_come_back() {
    let started = |ready: &str, restarts: i32, started_at: Option<&str>| {
        let state = started_at.map(|at| json!({"running": {"startedAt": at}}));
        json!({"status": {"conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T05:00:00Z"}],
            "containerStatuses": [{"name": "server", "ready": false, "restartCount": restarts, "image": "", "imageID": "", "state": state}]}})
    };
    let with = |ready: &str, restarts: i32| started(ready, restarts, Some("2026-01-01T04:59:00Z"));
    let changed_at = moment("2026-01-01T05:00:00Z".parse().unwrap());
    let ready_at = |changes: Value| seen(&pod('a', changes), None).unwrap().ready_at;
    assert_eq!(ready_at(with("True", 0)), Some(changed_at), "it waited for a node");
    assert_eq!(ready_at(with("True", 1)), None, "five hours are no start");
    let again = started("True", 0, Some("2026-01-01T00:00:03Z"));
    assert_eq!(ready_at(again), None, "it was ready before");
    assert_eq!(ready_at(started("True", 0, None)), None, "since it was made");
    let lost = seen(&pod('a', with("False", 1)), None).unwrap();
    assert_eq!(
        (lost.phase, lost.created_at),
        (Phase::Starting, changed_at),
        "it was ready until then"
    );
}

#[test]
fn the_wait_for_a_node_is_no_part_of_a_start() {
    let of = |ready: &str, scheduled: &str| {
        let mut conditions = vec![
            json!({"type": "PodScheduled", "status": scheduled, "reason": "Unschedulable",
            "lastTransitionTime": "2026-01-01T01:00:00Z"}),
        ];
        if ready == "True" {
            conditions.push(json!({"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T01:00:20Z"}));
        }
        let state = json!({"running": {"startedAt": "2026-01-01T01:00:10Z"}});
        let server =
            json!({"name": "server", "ready": true, "restartCount": 0, "image": "", "imageID": "", "state": state});
        seen(
            &pod(
                'a',
                json!({"status": {"conditions": conditions, "containerStatuses": [server]}}),
            ),
            None,
        )
        .unwrap()
    };
    let at = |time: &str| moment(time.parse().unwrap());
    let ready = of("True", "True");
    let seconds = ready.ready_at.unwrap().seconds_since(ready.created_at);
    assert!(
        (seconds - 20.0).abs() < 1e-9,
        "an hour without a node, then {seconds} s"
    );
    let starting = of("False", "True");
    assert_eq!(
        (starting.phase, starting.created_at),
        (Phase::Starting, at("2026-01-01T01:00:00Z"))
    );
    let waiting = of("False", "False");
    assert_eq!(
        (waiting.phase, waiting.created_at),
        (Phase::Unschedulable, at("2026-01-01T00:00:00Z"))
    );
}

#[test]
fn what_is_missing_is_missing_and_never_zero() {
    let service = validated(json!({"spec": {"predictor": {"autoScaling": {"mode": "Direct"}}}}));
    let plan = plan(&service, &TIMES).unwrap();
    let deployments = BTreeMap::from([("cpu".to_owned(), Arc::new(deployment("cpu", 1, 3, json!({}))))]);
    let refuse = |_: &Source| Err(Unavailable::new(Reason::StaleSamples, ""));
    let nothing = Said::new();
    let seen = observe(
        &plan,
        &TIMES,
        refuse,
        unasked,
        &deployments,
        &[pod('a', json!({}))],
        &nothing,
    )
    .unwrap();
    assert_eq!(seen.signals[..2], vec![Err(Absence::SeriesMissing); 2]);
    assert_eq!(seen.signals[2..], vec![Err(Absence::NoTargets); 2], "no pod is ready");
    assert_eq!((seen.pools[0].replicas, seen.pools[0].pods.len()), (3, 1));
    assert_eq!(
        observe(&plan, &TIMES, refuse, unasked, &BTreeMap::new(), &[], &nothing),
        None
    );
    let silent = Said::from([(
        "cpu".to_owned(),
        Figures {
            all: 2,
            ..Figures::default()
        },
    )]);
    let seen = observe(&plan, &TIMES, refuse, unasked, &deployments, &[], &silent).unwrap();
    assert_eq!(seen.signals[2..], vec![Err(Absence::QueryFailed); 2]);
    assert_eq!(seen.pools[0].service, None, "no completion is no service time of zero");
}

#[test]
fn what_pods_say_is_added_up_over_those_that_answer() {
    let plan = promised(4);
    let deployments = BTreeMap::from([("cpu".to_owned(), Arc::new(deployment("cpu", 1, 3, json!({}))))]);
    let refuse = |_: &Source| Err(Unavailable::new(Reason::StaleSamples, ""));
    let said = Figures {
        at: Some(Timestamp::UNIX_EPOCH),
        rate: 30.0,
        queued: 4.0,
        concurrency: 9.0,
        up: 2,
        all: 3,
        older: 0,
        covered: 1,
        completions: 50,
        service_seconds: 2.0,
        in_flight: BTreeMap::from([("aaaaaaaa-1111-2222-3333-444444444444".to_owned(), 5)]),
    };
    let said = Said::from([("cpu".to_owned(), said)]);
    let pods = [pod('a', json!({})), pod('b', json!({}))];
    let seen = observe(&plan, &TIMES, refuse, unasked, &deployments, &pods, &said).unwrap();
    let (rate, queue) = (seen.signals[2].unwrap(), seen.signals[3].unwrap());
    assert_eq!((rate.value, queue.value), (Raw(30.0), Raw(4.0)));
    assert_eq!((rate.targets_up, rate.targets_all), (2, 3));
    assert_eq!((rate.targets_covered, queue.targets_covered), (Some(1), None));
    assert!((rate.window_seconds - 2.0).abs() < 1e-9);
    let service = seen.pools[0].service.unwrap();
    assert!((service.mean_seconds - 0.0402).abs() < 1e-9 && service.completions == 50);
    let in_flight: Vec<_> = seen.pools[0].pods.iter().map(|pod| pod.in_flight).collect();
    assert_eq!(in_flight, [Some(5), None]);
    let concurrency = json!([{"type": "Concurrency", "target": {"type": "AverageValue", "averageValue": "3"}}]);
    let named = json!({"spec": {"predictor": {"autoScaling": {"mode": "Direct", "metrics": concurrency}}}});
    let by_concurrency = super::super::plan::plan(&validated(named), &TIMES).unwrap();
    let seen = observe(&by_concurrency, &TIMES, refuse, unasked, &deployments, &pods, &said).unwrap();
    let in_work = seen.signals[1].unwrap();
    assert_eq!((in_work.value, in_work.targets_covered), (Raw(9.0), None));
    // Eight in a batch of 40 ms are 200 a second; the 40 ms of each in the only slot that is known of would be 25.
    let seen = observe(&promised(0), &TIMES, refuse, unasked, &deployments, &pods, &said).unwrap();
    assert_eq!(seen.pools[0].service, None, "a slot is no request");
}

#[test]
fn what_the_servers_use_comes_last_and_alone_is_no_advice_where_nobody_measures_it() {
    let deployments = BTreeMap::from([("cpu".to_owned(), Arc::new(deployment("cpu", 1, 3, json!({}))))]);
    let of = |mode: &str, with_rate: bool, used: Reading| {
        let mut metrics = json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}]);
        if with_rate {
            let rate = json!({"type": "RequestRate", "target": {"type": "AverageValue", "averageValue": "50"}});
            metrics.as_array_mut().unwrap().push(rate);
        }
        let spec = json!({"spec": {"predictor": {"autoScaling": {"mode": mode, "metrics": metrics}}}});
        let plan = plan(&validated(spec), &TIMES).unwrap();
        let refuse = |_: &Source| Err(Unavailable::new(Reason::PrometheusUnreachable, ""));
        observe(&plan, &TIMES, refuse, |_| used, &deployments, &[], &Said::new()).map(|seen| seen.signals)
    };
    let sample = Ok(Sample {
        value: Raw(0.7),
        at: Moment::default(),
        window_seconds: 15.0,
        targets_up: 1,
        targets_all: 1,
        targets_covered: None,
    });
    assert_eq!(of("Hpa", true, sample), Some(vec![Err(Absence::QueryFailed), sample]));
    assert_eq!(of("Hpa", false, sample), Some(vec![sample]));
    for absence in [Absence::NotAsked, Absence::QueryFailed] {
        assert_eq!(of("Hpa", false, Err(absence)), None);
        assert_eq!(
            of("Direct", false, Err(absence)),
            Some(vec![Err(absence)]),
            "held, and told"
        );
    }
    let partial = Err(Absence::SeriesMissing);
    assert_eq!(of("Hpa", false, partial), Some(vec![partial]));
}

fn promised(concurrency: u32) -> Plan {
    let slo = json!({"latency": "1s", "percentile": 90, "serviceTime": "20ms"});
    let scaling = json!({"containerConcurrency": concurrency, "autoScaling": {"mode": "Direct", "slo": slo}});
    plan(&validated(json!({"spec": {"predictor": scaling}})), &TIMES).unwrap()
}

#[test]
fn without_a_prometheus_only_those_who_asked_are_told_that_nothing_is_known() {
    let deployments = BTreeMap::from([("cpu".to_owned(), Arc::new(deployment("cpu", 1, 3, json!({}))))]);
    let is_seen = |mode: &str, reason: Reason| {
        let service = validated(json!({"spec": {"predictor": {"autoScaling": {"mode": mode}}}}));
        let nothing = |_: &Source| Err(Unavailable::new(reason, ""));
        observe(
            &plan(&service, &TIMES).unwrap(),
            &TIMES,
            nothing,
            unasked,
            &deployments,
            &[],
            &Said::new(),
        )
        .is_some()
    };
    assert!(!is_seen("Hpa", Reason::NotConfigured));
    assert!(is_seen("Advise", Reason::NotConfigured));
    assert!(is_seen("Hpa", Reason::PrometheusUnreachable), "an outage is told");
}
