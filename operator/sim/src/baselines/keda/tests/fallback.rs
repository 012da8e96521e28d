//! `fallback_test.go`.

use super::super::fallback::{Health, Reported, Workload, with_fallback};
use super::super::object::{Fallback, FallbackBehavior, MetricType, Prometheus};

const THREE_FAILURES: Health = Health {
    failures: 3,
    is_failing: false,
};

fn fallback(failure_threshold: i32, behavior: FallbackBehavior) -> Fallback {
    Fallback {
        failure_threshold,
        replicas: 10,
        behavior,
    }
}

fn workload(current: i32, ready: i32) -> Workload {
    Workload {
        current_replicas: Some(current),
        ready_replicas: Some(ready),
    }
}

fn failed() -> Result<i64, String> {
    Err("some error".to_owned())
}

#[test]
fn should_return_the_expected_metric_and_leave_the_health_when_fallback_is_disabled() {
    let mut health = THREE_FAILURES;
    let reported = with_fallback(None, &Prometheus::new(3.0), &mut health, Ok(5_000), workload(5, 5)).unwrap();
    assert_eq!((reported.value_milli, reported.is_fallback), (5_000, false));
    assert_eq!(health, THREE_FAILURES);
}

#[test]
fn should_reset_the_health_status_when_scaler_metrics_are_available() {
    let mut health = Health {
        failures: 5,
        is_failing: true,
    };
    let fallback = Some(fallback(3, FallbackBehavior::Static));
    let reported = with_fallback(fallback, &Prometheus::new(3.0), &mut health, Ok(6_000), workload(5, 5)).unwrap();
    assert_eq!(reported.value_milli, 6_000);
    assert_eq!(health, Health::default());
}

#[test]
fn should_propagate_the_error_when_fallback_is_disabled_or_has_an_invalid_parameter() {
    for fallback in [None, Some(fallback(-3, FallbackBehavior::Static))] {
        let mut health = THREE_FAILURES;
        let result = with_fallback(fallback, &Prometheus::new(10.0), &mut health, failed(), workload(5, 5));
        assert_eq!(result, Err("some error".to_owned()));
        assert_eq!(health, THREE_FAILURES);
    }
}

#[test]
fn should_bump_the_number_of_failures_when_metrics_call_fails() {
    let mut health = Health::default();
    let fallback = Some(fallback(3, FallbackBehavior::Static));
    let result = with_fallback(fallback, &Prometheus::new(10.0), &mut health, failed(), workload(5, 5));
    assert_eq!(result, Err("some error".to_owned()));
    assert_eq!((health.failures, health.is_failing), (1, true));
}

#[test]
fn should_return_a_normalised_metric_when_number_of_failures_are_beyond_threshold() {
    use FallbackBehavior::{CurrentReplicas, CurrentReplicasIfHigher, CurrentReplicasIfLower, Static};
    // (behavior, replicas, expected value at a target of 10)
    let cases = [
        (Static, 5, 100),
        (Static, 15, 100),
        (CurrentReplicas, 6, 60),
        (CurrentReplicasIfHigher, 4, 100),
        (CurrentReplicasIfHigher, 15, 150),
        (CurrentReplicasIfLower, 4, 40),
        (CurrentReplicasIfLower, 15, 100),
    ];
    for (behavior, current, expected) in cases {
        let mut health = THREE_FAILURES;
        let fallback = Some(fallback(3, behavior));
        let trigger = Prometheus::new(10.0);
        let reported = with_fallback(fallback, &trigger, &mut health, failed(), workload(current, current));
        let expected = Reported {
            value_milli: expected * 1_000,
            is_fallback: true,
        };
        assert_eq!(reported, Ok(expected), "{behavior:?} at {current}");
        assert_eq!((health.failures, health.is_failing), (4, true));
    }
}

/// `doFallback`: a `Value` target is scaled by the ready pods, so the value is divided by their number.
#[test]
fn a_value_target_needs_ready_pods() {
    let trigger = Prometheus {
        metric_type: MetricType::Value,
        ..Prometheus::new(10.0)
    };
    let report = |ready_replicas| {
        let workload = Workload {
            current_replicas: Some(4),
            ready_replicas,
        };
        let fallback = Some(fallback(3, FallbackBehavior::Static));
        with_fallback(fallback, &trigger, &mut THREE_FAILURES.clone(), failed(), workload)
    };
    assert_eq!(report(Some(4)).map(|reported| reported.value_milli), Ok(25_000));
    for ready in [Some(0), None] {
        assert_eq!(report(ready), Err("error performing fallback".to_owned()));
    }
}

/// Without the count that the behavior needs, the error stays.
#[test]
fn a_behavior_needs_the_current_replicas() {
    let workload = Workload {
        current_replicas: None,
        ready_replicas: Some(1),
    };
    for (behavior, is_ok) in [
        (FallbackBehavior::Static, true),
        (FallbackBehavior::CurrentReplicas, false),
    ] {
        let fallback = Some(fallback(3, behavior));
        let result = with_fallback(
            fallback,
            &Prometheus::new(10.0),
            &mut THREE_FAILURES.clone(),
            failed(),
            workload,
        );
        assert_eq!(result.is_ok(), is_ok, "{behavior:?}");
    }
}
