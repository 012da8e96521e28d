//! ScalingReady in every situation.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::domain::decided::{Decided, DecidedPool};
use crate::test_support::{OTHER_PROMETHEUS, validated};

fn said(changes: Value, signals: Signals) -> Draft {
    let observed = Observed {
        signals,
        ..Observed::default()
    };
    scaling(&validated(changes), &observed)
}

#[test]
fn signals_that_nobody_serves_are_told_with_what_still_scales() {
    let cpu = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}});
    let rate = json!({"type": "RequestRate", "target": {"type": "AverageValue", "averageValue": "50"}});
    let named = |metrics: Value| json!({"spec": {"predictor": {"autoScaling": {"metrics": metrics}}}});
    let taken = || Signals::Taken("APIService x points to y".to_owned());
    let defaults = said(json!({}), taken());
    assert_eq!(
        (defaults.truth, defaults.reason),
        (Truth::False, Reason::MetricsApiTaken)
    );
    assert_eq!(
        defaults.message,
        "APIService x points to y; CPU alone scales, up and down"
    );
    let both = said(named(json!([cpu, rate])), taken());
    assert_eq!(both.reason, Reason::MetricsApiTaken);
    assert!(both.message.contains("nothing is scaled down"), "{}", both.message);
    let cpu_alone = said(named(json!([cpu])), taken());
    assert_eq!(cpu_alone.reason, Reason::Pending, "CPU needs no metrics API");
    for signals in [
        Signals::Off,
        Signals::NoPrometheus,
        Signals::Failing("no answer".to_owned()),
    ] {
        assert_eq!(said(json!({}), signals).reason, Reason::MetricsUnavailable);
    }
    let elsewhere = json!({"type": "External", "external": {"metric": {"name": "jobs", "query": "sum(jobs)",
        "serverAddress": OTHER_PROMETHEUS}, "target": {"type": "Value", "value": "7"}}});
    let elsewhere = |signals| said(named(json!([elsewhere])), signals).reason;
    assert_eq!(elsewhere(Signals::Off), Reason::MetricsUnavailable, "nobody serves it");
    assert_eq!(elsewhere(Signals::NoPrometheus), Reason::Pending, "it has a Prometheus");
    assert_eq!(elsewhere(taken()), Reason::MetricsApiTaken);
    for signals in [Signals::Pending, Signals::Served] {
        assert_eq!(said(json!({}), signals).reason, Reason::Pending);
    }
}

#[test]
fn what_an_autoscaler_says_counts_once_its_controller_has_seen_it_as_it_is() {
    let cpu = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}});
    let service = validated(json!({"spec": {"predictor": {"autoScaling": {"metrics": [cpu]}}}}));
    let at = |generation: i64, seen: Option<i64>| {
        let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": "x", "message": ""});
        let autoscaler = serde_json::from_value(json!({
            "metadata": {"name": "digits-cpu", "generation": generation}, "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "", "name": ""}},
            "status": {"observedGeneration": seen, "desiredReplicas": 1, "conditions": [condition("AbleToScale"), condition("ScalingActive")]},
        }));
        let observed = Observed {
            autoscalers: BTreeMap::from([("cpu".to_owned(), Arc::new(autoscaler.unwrap()))]),
            ..Observed::default()
        };
        scaling(&service, &observed).truth
    };
    assert_eq!(at(2, Some(2)), Truth::True);
    assert_eq!(at(2, Some(1)), Truth::Unknown, "new targets");
    assert_eq!(at(1, None), Truth::Unknown);
}

#[test]
fn without_a_prometheus_the_pods_stand_for_rate_and_queue() {
    let at = |asks_pods: bool| {
        let service = validated(json!({"spec": {"predictor": {"autoScaling": {"mode": "Direct"}}}}));
        let reading = || {
            Some(Err(reading::Unavailable::new(
                reading::Reason::NotConfigured,
                "no address",
            )))
        };
        let readings = service
            .metrics
            .iter()
            .map(|metric| metric.signal().and_then(|_| reading()));
        let decided = Decided {
            asks_pods,
            ..Decided::default()
        };
        let observed = Observed {
            readings: BTreeMap::from([("cpu".to_owned(), readings.collect())]),
            decided: Some(Arc::new(decided)),
            ..Observed::default()
        };
        scaling(&service, &observed).reason
    };
    assert_eq!(at(true), Reason::Scaling);
    assert_eq!(at(false), Reason::MetricsUnavailable);
}

#[test]
fn in_mode_direct_the_operators_own_decision_stands_for_the_autoscaler() {
    let at = |paused: bool, decided: Option<Decided>| {
        let service = json!({"spec": {"predictor": {"autoScaling": {"mode": "Direct", "paused": paused}}}});
        let observed = Observed {
            // Another program has the metrics API: nobody needs it here.
            signals: Signals::Taken("APIService x points to y".to_owned()),
            decided: decided.map(Arc::new),
            ..Observed::default()
        };
        let draft = scaling(&validated(service), &observed);
        (draft.truth, draft.reason, draft.message)
    };
    let (truth, reason, _) = at(false, None);
    assert_eq!((truth, reason), (Truth::Unknown, Reason::Pending));
    let (truth, reason, message) = at(false, Some(Decided::default()));
    assert_eq!((truth, reason), (Truth::True, Reason::Scaling));
    assert!(message.contains("the operator acts"), "{message}");
    let refused = Decided {
        problem: Some("scale Deployment a/b from 1 to 2: forbidden".to_owned()),
        ..Decided::default()
    };
    let (truth, reason, message) = at(false, Some(refused));
    assert_eq!((truth, reason), (Truth::False, Reason::AutoscalerInactive));
    assert!(message.contains("forbidden"), "{message}");
    let silent = Decided {
        asks_pods: true,
        silence: Some("rate_direct QueryFailed".to_owned()),
        ..Decided::default()
    };
    let (truth, reason, message) = at(false, Some(silent));
    assert_eq!((truth, reason), (Truth::False, Reason::MetricsUnavailable));
    assert!(
        message.contains("rate_direct QueryFailed; nothing is scaled down"),
        "{message}"
    );
    let unmeasured = Decided {
        unmeasured: Some("cpu QueryFailed (nobody serves it)".to_owned()),
        ..Decided::default()
    };
    let (truth, reason, message) = at(false, Some(unmeasured));
    assert_eq!((truth, reason), (Truth::False, Reason::MetricsUnavailable));
    assert!(
        message.contains("cpu QueryFailed (nobody serves it); nothing is scaled down"),
        "{message}"
    );
    let (truth, reason, _) = at(true, Some(Decided::default()));
    assert_eq!((truth, reason), (Truth::False, Reason::Paused));
}

#[test]
fn a_pause_with_an_end_says_it_and_ends() {
    let direct =
        json!({"spec": {"predictor": {"autoScaling": {"mode": "Direct", "pausedUntil": "2026-01-31T15:00:00+01:00"}}}});
    let observed = Observed {
        decided: Some(Arc::new(Decided::default())),
        ..Observed::default()
    };
    let at = |time: &str| {
        let service = validated(direct.clone()).at(time.parse().unwrap());
        (scaling(&service, &observed), service.changes_at(time.parse().unwrap()))
    };
    let (draft, ends_at) = at("2026-01-31T13:59:59Z");
    assert_eq!((draft.truth, draft.reason), (Truth::False, Reason::Paused));
    assert!(
        draft.message.starts_with("paused until 2026-01-31T14:00:00Z by"),
        "{}",
        draft.message
    );
    assert_eq!(ends_at, Some("2026-01-31T14:00:00Z".parse().unwrap()));
    let (draft, ends_at) = at("2026-01-31T14:00:00Z");
    assert_eq!(
        (draft.truth, draft.reason, ends_at),
        (Truth::True, Reason::Scaling, None)
    );
}

#[test]
fn replicas_that_do_not_become_ready_are_told_with_what_keeps_them() {
    let service = validated(json!({"spec": {"predictor": {"autoScaling": {"mode": "Direct"}}}}));
    let pod = serde_json::from_value(json!({
        "metadata": {"name": "digits-cpu-1", "labels": {"serving.tidewright.dev/pool": "cpu"}},
        "status": {"containerStatuses": [{"name": "server", "ready": false, "restartCount": 0, "image": "", "imageID": "",
            "state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}}]},
    }));
    let pool = DecidedPool {
        replicas: 3,
        reason: "PerReplica",
        message: String::new(),
        schedule: None,
        limited_by: None,
        stuck: 2,
        stuck_after_seconds: 30.0,
        ..DecidedPool::default()
    };
    let observed = Observed {
        pods: vec![Arc::new(pod.unwrap())],
        decided: Some(Arc::new(Decided {
            pools: BTreeMap::from([("cpu".to_owned(), pool)]),
            ..Decided::default()
        })),
        ..Observed::default()
    };
    let draft = scaling(&service, &observed);
    assert_eq!((draft.truth, draft.reason), (Truth::False, Reason::ReplicasStuck));
    assert_eq!(
        draft.message,
        "pool cpu: 2 replicas have not become ready within 30 s and are not counted on: \
         pod digits-cpu-1: container server: ErrImagePull: no such image"
    );
}
