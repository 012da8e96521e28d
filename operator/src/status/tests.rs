//! Facts and the status made of them.

mod failures;
mod model;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tidewright_api::InferenceServiceStatus;
use tidewright_api::conditions::Reason;

use super::{queue_text, summarise};
use crate::domain::observed::Observed;
use crate::domain::published::{Reason as Why, Sample, Unavailable};
use crate::test_support::{deployment, inference_service, validated};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn condition(status: &InferenceServiceStatus, kind: &str) -> (String, String, String) {
    let c = status
        .conditions
        .iter()
        .find(|c| c.type_ == kind)
        .unwrap_or_else(|| panic!("no condition {kind}"));
    assert_eq!(c.observed_generation, status.observed_generation);
    (c.status.clone(), c.reason.clone(), c.message.clone())
}

fn with_deployment(generation: i64, replicas: i32, status: Value) -> Observed {
    Observed {
        deployments: BTreeMap::from([(
            "cpu".to_owned(),
            Arc::new(deployment("cpu", generation, replicas, status)),
        )]),
        ..Observed::default()
    }
}

fn pod(status: Value) -> Arc<Pod> {
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": "digits-cpu-1", "labels": {"serving.tidewright.dev/pool": "cpu"}}, "status": status
        }))
        .unwrap(),
    )
}

fn verdict(observed: &Observed) -> (String, String, String) {
    condition(
        &summarise(&inference_service(json!({})), &validated(json!({})), observed, at(100)),
        "Ready",
    )
}

#[test]
fn before_the_first_observation_everything_is_unknown() {
    let status = summarise(
        &inference_service(json!({})),
        &validated(json!({})),
        &Observed::default(),
        at(100),
    );
    for kind in ["Ready", "PredictorReady", "ModelLoaded", "ScalingReady"] {
        assert_eq!(condition(&status, kind).0, "Unknown", "{kind}");
    }
    assert_eq!(status.observed_generation, Some(2));
}

#[test]
fn ready_needs_a_caught_up_and_complete_rollout() {
    let complete = json!({"observedGeneration": 4, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2});
    assert_eq!(verdict(&with_deployment(4, 2, complete.clone())).0, "True");
    // The controller of Deployments has not seen the newest template: its numbers are about the old one.
    assert_eq!(verdict(&with_deployment(5, 2, complete)).0, "Unknown");
    let mixed = json!({"observedGeneration": 4, "replicas": 3, "updatedReplicas": 1, "readyReplicas": 3, "availableReplicas": 3});
    let (status, reason, _) = verdict(&with_deployment(4, 2, mixed));
    assert_eq!((status.as_str(), reason.as_str()), ("False", "RollingOut"));
    let none = json!({"observedGeneration": 4, "replicas": 1, "updatedReplicas": 1});
    assert_eq!(verdict(&with_deployment(4, 1, none)).0, "False");
}

#[test]
fn a_serving_pool_that_scales_up_stays_ready() {
    let scaling = json!({"observedGeneration": 4, "replicas": 5, "updatedReplicas": 5, "readyReplicas": 2, "availableReplicas": 2});
    let mut observed = with_deployment(4, 5, scaling);
    observed.pods = vec![pod(
        json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"}]}),
    )];
    assert_eq!(verdict(&observed).0, "True");
}

#[test]
fn a_step_of_the_autoscaler_does_not_make_a_rolled_out_service_unknown() {
    let complete = json!({"observedGeneration": 4, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2});
    let mut observed = with_deployment(5, 3, complete);
    assert_eq!(verdict(&observed).0, "Unknown");
    observed.settled.insert("cpu".to_owned());
    assert_eq!(verdict(&observed).0, "True");
}

#[test]
fn why_a_pod_cannot_start_is_in_the_message() {
    let starting = || {
        with_deployment(
            4,
            1,
            json!({"observedGeneration": 4, "replicas": 1, "updatedReplicas": 1}),
        )
    };
    let waiting = |reason: &str| {
        json!({"containerStatuses": [{"name": "kserve-container", "ready": false, "restartCount": 0, "image": "", "imageID": "",
        "state": {"waiting": {"reason": reason, "message": "no such image"}}}]})
    };
    let ended = |code: i32, reason: &str, message: &str| {
        json!({"containerStatuses": [{"name": "kserve-container", "ready": false, "restartCount": 3, "image": "", "imageID": "",
        "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": code, "reason": reason, "message": message}}}]})
    };
    let unscheduled =
        |message: &str| json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": message}]});
    let cases = [
        (waiting("ErrImagePull"), Reason::ImageUnavailable, "no such image"),
        (
            waiting("CreateContainerConfigError"),
            Reason::ContainerNotCreated,
            "no such image",
        ),
        (ended(1, "Error", "thread panicked\nboom"), Reason::Crashing, "boom"),
        (
            ended(
                2,
                "Error",
                "error: unknown format 'x'\n  [formats: json]\n\nSee --help.",
            ),
            Reason::Crashing,
            "error: unknown format 'x' [formats: json]",
        ),
        (ended(137, "OOMKilled", ""), Reason::OutOfMemory, "memory"),
        (
            ended(
                4,
                "Error",
                r#"{"reason":"ModelLoadFailed","message":"not a protobuf","model":"digits"}"#,
            ),
            Reason::ModelLoadFailed,
            "not a protobuf",
        ),
        (
            ended(
                4,
                "Error",
                r#"{"reason":"DigestMismatch","message":"has sha256:ab","model":"digits"}"#,
            ),
            Reason::DigestMismatch,
            "sha256:ab",
        ),
        (
            ended(
                4,
                "Error",
                r#"{"reason":"UnsafeExternalData","message":"\"w.bin\" is a symbolic link","model":"digits"}"#,
            ),
            Reason::ModelLoadFailed,
            "UnsafeExternalData: \"w.bin\" is a symbolic link",
        ),
        (
            unscheduled("0/1 nodes are available: 1 Insufficient cpu."),
            Reason::Unschedulable,
            "Insufficient cpu",
        ),
        (
            unscheduled("persistentvolumeclaim \"models\" not found"),
            Reason::VolumeUnavailable,
            "models",
        ),
    ];
    for (status, reason, text) in cases {
        let mut observed = starting();
        observed.pods = vec![pod(status)];
        let (truth, found, message) = verdict(&observed);
        assert_eq!(
            (truth.as_str(), found.as_str()),
            ("False", reason.as_str()),
            "{message}"
        );
        assert!(message.contains(text), "{message}");
    }
}

#[test]
fn a_missing_gpu_has_its_own_reason() {
    let changes =
        json!({"spec": {"pools": [{"name": "cpu", "accelerator": {"resource": "nvidia.com/gpu", "count": 1}}]}});
    let mut observed = with_deployment(
        4,
        1,
        json!({"observedGeneration": 4, "replicas": 1, "updatedReplicas": 1}),
    );
    observed.pods = vec![pod(
        json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "1 Insufficient nvidia.com/gpu"}]}),
    )];
    let status = summarise(
        &inference_service(changes.clone()),
        &validated(changes),
        &observed,
        at(1),
    );
    assert_eq!(condition(&status, "Ready").1, "GPUUnschedulable");
    assert_eq!((status.gpu.as_deref(), status.cpu.as_deref()), (Some("0/1"), Some("-")));
}

#[test]
fn pods_that_admission_refuses_are_told() {
    let observed = with_deployment(
        4,
        1,
        json!({"observedGeneration": 4, "conditions": [{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: pods=0"}]}),
    );
    let (_, reason, message) = verdict(&observed);
    assert_eq!(reason, "PodsRefused");
    assert!(message.contains("exceeded quota"), "{message}");
}

fn readings(rate: Result<f64, Why>) -> BTreeMap<String, Vec<Option<crate::domain::published::Reading>>> {
    let queue = Ok(Sample {
        value: 380.0,
        at: at(1),
    });
    let rate = rate
        .map(|value| Sample { value, at: at(1) })
        .map_err(|reason| Unavailable::new(reason, "connection refused"));
    BTreeMap::from([("cpu".to_owned(), vec![None, Some(rate), Some(queue)])])
}

#[test]
fn a_missing_signal_is_told_and_never_a_number() {
    let mut observed = with_deployment(
        4,
        3,
        json!({"observedGeneration": 4, "replicas": 3, "updatedReplicas": 3, "readyReplicas": 3, "availableReplicas": 3}),
    );
    observed.readings = readings(Err(Why::PrometheusUnreachable));
    observed.queue = Some(Err(Unavailable::new(Why::PrometheusUnreachable, "connection refused")));
    let status = summarise(&inference_service(json!({})), &validated(json!({})), &observed, at(1));
    let (truth, reason, message) = condition(&status, "ScalingReady");
    assert_eq!((truth.as_str(), reason.as_str()), ("False", "MetricsUnavailable"));
    assert!(
        message.contains("RequestRate") && message.contains("connection refused"),
        "{message}"
    );
    assert_eq!(status.queue.as_deref(), Some("?"));
    assert_eq!(
        condition(&status, "Ready").0,
        "True",
        "a metric outage does not make a serving model unready"
    );
}

#[test]
fn the_decision_names_every_proposal_and_the_winner() {
    let mut observed = with_deployment(
        4,
        7,
        json!({"observedGeneration": 4, "replicas": 7, "updatedReplicas": 7, "readyReplicas": 6, "availableReplicas": 6}),
    );
    observed.readings = readings(Ok(6900.0));
    let status = summarise(&inference_service(json!({})), &validated(json!({})), &observed, at(1));
    let decision = status.pools[0].decision.clone().unwrap();
    assert_eq!(decision.reason, "RequestRate");
    assert_eq!(
        decision.message,
        "CPU unknown; 6900 req/s / 1000 per replica → 7 (winner); 380 queued / 100 per replica → 4"
    );
    assert_eq!((status.pools[0].ready, status.pools[0].starting), (6, 1));
}

#[test]
fn a_decision_is_told_anew_only_when_it_changes() {
    let facts = |rate: f64| {
        let mut observed = with_deployment(
            4,
            7,
            json!({"observedGeneration": 4, "replicas": 7, "updatedReplicas": 7, "readyReplicas": 7, "availableReplicas": 7}),
        );
        observed.readings = readings(Ok(rate));
        observed
    };
    let mut object = inference_service(json!({}));
    object.status = Some(summarise(&object, &validated(json!({})), &facts(6900.0), at(1)));
    let again = summarise(&object, &validated(json!({})), &facts(6901.0), at(50));
    assert_eq!(
        object.status.as_ref(),
        Some(&again),
        "nothing changed but a value, and the status would be written again"
    );
}

#[test]
fn transition_times_move_with_the_status_only() {
    let mut object = inference_service(json!({}));
    object.status = Some(summarise(&object, &validated(json!({})), &Observed::default(), at(10)));
    let rolling = with_deployment(
        4,
        1,
        json!({"observedGeneration": 4, "replicas": 1, "updatedReplicas": 1}),
    );
    let later = summarise(&object, &validated(json!({})), &rolling, at(20));
    let time = |status: &InferenceServiceStatus, kind: &str| {
        status
            .conditions
            .iter()
            .find(|c| c.type_ == kind)
            .unwrap()
            .last_transition_time
            .0
            .as_second()
    };
    assert_eq!(time(&later, "PredictorReady"), 20);
    assert_eq!(time(&later, "ScalingReady"), 10);
}

#[test]
fn a_fixed_number_is_shown_as_such() {
    let changes = json!({"spec": {"predictor": {"replicas": 3}}});
    let observed = with_deployment(
        4,
        3,
        json!({"observedGeneration": 4, "replicas": 3, "updatedReplicas": 3, "readyReplicas": 3, "availableReplicas": 3}),
    );
    let status = summarise(
        &inference_service(changes.clone()),
        &validated(changes),
        &observed,
        at(1),
    );
    assert_eq!(condition(&status, "ScalingReady").1, "FixedReplicas");
    assert_eq!(status.limited_by.as_deref(), Some("fixed"));
    assert_eq!(status.pools[0].decision.as_ref().unwrap().reason, "Fixed");
}

#[test]
fn the_queue_has_two_significant_digits() {
    let text = |value: f64| queue_text(Some(&Ok(Sample { value, at: at(1) })));
    assert_eq!(
        [text(0.0), text(9.0), text(99.4), text(123.0), text(1299.0)],
        ["0", "9", "99", "120", "1200"]
    );
    assert_eq!(queue_text(None), "?");
}
