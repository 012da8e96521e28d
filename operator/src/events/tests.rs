//! Each change of a status that is worth an event, and those that are not.

use serde_json::{Value, json};
use tidewright_api::InferenceServiceStatus;
use tidewright_api::scaling::Mode;

use super::{NOTE_CHARS_MAX, QUIET_FOR, QUIET_FOR_SCALING, between};

/// Type, status, reason, message.
type Condition = (&'static str, &'static str, &'static str, &'static str);

fn status(conditions: &[Condition], pools: &Value) -> InferenceServiceStatus {
    let conditions: Vec<Value> = conditions
        .iter()
        .map(|(kind, status, reason, message)| {
            json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z"})
        })
        .collect();
    serde_json::from_value(json!({"conditions": conditions, "pools": pools})).unwrap()
}

/// The events of a change of one condition: whether each is a warning, its reason, its note.
fn of_conditions(before: Option<Condition>, after: Condition) -> Vec<(bool, &'static str, String)> {
    let before = before.map(|condition| status(&[condition], &json!([])));
    let events = between(before.as_ref(), &status(&[after], &json!([])), Mode::Hpa);
    events.into_iter().map(|e| (e.is_warning, e.reason, e.note)).collect()
}

fn pool(name: &str, desired: i32) -> Value {
    json!({"name": name, "desired": desired, "ready": 1, "starting": 0,
        "decision": {"reason": "RequestRate", "message": "35 req/s / 10 per replica → 4 (winner)"}})
}

#[test]
fn each_transition_has_its_event() {
    let ready = ("Ready", "True", "Ready", "1/1 ready");
    let pending = ("Ready", "Unknown", "Pending", "not observed");
    let rolling = ("Ready", "False", "RollingOut", "1 of 2");
    let few = ("Ready", "False", "NotEnoughReplicas", "0 of 1");
    let crashing = ("Ready", "False", "Crashing", "boom");
    let invalid = ("Ready", "False", "InvalidSpec", "spec.x: is wrong");
    let honoured = ("SpecHonoured", "True", "Honoured", "");
    let refused = ("SpecHonoured", "False", "InvalidSpec", "spec.x: is wrong");
    let refused_otherwise = ("SpecHonoured", "False", "InvalidSpec", "spec.y: is wrong");
    let scaling = ("ScalingReady", "True", "Scaling", "every signal is fresh");
    let missing = ("ScalingReady", "False", "MetricsUnavailable", "connection refused");
    let taken = ("ScalingReady", "False", "MetricsApiTaken", "APIService x");
    let starting = ("ScalingReady", "Unknown", "Pending", "warming up");
    let paused = ("ScalingReady", "False", "Paused", "paused until 14:00");
    let fixed = ("ScalingReady", "True", "FixedReplicas", "fixed at 3 replicas");
    let stuck = ("ScalingReady", "False", "ReplicasStuck", "pool cpu: 2 replicas");
    let event = |is_warning, reason, note: &str| vec![(is_warning, reason, note.to_owned())];
    let rows = [
        (
            "first ready",
            Some(pending),
            ready,
            event(false, "InferenceServiceReady", "1/1 ready"),
        ),
        (
            "ready from nothing",
            None,
            ready,
            event(false, "InferenceServiceReady", "1/1 ready"),
        ),
        ("still ready", Some(ready), ready, vec![]),
        ("not known for a moment", Some(ready), pending, vec![]),
        (
            "a rollout is planned",
            Some(ready),
            rolling,
            event(false, "InferenceServiceNotReady", "RollingOut: 1 of 2"),
        ),
        (
            "not yet enough",
            Some(pending),
            few,
            event(false, "InferenceServiceNotReady", "NotEnoughReplicas: 0 of 1"),
        ),
        (
            "no longer enough",
            Some(ready),
            few,
            event(true, "InferenceServiceNotReady", "NotEnoughReplicas: 0 of 1"),
        ),
        (
            "a crash",
            Some(ready),
            crashing,
            event(true, "InferenceServiceNotReady", "Crashing: boom"),
        ),
        (
            "another reason",
            Some(few),
            crashing,
            event(true, "InferenceServiceNotReady", "Crashing: boom"),
        ),
        ("the same reason", Some(crashing), crashing, vec![]),
        ("told as a problem of the spec", Some(ready), invalid, vec![]),
        (
            "an invalid spec",
            Some(honoured),
            refused,
            event(true, "InvalidSpec", "spec.x: is wrong"),
        ),
        ("the same problem", Some(refused), refused, vec![]),
        (
            "another problem",
            Some(refused),
            refused_otherwise,
            event(true, "InvalidSpec", "spec.y: is wrong"),
        ),
        ("a spec that is mended", Some(refused), honoured, vec![]),
        (
            "a signal is lost",
            Some(scaling),
            missing,
            event(true, "MetricUnavailable", "connection refused"),
        ),
        ("still lost", Some(missing), missing, vec![]),
        (
            "the API is taken",
            Some(missing),
            taken,
            event(true, "MetricsApiTaken", "APIService x"),
        ),
        (
            "signals are back",
            Some(missing),
            scaling,
            event(false, "MetricsAvailable", "every signal is fresh"),
        ),
        ("signals start", Some(starting), scaling, vec![]),
        ("signals are new", None, starting, vec![]),
        (
            "a pause is no fault",
            Some(scaling),
            paused,
            event(false, "ScalingPaused", "paused until 14:00"),
        ),
        (
            "a pause ends",
            Some(paused),
            scaling,
            event(false, "ScalingResumed", "every signal is fresh"),
        ),
        (
            "a pause ends, and its end is seen before signals are",
            Some(paused),
            starting,
            event(false, "ScalingResumed", "warming up"),
        ),
        ("a pause ends with a number by hand", Some(paused), fixed, vec![]),
        (
            "a pause ends, and no signal is there",
            Some(paused),
            missing,
            event(true, "MetricUnavailable", "connection refused"),
        ),
        (
            "replicas do not come",
            Some(scaling),
            stuck,
            event(true, "ReplicasStuck", "pool cpu: 2 replicas"),
        ),
        (
            "they come",
            Some(stuck),
            scaling,
            event(false, "ReplicasStarted", "every signal is fresh"),
        ),
    ];
    for (name, before, after, expected) in rows {
        assert_eq!(of_conditions(before, after), expected, "{name}");
    }
}

#[test]
fn each_step_of_a_pool_is_told_with_its_reason() {
    let before = status(&[], &json!([pool("gpu", 1), pool("cpu", 4)]));
    let after = status(&[], &json!([pool("gpu", 4), pool("cpu", 2), pool("new", 7)]));
    let events = between(Some(&before), &after, Mode::Hpa);
    let told: Vec<_> = events
        .iter()
        .map(|e| (e.is_warning, e.reason, e.note.as_str()))
        .collect();
    let why = "RequestRate: 35 req/s / 10 per replica → 4 (winner)";
    assert_eq!(
        told,
        [
            (false, "ScaledUp", format!("pool gpu: 1 → 4 replicas: {why}").as_str()),
            (false, "ScaledDown", format!("pool cpu: 4 → 2 replicas: {why}").as_str()),
        ]
    );
    assert!(events.iter().all(|e| e.quiet_for == QUIET_FOR_SCALING));
    assert!(between(Some(&after), &after, Mode::Advise).is_empty());
}

#[test]
fn a_note_is_cut_and_equal_notes_are_one_event() {
    let long: &'static str = "é".repeat(2 * NOTE_CHARS_MAX).leak();
    let broken = status(&[("Ready", "False", "Crashing", long)], &json!([]));
    let one = between(None, &broken, Mode::Hpa).remove(0);
    assert_eq!((one.note.chars().count(), one.quiet_for), (NOTE_CHARS_MAX, QUIET_FOR));
    assert_eq!(one.dedupe_key, between(None, &broken, Mode::Hpa).remove(0).dedupe_key);
    let other = status(&[("Ready", "False", "OutOfMemory", long)], &json!([]));
    assert_ne!(one.dedupe_key, between(None, &other, Mode::Hpa).remove(0).dedupe_key);
}

#[test]
fn advice_is_told_where_it_was_asked_for() {
    let advised = |replicas: i32| {
        let mut pool = pool("cpu", 2);
        pool["advice"] = json!({"replicas": replicas, "reason": "PerReplica", "message": "m"});
        status(&[], &json!([pool]))
    };
    let told = |mode| between(Some(&advised(2)), &advised(4), mode);
    assert_eq!(told(Mode::Hpa), []);
    let [event] = told(Mode::Advise).try_into().unwrap();
    assert_eq!(event.note, "pool cpu: would have 4 replicas, has 2: PerReplica: m");
}

#[test]
fn a_number_by_hand_is_told_when_it_comes_changes_and_ends() {
    let by_hand = |replicas: i32, until: &str| -> InferenceServiceStatus {
        let time = "2026-01-01T00:00:00Z";
        serde_json::from_value(json!({"override": {"replicas": replicas, "since": time, "until": until}})).unwrap()
    };
    let (one, longer, other) = (
        by_hand(3, "2026-01-01T02:00:00Z"),
        by_hand(3, "2026-01-01T04:00:00Z"),
        by_hand(5, "2026-01-01T02:00:00Z"),
    );
    let none = InferenceServiceStatus::default();
    let told = |before: &InferenceServiceStatus, after: &InferenceServiceStatus| -> Vec<(&str, String)> {
        let events = between(Some(before), after, Mode::Hpa).into_iter();
        events.map(|event| (event.reason, event.note)).collect()
    };
    let comes = |replicas: i32| {
        let note = format!("{replicas} replicas until 2026-01-01T02:00:00Z, as set by hand");
        vec![("ReplicasOverridden", note)]
    };
    assert_eq!(told(&none, &one), comes(3));
    assert_eq!(told(&one, &longer), []);
    assert_eq!(told(&one, &other), comes(5));
    assert_eq!(
        told(&one, &none),
        [("OverrideEnded", "no longer 3 replicas by hand".to_owned())]
    );
}
