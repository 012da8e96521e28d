//! What a status says of a spec that is refused, and of a reconcile that failed.

use std::sync::Arc;

use serde_json::json;
use tidewright_api::conditions::Reason;

use super::{at, condition, with_deployment};
use crate::domain::problem::Problem;
use crate::domain::published::{Reason as Why, Unavailable};
use crate::status::{Failure, failed, refused, summarise};
use crate::test_support::{deployment, inference_service, validated};

#[test]
fn a_refused_spec_keeps_what_runs() {
    let mut object = inference_service(json!({}));
    let complete = json!({"observedGeneration": 4, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2});
    object.status = Some(summarise(
        &object,
        &validated(json!({})),
        &with_deployment(4, 2, complete),
        at(10),
    ));
    let none = Err(Unavailable::new(Why::PrometheusUnreachable, "connection refused"));
    let problems = [Problem::new("spec.x", "is wrong")];
    let status = refused(&object, &problems, None, None, Some(&none), at(20));
    assert_eq!(
        condition(&status, "SpecHonoured"),
        ("False".into(), "InvalidSpec".into(), "spec.x: is wrong".into())
    );
    assert_eq!(condition(&status, "Ready").0, "False");
    assert_eq!(status.replicas, Some(2));
    assert_eq!(status.queue.as_deref(), Some("?"));
}

#[test]
fn a_number_by_hand_is_told_beside_a_refused_spec_for_as_long_as_it_counts() {
    let mut object = inference_service(json!({}));
    let fixed = validated(json!({"spec": {"predictor": {"replicas": 3, "autoScaling": {"overrideTTL": "1m"}}}}));
    let complete = json!({"observedGeneration": 4, "replicas": 3, "updatedReplicas": 3, "readyReplicas": 3, "availableReplicas": 3});
    let before = summarise(&object, &fixed, &with_deployment(4, 3, complete), at(10));
    assert!(before.r#override.is_some());
    object.status = Some(before.clone());
    let problems = [Problem::new("spec.x", "is wrong")];
    let of = |runs: Option<&_>| refused(&object, &problems, runs, None, None, at(20)).r#override;
    assert_eq!(of(Some(&fixed)), before.r#override);
    assert_eq!(of(Some(&fixed.clone().released())), None);
    assert_eq!(of(None), before.r#override, "it is not known what runs");
}

#[test]
fn what_runs_beside_a_refused_spec_is_counted_on() {
    let mut object = inference_service(json!({}));
    let counts = |n: i32| json!({"observedGeneration": 4, "replicas": n, "updatedReplicas": n, "readyReplicas": n, "availableReplicas": n});
    let at_first = with_deployment(4, 2, counts(2));
    object.status = Some(summarise(&object, &validated(json!({})), &at_first, at(10)));
    let mut later = with_deployment(5, 4, counts(3)).deployments;
    let mut gpu = deployment("gpu", 1, 1, counts(1));
    let pod = json!({"containers": [{"name": "server", "resources": {"limits": {"nvidia.com/gpu": "1"}}}]});
    gpu.spec.template.spec = Some(serde_json::from_value(pod).unwrap());
    later.insert("gpu".to_owned(), Arc::new(gpu));
    let problems = [Problem::new("spec.x", "is wrong")];
    let status = refused(&object, &problems, None, Some(&later), None, at(20));
    assert_eq!(
        (status.replicas, status.ready_replicas, status.desired_replicas),
        (Some(4), Some(4), Some(5))
    );
    assert_eq!(
        (status.cpu.as_deref(), status.gpu.as_deref()),
        (Some("3/4"), Some("1/1"))
    );
    let cpu = &status.pools[0];
    assert_eq!((cpu.name.as_str(), cpu.desired), ("cpu", 4));
    assert!(cpu.decision.is_some(), "why it had as many stays");
}

#[test]
fn a_failure_before_any_observation_is_unknown_not_false() {
    for failure in [Failure::Brief, Failure::Lasting, Failure::Permanent] {
        let object = inference_service(json!({}));
        let status = failed(&object, failure, Reason::ApiError, "apply Deployment: refused", at(1)).unwrap();
        assert_eq!(condition(&status, "Ready").0, "Unknown");
        assert_eq!(condition(&status, "Ready").1, "ApiError");
    }
}

#[test]
fn a_serving_service_stays_ready_through_a_hiccup_of_the_api_server() {
    let complete = json!({"observedGeneration": 4, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2});
    let mut object = inference_service(json!({}));
    object.status = Some(summarise(
        &object,
        &validated(json!({})),
        &with_deployment(4, 2, complete),
        at(10),
    ));
    let ready = |failure, reason| {
        let status = failed(&object, failure, reason, "apply Deployment: 503", at(20));
        status.map(|status| condition(&status, "Ready").0)
    };
    assert_eq!(ready(Failure::Brief, Reason::ApiError), None);
    assert_eq!(ready(Failure::Lasting, Reason::ApiError).as_deref(), Some("Unknown"));
    assert_eq!(ready(Failure::Permanent, Reason::ApiError).as_deref(), Some("False"));
    assert_eq!(ready(Failure::Permanent, Reason::NotOurs).as_deref(), Some("False"));
}
