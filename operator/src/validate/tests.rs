//! Specs and the problems in them.

use proptest::prelude::*;
use serde_json::{Value, json};
use tidewright_api::InferenceService;

use super::validate;
use crate::domain::validated::{Location, ScalingMetric};
use crate::test_support::{inference_service, prometheus, validated};

/// The paths of the problems of a spec.
fn paths(changes: Value) -> Vec<String> {
    match validate(&inference_service(changes), &prometheus()) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.into_iter().map(|p| p.path).collect(),
    }
}

#[test]
fn defaults_are_three_signals_and_one_cpu_pool() {
    let service = validated(json!({}));
    let words: Vec<_> = service.metrics.iter().map(ScalingMetric::word).collect();
    assert_eq!(words, ["CPU", "RequestRate", "QueueDepth"]);
    assert_eq!(service.pools.len(), 1);
    assert_eq!(service.pools[0].name, "cpu");
    assert_eq!(service.pools[0].resources.requests["cpu"].0, "500m");
    assert_eq!(service.pools[0].resources.limits["memory"].0, "1Gi");
}

#[test]
fn every_problem_is_named_with_its_path() {
    let found = paths(json!({"spec": {
        "predictor": {
            "minReplicas": 5, "maxReplicas": 2,
            "model": {"storageUri": "s3://bucket/model.onnx", "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}},
            "autoScaling": {"metrics": [
                {"type": "External", "external": {"metric": {"query": "bad"}, "target": {"type": "Value", "value": "1"}}},
                {"type": "External", "external": {"metric": {"query": "ok", "serverAddress": "http://x"}, "target": {"type": "Value", "value": "1"}}},
                {"type": "RequestRate", "target": {"type": "AverageValue", "averageValue": "0"}}
            ]}
        },
        "cache": {"memory": {"maxBytes": "900Mi", "ttl": "5m"}, "redis": {"mode": "External", "ttl": "5m"}}
    }}));
    assert_eq!(
        found,
        [
            "spec.predictor.model.storageUri",
            "spec.predictor.minReplicas",
            "spec.predictor.model.resources.requests[cpu]",
            "spec.predictor.autoScaling.metrics[0].external.metric.query",
            "spec.predictor.autoScaling.metrics[1].external.metric.serverAddress",
            "spec.predictor.autoScaling.metrics[2].target.averageValue",
            "spec.cache.memory.maxBytes",
            "spec.cache.redis.url",
        ]
    );
}

#[test]
fn a_promise_is_one_that_can_be_kept() {
    let slo = |latency: &str, service_time: &str| {
        paths(
            json!({"spec": {"predictor": {"autoScaling": {"mode": "Direct", "slo": {"latency": latency, "percentile": 95, "serviceTime": service_time}}}}}),
        )
    };
    let nothing: [&str; 0] = [];
    assert_eq!(slo("200ms", "20ms"), nothing);
    assert_eq!(slo("1s", "999ms"), nothing);
    for latency in ["20ms", "fast", "1s "] {
        assert_eq!(slo(latency, "20ms"), ["spec.predictor.autoScaling.slo.latency"]);
    }
    assert_eq!(slo("1s", "0ms"), ["spec.predictor.autoScaling.slo.serviceTime"]);
}

#[test]
fn a_pause_ends_at_a_time() {
    let paused = |until: &str| paths(json!({"spec": {"predictor": {"autoScaling": {"pausedUntil": until}}}}));
    for time in ["2026-01-31T14:00:00Z", "2026-01-31T15:00:00.5+01:00"] {
        assert_eq!(paused(time), [""; 0], "{time}");
    }
    for wrong in ["tomorrow", "2026-01-31", "2026-13-31T14:00:00Z", "2026-01-31T14:00:00"] {
        assert_eq!(paused(wrong), ["spec.predictor.autoScaling.pausedUntil"], "{wrong}");
    }
}

#[test]
fn mode_direct_has_cpu_only_where_it_is_named() {
    let words = |auto_scaling: Value| {
        let service = validated(json!({"spec": {"predictor": {"autoScaling": auto_scaling}}}));
        let words: Vec<_> = service.metrics.iter().map(ScalingMetric::word).collect();
        words.join(" ")
    };
    assert_eq!(words(json!({"mode": "Direct"})), "RequestRate QueueDepth");
    let cpu = json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}]);
    assert_eq!(words(json!({"mode": "Direct", "metrics": cpu})), "CPU");
}

#[test]
fn annotations_of_kserve_are_done_or_refused_by_name() {
    let with = |name: &str, value: &str| {
        paths(json!({"metadata": {"annotations": {format!("serving.kserve.io/{name}"): value}}}))
    };
    for (name, value) in [
        ("deploymentMode", "Standard"),
        ("deploymentMode", "RawDeployment"),
        ("autoscalerClass", "hpa"),
        ("stop", "false"),
        ("enable-prometheus-scraping", "true"),
    ] {
        assert_eq!(with(name, value), Vec::<String>::new(), "{name}: {value}");
    }
    for (name, value) in [
        ("deploymentMode", "Serverless"),
        ("deploymentMode", "Knative"),
        ("autoscalerClass", "none"),
        ("autoscalerClass", "external"),
        ("autoscalerClass", "keda"),
        ("stop", "true"),
        ("metric", "memory"),
        ("targetUtilizationPercentage", "80"),
    ] {
        let path = format!("metadata.annotations[serving.kserve.io/{name}]");
        assert_eq!(with(name, value), [path], "{name}: {value}");
    }
}

#[test]
fn no_variable_decides_which_code_is_loaded() {
    let set = |name: &str| paths(json!({"spec": {"predictor": {"model": {"env": [{"name": name, "value": "x"}]}}}}));
    for name in [
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "LD_AUDIT",
        "ORT_DYLIB_PATH",
        "GLIBC_TUNABLES",
    ] {
        assert_eq!(set(name), ["spec.predictor.model.env"], "{name}");
    }
    assert!(set("OMP_NUM_THREADS").is_empty());
}

#[test]
fn redis_beside_a_server_has_a_believable_size() {
    let sized =
        |most: &str| paths(json!({"spec": {"cache": {"redis": {"mode": "Sidecar", "ttl": "5m", "maxMemory": most}}}}));
    assert!(sized("1Ti").is_empty());
    for most in ["1025Gi", "16E", "18446744073709551615"] {
        assert_eq!(sized(most), ["spec.cache.redis.maxMemory"], "{most}");
    }
}

#[test]
fn a_pool_without_a_gpu_cannot_ask_for_cuda_alone() {
    assert_eq!(
        paths(json!({"spec": {"pools": [{"name": "a", "executionProviders": ["cuda"]}]}})),
        ["spec.pools[0].executionProviders"]
    );
    assert!(paths(json!({"spec": {"pools": [{"name": "a", "executionProviders": ["cuda", "cpu"]}]}})).is_empty());
}

#[test]
fn addresses_of_models_are_plain() {
    let location = |uri: &str| {
        validate(
            &inference_service(json!({"spec": {"predictor": {"model": {"storageUri": uri}}}})),
            &prometheus(),
        )
        .map(|s| s.model.location)
    };
    assert_eq!(
        location("pvc://models/a/b.onnx").unwrap(),
        Location::Claim {
            claim: "models".into(),
            path: "a/b.onnx".into()
        }
    );
    assert_eq!(
        location("file:///models/b.onnx").unwrap(),
        Location::Image {
            path: "/models/b.onnx".into()
        }
    );
    for bad in [
        "pvc://models",
        "pvc:///x",
        "pvc://models/../x",
        "pvc://models//x",
        "pvc://models/.x",
        "pvc://models/a;rm",
        "pvc://models/$(x)",
        "pvc://models/a%2e%2e",
        "file://models/x",
        "file:///../etc/passwd",
        "https://x/y",
        "models/x",
        "pvc://m/a\nb",
        "pvc://m/x/",
    ] {
        assert!(location(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn a_fixed_total_is_shared_minimum_first() {
    let share = |total: i32| -> Vec<i32> {
        let service = validated(json!({"spec": {
            "predictor": {"replicas": total},
            "pools": [{"name": "gpu", "minReplicas": 1, "maxReplicas": 2, "accelerator": {"resource": "nvidia.com/gpu", "count": 1}},
                      {"name": "cpu", "minReplicas": 2, "maxReplicas": 4}]
        }}));
        service.pools.iter().map(|p| p.fixed.unwrap()).collect()
    };
    assert_eq!(share(1), [1, 0]);
    assert_eq!(share(3), [1, 2]);
    assert_eq!(share(4), [2, 2]);
    assert_eq!(share(6), [2, 4]);
    assert_eq!(share(9), [2, 7]);
}

proptest! {
    #[test]
    fn a_fixed_total_is_shared_whole(total in 1..500_i32, bounds in proptest::collection::vec((1..20_i32, 0..20_i32), 1..5)) {
        let pools: Vec<Value> = bounds.iter().enumerate()
            .map(|(i, (min, more))| json!({"name": format!("p{i}"), "minReplicas": min, "maxReplicas": min + more})).collect();
        let service = validated(json!({"spec": {"predictor": {"replicas": total}, "pools": pools}}));
        prop_assert_eq!(service.pools.iter().map(|p| p.fixed.unwrap()).sum::<i32>(), total);
        prop_assert!(service.pools.iter().all(|p| p.fixed.unwrap() >= 0));
    }

    #[test]
    fn no_address_leaves_its_folder(uri in "(pvc://m|file://)(/[a-zA-Z0-9._%;$-]{0,6}){0,4}") {
        let object: InferenceService = inference_service(json!({"spec": {"predictor": {"model": {"storageUri": uri}}}}));
        if let Ok(service) = validate(&object, &prometheus()) {
            let (Location::Claim { path, .. } | Location::Image { path }) = service.model.location;
            prop_assert!(path.trim_start_matches('/').split('/').all(|s| !s.is_empty() && !s.starts_with('.')));
        }
    }
}

#[test]
fn two_signals_of_one_name_are_refused_also_where_a_position_is_the_name() {
    let external = |name: Option<&str>| json!({"type": "External", "external": {"metric": {"name": name, "query": "sum(a)"}, "target": {"type": "Value", "value": "7"}}});
    let of = |metrics: serde_json::Value| paths(json!({"spec": {"predictor": {"autoScaling": {"metrics": metrics}}}}));
    assert_eq!(
        of(json!([external(Some("1")), external(None)])),
        ["spec.predictor.autoScaling.metrics[1]"]
    );
    assert!(of(json!([external(Some("0")), external(Some("1")), external(None)])).is_empty());
}
