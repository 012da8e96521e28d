//! `scale_scaledobjects_test.go`, the polling loop around it, and the HPA beside it.

use proptest::prelude::*;

use super::super::fallback::Workload;
use super::super::object::{Fallback, FallbackBehavior, Prometheus, ScaledObject, Trigger};
use super::super::prometheus::{Answer, Sample};
use super::super::scale::{Outcome, PollInput, State, metric, poll};
use super::super::{SECOND_NS, whole_seconds};
use crate::baselines::hpa;
use crate::baselines::hpa::spec::{Behavior, Metric, ScalingRules, SelectPolicy, ValueTarget};

const NOW_NS: i64 = 1_000_000 * SECOND_NS + 700_000_000;

fn object(idle: Option<i32>, min: i32) -> ScaledObject {
    ScaledObject {
        name: "name".to_owned(),
        idle_replica_count: idle,
        min_replica_count: Some(min),
        triggers: vec![Trigger::Prometheus(Prometheus::new(10.0))],
        ..ScaledObject::default()
    }
}

/// A number, or a failure.
fn answer(number: Option<f64>) -> Answer {
    number
        .map(|number| vec![Sample::Number(number)])
        .ok_or_else(|| "some error".to_owned())
}

fn active() -> Answer {
    answer(Some(1.0))
}

fn inactive() -> Answer {
    answer(Some(0.0))
}

fn failed() -> Answer {
    answer(None)
}

fn input(now_ns: i64, current_replicas: i32, answers: &[Answer]) -> PollInput<'_> {
    PollInput {
        now_ns,
        current_replicas,
        ready_replicas: Some(current_replicas),
        answers,
    }
}

fn polled(object: &ScaledObject, current: i32, answer: Answer) -> (Outcome, State) {
    let mut state = State::default();
    let outcome = poll(object, &mut state, input(NOW_NS, current, &[answer]));
    (outcome, state)
}

#[test]
fn request_scale() {
    // (name, idle, min, replicas, is active, written, condition Active)
    let cases = [
        (
            "ScaleToMinReplicasWhenNotActive",
            None,
            0,
            10,
            false,
            Some(0),
            (false, "ScalerNotActive"),
        ),
        (
            "ScaleToMinReplicasFromLowerInitialReplicaCount",
            None,
            5,
            1,
            false,
            Some(5),
            (false, "ScalerNotActive"),
        ),
        (
            "ScaleFromMinReplicasWhenActive",
            None,
            0,
            0,
            true,
            Some(1),
            (true, "ScalerActive"),
        ),
        (
            "ScaleToIdleReplicasWhenNotActive",
            Some(0),
            5,
            10,
            false,
            Some(0),
            (false, "ScalerNotActive"),
        ),
        (
            "ScaleFromIdleToMinReplicasWhenActive",
            Some(0),
            5,
            0,
            true,
            Some(5),
            (true, "ScalerActive"),
        ),
        (
            "EventWitTriggerInfo",
            Some(0),
            5,
            2,
            true,
            Some(5),
            (true, "ScalerActive"),
        ),
        (
            "nothing to do when active",
            None,
            1,
            3,
            true,
            None,
            (true, "ScalerActive"),
        ),
        (
            "nothing to do when not active",
            None,
            1,
            3,
            false,
            None,
            (false, "ScalerNotActive"),
        ),
    ];
    for (name, idle, min, current, is_active, written, condition) in cases {
        let answer = if is_active { active() } else { inactive() };
        let (outcome, state) = polled(&object(idle, min), current, answer);
        assert_eq!(outcome.written, written, "{name}");
        assert_eq!(outcome.active, Some(condition), "{name}");
        assert_eq!(
            state.last_active_ns,
            is_active.then_some(whole_seconds(NOW_NS)),
            "{name}"
        );
    }
}

#[test]
fn annotations() {
    let mut object = object(Some(0), 5);
    object.is_scale_in_paused = true;
    assert_eq!(
        polled(&object, 10, inactive()).0.written,
        None,
        "NoScaleTo…WhenNotActiveAndPauseScaleInAnnotationSet"
    );
    object.is_scale_out_paused = true;
    let (outcome, state) = polled(&object, 0, active());
    assert_eq!(
        (outcome.written, state.last_active_ns),
        (None, None),
        "…WhenActiveAndPausedScaleOutAnnotationSet"
    );
    assert_eq!(outcome.active, Some((true, "ScalerActive")));
    let behavior = object.hpa_spec().behavior.unwrap();
    assert_eq!(behavior.scale_up.select_policy, Some(SelectPolicy::Disabled));
    assert_eq!(behavior.scale_down.select_policy, Some(SelectPolicy::Disabled));
    object = self::object(None, 0);
    object.is_activation_forced = true;
    assert_eq!(
        polled(&object, 0, inactive()).0.written,
        Some(1),
        "ScaleFromMinReplicasWhenActivationForced"
    );
    object.is_paused = true;
    let outcome = polled(&object, 2, active()).0;
    assert_eq!(
        (outcome.written, outcome.active),
        (None, None),
        "ScaleToPausedReplicasCount"
    );
}

fn fallback_to(replicas: i32) -> Fallback {
    Fallback {
        failure_threshold: 3,
        replicas,
        behavior: FallbackBehavior::Static,
    }
}

#[test]
fn errors() {
    let mut object = object(None, 0);
    let outcome = polled(&object, 3, failed()).0;
    assert_eq!(outcome.written, None, "an error is not zero");
    assert_eq!(
        outcome.ready,
        (Some(false), "TriggerError"),
        "RequestScale_ScalerError_HPAHealthy"
    );
    object.triggers.push(Trigger::Prometheus(Prometheus::new(10.0)));
    let mut state = State::default();
    let outcome = poll(&object, &mut state, input(NOW_NS, 3, &[failed(), active()]));
    assert_eq!(
        outcome.ready,
        (None, "PartialTriggerError"),
        "RequestScale_PartialError_HPAHealthy"
    );
    assert_eq!(
        state.last_active_ns, None,
        "a partial error does not renew the cooldown"
    );
    // From zero a partial error does not matter.
    assert_eq!(
        poll(&object, &mut state, input(NOW_NS, 0, &[failed(), active()])).written,
        Some(1)
    );
    object.fallback = Some(fallback_to(2));
    let outcome = polled(&object, 3, failed()).0;
    assert_eq!(
        (outcome.written, outcome.ready.0),
        (None, Some(true)),
        "RequestScale_ScalerErrorWithFallback_HPAHealthy"
    );
    // A fallback to nothing does not keep the workload up.
    object.fallback = Some(fallback_to(0));
    assert_eq!(polled(&object, 3, failed()).0.written, Some(0));
}

#[test]
fn the_cooldown_counts_from_the_last_active_poll_in_whole_seconds() {
    let object = object(None, 0);
    let mut state = State::default();
    poll(&object, &mut state, input(NOW_NS, 2, &[active()]));
    let last_ns = whole_seconds(NOW_NS);
    let outcome = poll(&object, &mut state, input(last_ns + 300 * SECOND_NS, 2, &[inactive()]));
    assert_eq!(
        (outcome.written, outcome.active),
        (None, Some((false, "ScalerCooldown")))
    );
    let outcome = poll(
        &object,
        &mut state,
        input(last_ns + 300 * SECOND_NS + 1, 2, &[inactive()]),
    );
    assert_eq!(outcome.written, Some(0));
}

#[test]
fn the_initial_cooldown_counts_from_the_creation() {
    let mut object = object(None, 0);
    object.created_ns = whole_seconds(NOW_NS);
    object.initial_cooldown_period_seconds = Some(60);
    for (after_s, written) in [(30, None), (61, Some(0))] {
        let now_ns = object.created_ns + after_s * SECOND_NS;
        assert_eq!(
            poll(&object, &mut State::default(), input(now_ns, 2, &[inactive()])).written,
            written
        );
    }
}

/// Polls and the HPA's own queries count failures together; from the fourth on the fallback is reported, and the trigger counts as active.
#[test]
fn failures_of_polls_and_of_the_hpa_add_up() {
    let mut object = object(None, 0);
    object.fallback = Some(fallback_to(6));
    let mut state = State::default();
    let workload = Workload {
        current_replicas: Some(2),
        ready_replicas: Some(2),
    };
    for _ in 0..2 {
        let error = metric(&object, &mut state, 0, &failed(), workload).unwrap_err();
        assert_eq!(error, "metric:s0-prometheus encountered error");
    }
    assert_eq!(poll(&object, &mut state, input(NOW_NS, 2, &[failed()])).errors.len(), 1);
    assert_eq!(
        metric(&object, &mut state, 0, &failed(), workload),
        Ok(hpa::Reading::External(vec![60_000]))
    );
    let outcome = poll(&object, &mut state, input(NOW_NS, 0, &[failed()]));
    assert_eq!(
        (outcome.written, outcome.active),
        (Some(1), Some((true, "ScalerActive")))
    );
    assert_eq!(
        metric(&object, &mut state, 0, &active(), workload),
        Ok(hpa::Reading::External(vec![1_000]))
    );
    assert_eq!(state.health[0].failures, 0);
    assert!(
        metric(&object, &mut state, 1, &active(), workload).is_err(),
        "there is no second trigger"
    );
}

#[test]
fn resource_triggers_alone_are_always_active() {
    let mut object = object(None, 0);
    object.triggers = vec![Trigger::Resource(Metric::default_cpu())];
    assert_eq!(polled(&object, 0, failed()).0.written, Some(1));
}

#[test]
fn the_hpa_never_goes_below_one() {
    let mut object = object(None, 0);
    object.triggers.insert(0, Trigger::Resource(Metric::default_cpu()));
    object.behavior = Some(Behavior {
        scale_down: ScalingRules {
            stabilization_window_seconds: Some(60),
            ..ScalingRules::default()
        },
        ..Behavior::default()
    });
    let spec = object.hpa_spec();
    assert_eq!((spec.min_replicas, spec.max_replicas), (Some(1), 100));
    let external = Metric::External {
        name: "s1-prometheus".to_owned(),
        selector: "&LabelSelector{MatchLabels:map[string]string{scaledobject.keda.sh/name: name,},MatchExpressions:[]LabelSelectorRequirement{},}"
            .to_owned(),
        target: ValueTarget::AverageValue(10_000),
    };
    assert_eq!(spec.metrics, [external, Metric::default_cpu()]);
    assert_eq!(spec.behavior, object.behavior);
    assert_eq!(
        (object.polling_interval_ns(), object.cooldown_period_ns()),
        (30 * SECOND_NS, 300 * SECOND_NS)
    );
}

proptest! {
    /// Only the idle count, the minimum and one are ever written, and errors without a fallback write nothing unless some trigger is active.
    #[test]
    fn polls_write_idle_minimum_or_one(
        idle in proptest::option::of(0..3_i32),
        above in 1..5_i32,
        replicas in proptest::collection::vec(0..20_i32, 1..30),
        numbers in proptest::collection::vec(proptest::option::of(prop_oneof![Just(f64::NAN), -1.0..10.0_f64]), 30),
    ) {
        let min = idle.map_or(0, |idle| idle + above);
        let object = object(idle, min);
        let mut state = State::default();
        for (index, (current, number)) in replicas.iter().zip(&numbers).enumerate() {
            let now_ns = NOW_NS + i64::try_from(index).unwrap() * 30 * SECOND_NS;
            let outcome = poll(&object, &mut state, input(now_ns, *current, &[answer(*number)]));
            if let Some(written) = outcome.written {
                prop_assert!(number.is_some());
                prop_assert!([idle.unwrap_or(0), min, 1].contains(&written));
                prop_assert_ne!(written, *current);
            }
        }
    }
}
