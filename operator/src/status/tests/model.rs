//! ModelLoaded.

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
