//! Decisions and advice as a status tells them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::domain::decided::Decided;
use crate::test_support::{deployment, validated};

fn observed(replicas: i32, reason: &'static str, message: &str) -> Observed {
    let pool = DecidedPool {
        replicas,
        reason,
        message: message.to_owned(),
        schedule: None,
        limited_by: Some("maxReplicas"),
        stuck: 0,
        stuck_after_seconds: 600.0,
        ..DecidedPool::default()
    };
    Observed {
        decided: Some(Arc::new(Decided {
            pools: BTreeMap::from([("cpu".to_owned(), pool)]),
            ..Decided::default()
        })),
        ..Observed::default()
    }
}

#[test]
fn a_schedule_that_holds_an_autoscaler_up_is_the_reason() {
    let spec = json!({"spec": {"predictor": {"autoScaling": {
        "metrics": [{"type": "RequestRate", "target": {"type": "AverageValue", "averageValue": "10"}}],
        "schedules": [{"name": "day", "schedule": "0 8 * * *", "duration": "2h", "minReplicas": 4}]}}}});
    let service = validated(spec).at("2026-02-02T09:00:00Z".parse().unwrap());
    let at_rate = |value: f64, desired: i32| {
        let sample = crate::domain::published::Sample {
            value,
            at: "2026-02-02T09:00:00Z".parse().unwrap(),
        };
        let observed = Observed {
            readings: BTreeMap::from([("cpu".to_owned(), vec![Some(Ok(sample))])]),
            ..Observed::default()
        };
        decide(
            &service.pools[0],
            &service,
            &observed,
            desired,
            None,
            Timestamp::UNIX_EPOCH,
        )
    };
    let held = at_rate(15.0, 4);
    assert_eq!(held.reason, "Schedule");
    let said = "; at least 4 until 2026-02-02T10:00:00Z by schedule day";
    assert!(held.message.ends_with(said), "{}", held.message);
    assert_eq!(at_rate(55.0, 6).reason, "RequestRate", "the load asks for more");
}

#[test]
fn the_operators_own_decision_is_advice_or_the_decision_by_the_mode() {
    let of = |mode: &str| validated(json!({"spec": {"predictor": {"autoScaling": {"mode": mode}}}}));
    let seen = observed(4, "RateSizing", "72 req/s needs 4");
    let direct = of("Direct");
    let said = decide(&direct.pools[0], &direct, &seen, 4, None, Timestamp::UNIX_EPOCH);
    assert_eq!(
        (said.reason.as_str(), said.message.as_str()),
        ("RateSizing", "72 req/s needs 4")
    );
    assert_eq!(limited_by(&direct, &seen).as_deref(), Some("maxReplicas"));
    assert_eq!(
        advice(&direct.pools[0], &direct, &seen, None, Timestamp::UNIX_EPOCH),
        None
    );
    let hpa = of("Hpa");
    let beside = advice(&hpa.pools[0], &hpa, &seen, None, Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!((beside.replicas, beside.reason.as_str()), (4, "RateSizing"));
    let blind = Observed {
        signals: Signals::NoPrometheus,
        ..Observed::default()
    };
    let stale = PoolStatus {
        advice: Some(beside),
        ..PoolStatus::default()
    };
    assert_eq!(
        advice(&hpa.pools[0], &hpa, &blind, Some(&stale), Timestamp::UNIX_EPOCH),
        None,
        "nobody measures"
    );
    let cpu = json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}]);
    let of_cpu = validated(json!({"spec": {"predictor": {"autoScaling": {"metrics": cpu}}}}));
    let without_prometheus = Observed {
        signals: Signals::NoPrometheus,
        ..observed(4, "UtilizationGuard", "cpu at 90 % needs 4")
    };
    let beside = advice(
        &of_cpu.pools[0],
        &of_cpu,
        &without_prometheus,
        None,
        Timestamp::UNIX_EPOCH,
    )
    .unwrap();
    assert_eq!((beside.replicas, beside.reason.as_str()), (4, "UtilizationGuard"));
    let advise = of("Advise");
    let said = advice(&advise.pools[0], &advise, &seen, None, Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!((said.replicas, said.message.as_str()), (4, "72 req/s needs 4"));
    assert_eq!(
        limited_by(&advise, &seen),
        None,
        "that of the HorizontalPodAutoscaler counts"
    );
}

#[test]
fn a_target_in_all_multiplies_the_replicas_that_there_are() {
    let asks = |target: serde_json::Value, ready: i32| {
        let metrics = json!([{"type": "QueueDepth", "target": target}]);
        let service = validated(json!({"spec": {"predictor": {"autoScaling": {"metrics": metrics}}}}));
        let sample = crate::domain::published::Sample {
            value: 30.0,
            at: jiff::Timestamp::UNIX_EPOCH,
        };
        let counts = json!({"readyReplicas": ready});
        let seen = Observed {
            deployments: BTreeMap::from([("cpu".to_owned(), Arc::new(deployment("cpu", 1, ready, counts)))]),
            readings: BTreeMap::from([("cpu".to_owned(), vec![Some(Ok(sample))])]),
            ..Observed::default()
        };
        decide(&service.pools[0], &service, &seen, ready, None, Timestamp::UNIX_EPOCH).message
    };
    let in_all = json!({"type": "Value", "value": "10"});
    assert!(
        asks(in_all.clone(), 2).contains("30 queued / 10 in all → 6"),
        "{}",
        asks(in_all, 2)
    );
    let each = json!({"type": "AverageValue", "averageValue": "10"});
    assert!(
        asks(each.clone(), 2).contains("30 queued / 10 per replica → 3"),
        "{}",
        asks(each, 2)
    );
}

#[test]
fn a_sentence_of_advice_is_made_anew_only_for_another_number_or_reason() {
    let service = validated(json!({"spec": {"predictor": {"autoScaling": {"mode": "Advise"}}}}));
    let given = |seen: &Observed, before: Option<&AdviceStatus>| {
        let before = PoolStatus {
            advice: before.cloned(),
            ..PoolStatus::default()
        };
        advice(&service.pools[0], &service, seen, Some(&before), Timestamp::UNIX_EPOCH).unwrap()
    };
    let first = given(&observed(4, "RateSizing", "72 req/s needs 4"), None);
    let same = given(&observed(4, "RateSizing", "73 req/s needs 4"), Some(&first));
    assert_eq!(same, first);
    let other = given(&observed(5, "RateSizing", "99 req/s needs 5"), Some(&first));
    assert_eq!(other.message, "99 req/s needs 5");
    assert_eq!(given(&Observed::default(), Some(&first)), first, "nothing new is known");
}

/// "Kept until two minutes past two" is no news at four.
#[test]
fn a_sentence_is_made_anew_when_a_moment_that_it_names_has_passed() {
    for mode in ["Direct", "Advise"] {
        let service = validated(json!({"spec": {"predictor": {"autoScaling": {"mode": mode}}}}));
        let pool = &service.pools[0];
        let given = |until: &str, now: &str, before: Option<&PoolStatus>| {
            let seen = observed(
                4,
                "KeepAlive",
                &format!("4 cpu: kept until {until}, was needed again before"),
            );
            let now = format!("2026-02-02T{now}Z").parse().unwrap();
            PoolStatus {
                desired: 4,
                decision: Some(decide(pool, &service, &seen, 4, before, now)),
                advice: advice(pool, &service, &seen, before, now),
                ..PoolStatus::default()
            }
        };
        let first = given("14:02:11", "14:00:00", None);
        assert_eq!(
            given("14:03:11", "14:01:00", Some(&first)),
            first,
            "{mode}: still ahead"
        );
        assert_eq!(
            given("14:04:11", "14:02:40", Some(&first)),
            first,
            "{mode}: less than a minute"
        );
        let later = given("16:05:00", "16:00:00", Some(&first));
        assert_eq!(later, given("16:05:00", "16:00:00", None), "{mode}");
        assert_ne!(later, first, "{mode}");
    }
}

#[test]
fn a_sentence_is_made_anew_when_the_schedule_that_it_names_is_another() {
    let direct = validated(json!({"spec": {"predictor": {"autoScaling": {"mode": "Direct"}}}}));
    let advise = validated(json!({"spec": {"predictor": {"autoScaling": {"mode": "Advise"}}}}));
    let schedule = |name: &str, until: &str| ScheduleStatus {
        name: name.to_owned(),
        until: Time(until.parse().unwrap()),
    };
    let seen = |schedule: Option<&ScheduleStatus>, message: &str| {
        let mut seen = observed(4, "Schedule", message);
        let mut decided = Decided::clone(seen.decided.as_ref().unwrap());
        decided.pools.get_mut("cpu").unwrap().schedule = schedule.cloned();
        seen.decided = Some(Arc::new(decided));
        seen
    };
    let day = schedule("day", "2026-02-02T10:00:00Z");
    let longer = schedule("day", "2026-02-02T11:00:00Z");
    let rush = schedule("rush", "2026-02-02T10:00:00Z");
    for service in [&direct, &advise] {
        let pool = &service.pools[0];
        let given = |seen: &Observed, before: Option<&PoolStatus>| PoolStatus {
            desired: 4,
            decision: Some(decide(pool, service, seen, 4, before, Timestamp::UNIX_EPOCH)),
            advice: advice(pool, service, seen, before, Timestamp::UNIX_EPOCH),
            ..PoolStatus::default()
        };
        let message = |status: &PoolStatus| match &status.advice {
            Some(advice) => advice.message.clone(),
            None => status.decision.as_ref().unwrap().message.clone(),
        };
        let first = given(&seen(Some(&day), "30 req/s, until ten"), None);
        assert_eq!(message(&first), "30 req/s, until ten");
        let moved = given(&seen(Some(&day), "31 req/s, until ten"), Some(&first));
        assert_eq!(moved, first, "the load alone moves");
        for other in [Some(&longer), Some(&rush), None] {
            let another = given(&seen(other, "31 req/s, and another end"), Some(&first));
            assert_eq!(message(&another), "31 req/s, and another end", "{other:?}");
        }
    }
    // Of a HorizontalPodAutoscaler the schedule is that of the spec.
    let spec = json!({"spec": {"predictor": {"autoScaling": {"schedules":
        [{"name": "day", "schedule": "0 8 * * *", "duration": "2h", "minReplicas": 4}]}}}});
    let hpa = validated(spec).at("2026-02-02T09:00:00Z".parse().unwrap());
    let sample = crate::domain::published::Sample {
        value: 15.0,
        at: "2026-02-02T09:00:00Z".parse().unwrap(),
    };
    let observed = Observed {
        readings: BTreeMap::from([("cpu".to_owned(), vec![None, Some(Ok(sample)), Some(Ok(sample))])]),
        ..Observed::default()
    };
    let held = decide(&hpa.pools[0], &hpa, &observed, 4, None, Timestamp::UNIX_EPOCH);
    assert_eq!(held.schedule, Some(day), "{held:?}");
}
