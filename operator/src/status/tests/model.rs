//! ModelLoaded, and how many replicas a pool must have.

use serde_json::json;

use super::{at, condition, pod, with_deployment};
use crate::status::summarise;
use crate::test_support::{inference_service, validated};

/// What the twentieth pod says, on a node whose disk is broken, is no fault of a pool that has what it must have.
#[test]
fn one_pod_that_cannot_load_the_model_does_not_unload_a_serving_pool() {
    let cannot_load = || {
        pod(
            json!({"containerStatuses": [{"name": "kserve-container", "ready": false, "restartCount": 3, "image": "", "imageID": "",
            "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 4, "reason": "Error",
            "message": r#"{"reason":"ModelLoadFailed","message":"not a protobuf","model":"digits"}"#}}}]}),
        )
    };
    let told = |ready: i32| {
        let counts = json!({"observedGeneration": 4, "replicas": 3, "updatedReplicas": 3, "readyReplicas": ready, "availableReplicas": ready});
        let mut observed = with_deployment(4, 3, counts);
        observed.pods = vec![cannot_load()];
        let status = summarise(&inference_service(json!({})), &validated(json!({})), &observed, at(1));
        ["ModelLoaded", "Ready"].map(|kind| condition(&status, kind).0)
    };
    assert_eq!(told(2), ["True", "True"], "two of three serve, one must");
    assert_eq!(told(0), ["False", "False"]);
}

/// Before anybody who scales has looked, a Deployment has one replica: `kubectl wait` must not take that for the service that was asked for.
#[test]
fn a_pool_has_what_it_must_have_only_with_its_minimum() {
    let told = |changes: serde_json::Value, desired: i32, ready: i32| {
        let counts = json!({"observedGeneration": 4, "replicas": ready, "updatedReplicas": ready, "readyReplicas": ready, "availableReplicas": ready});
        let observed = with_deployment(4, desired, counts);
        let status = summarise(
            &inference_service(changes.clone()),
            &validated(changes),
            &observed,
            at(1),
        );
        let (truth, reason, _) = condition(&status, "PredictorReady");
        format!("{truth} {reason}")
    };
    let of_three = || json!({"spec": {"predictor": {"minReplicas": 3}}});
    assert_eq!(told(of_three(), 1, 1), "False RollingOut");
    assert_eq!(told(of_three(), 1, 0), "False RollingOut", "not even that one");
    assert_eq!(
        told(of_three(), 3, 2),
        "False RollingOut",
        "one is asked for and not made yet"
    );
    assert_eq!(told(of_three(), 3, 3), "True Ready");
    let paused = json!({"spec": {"predictor": {"minReplicas": 3, "autoScaling": {"paused": true}}}});
    assert_eq!(told(paused, 1, 1), "True Ready", "nobody asks for more meanwhile");
}
