//! What is built, as a whole: one golden file per interesting spec. `UPDATE=1` rewrites them.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{build, reads_signals};
use crate::domain::objects::for_each_kind;
use crate::test_support::{pod_settings, validated};

fn check(name: &str, changes: Value) {
    let objects = build(&validated(changes), &pod_settings(), true);
    let mut text = String::new();
    macro_rules! every_kind {
        ($(($field:ident, $kind:ty)),+) => {
            $(for object in &objects.$field {
                text.push_str("---\n");
                text.push_str(&serde_saphyr::to_string(object).unwrap());
            })+
        };
    }
    for_each_kind!(every_kind);
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("src/desired/goldens/{name}.yaml"));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(text == golden, "{} differs from what is built:\n{text}", path.display());
}

#[test]
fn minimal() {
    check("minimal", json!({}));
}

#[test]
fn gpu_and_cpu_pools_with_all_signals() {
    check(
        "gpu_and_cpu",
        json!({"spec": {
            "predictor": {
                "model": {"digest": format!("sha256:{}", "a".repeat(64)), "env": [{"name": "OMP_NUM_THREADS", "value": "1"}],
                          "resources": {"requests": {"cpu": "1"}, "limits": {"memory": "2Gi"}}},
                "batcher": {"maxBatchSize": 16, "maxLatency": 5}, "containerConcurrency": 64, "timeout": 20,
                "labels": {"team": "vision"}, "annotations": {"note": "x"}, "serviceAccountName": "serving",
                "autoScaling": {
                    "metrics": [
                        {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "900Mi"}}},
                        {"type": "RequestRate", "target": {"type": "AverageValue", "averageValue": "50"}},
                        {"type": "QueueDepth", "target": {"type": "Value", "value": "30"}},
                        {"type": "External", "external": {"metric": {"query": "sum(jobs)"}, "target": {"type": "Value", "value": "7"}}},
                        {"type": "External", "external": {"metric": {"name": "orders", "query": "sum(orders)"}, "target": {"type": "AverageValue", "averageValue": "7"}}}
                    ],
                    "behavior": {"scaleDown": {"stabilizationWindowSeconds": 30, "tolerance": "0"}}
                }
            },
            "pools": [
                {"name": "gpu", "minReplicas": 1, "maxReplicas": 2, "accelerator": {"resource": "nvidia.com/gpu", "count": 1},
                 "executionProviders": ["tensorrt", "cuda"], "nodeSelector": {"gpu": "h200"},
                 "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}]},
                {"name": "cpu", "maxReplicas": 20,
                 "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                     {"weight": 1, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname"}}]}}}
            ]
        }}),
    );
}

#[test]
fn redis_beside_the_server() {
    check(
        "redis_sidecar",
        json!({"spec": {"cache": {"memory": {"maxBytes": "64Mi", "ttl": "5m"}, "redis": {"mode": "Sidecar", "ttl": "1h", "maxMemory": "128Mi"}}}}),
    );
}

#[test]
fn redis_elsewhere_and_a_model_in_the_image() {
    check(
        "redis_external",
        json!({"spec": {"predictor": {"model": {"storageUri": "file:///models/digits.onnx"}},
                        "cache": {"redis": {"mode": "External", "url": "redis://redis.shared:6380/1", "ttl": "90s"}}}}),
    );
}

#[test]
fn a_fixed_number_has_no_autoscaler() {
    check("fixed", json!({"spec": {"predictor": {"replicas": 3}}}));
}

#[test]
fn replicas_are_told_what_is_late_only_where_they_shall_refuse_it() {
    let objective = |slo: &str, overload: Value| {
        let slo = json!({"latency": slo, "serviceTime": "20ms", "overload": overload});
        let service = json!({"spec": {"predictor": {"autoScaling": {"mode": "Direct", "slo": slo}}}});
        let objects = build(&validated(service), &pod_settings(), true);
        let text = &objects.config_maps[0].data.as_ref().unwrap()["server.json"];
        let config: Value = serde_json::from_str(text).unwrap();
        config["limits"]["latencyObjectiveMillis"].as_u64()
    };
    assert_eq!(objective("200ms", json!("Refuse")), Some(200));
    assert_eq!(objective("2s", json!("Refuse")), Some(2_000));
    assert_eq!(
        objective("99999s", json!("Refuse")),
        Some(3_600_000),
        "the most that a server takes"
    );
    assert_eq!(objective("200ms", json!("Queue")), None);
}

#[test]
fn a_batch_may_have_less_time_than_the_predictor_and_not_more() {
    let seconds = |batcher: Value| {
        let service = json!({"spec": {"predictor": {"timeout": 20, "batcher": batcher}}});
        let objects = build(&validated(service), &pod_settings(), true);
        let text = &objects.config_maps[0].data.as_ref().unwrap()["server.json"];
        let config: Value = serde_json::from_str(text).unwrap();
        config["limits"]["timeoutSeconds"].as_u64().unwrap()
    };
    assert_eq!(seconds(json!({"maxBatchSize": 8})), 20);
    assert_eq!(seconds(json!({"timeout": 5})), 5);
    assert_eq!(seconds(json!({"timeout": 60})), 20);
}

#[test]
fn autoscaled_deployments_never_carry_replicas() {
    for replicas in [0, 1, 7] {
        let objects = build(
            &validated(json!({"spec": {"predictor": {"replicas": replicas}}})),
            &pod_settings(),
            true,
        );
        assert_eq!(objects.deployments[0].spec.replicas, (replicas > 0).then_some(replicas));
        assert_eq!(objects.autoscalers.is_empty(), replicas > 0);
    }
}

#[test]
fn a_schedule_is_the_autoscalers_minimum_while_it_lasts() {
    let fewest = |pool: &str, time: &str| {
        let service = validated(
            json!({"spec": {"pools": [{"name": "a"}, {"name": "b", "minReplicas": 2}], "predictor": {"autoScaling":
            {"schedules": [{"name": "day", "schedule": "0 8 * * *", "duration": "2h", "minReplicas": 4, "pool": pool}]}}}}),
        );
        let objects = build(&service.at(time.parse().unwrap()), &pod_settings(), true);
        let autoscalers = objects.autoscalers.iter();
        autoscalers.map(|a| a.spec.min_replicas.unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(fewest("b", "2026-02-02T07:59:59Z"), [1, 2]);
    assert_eq!(fewest("b", "2026-02-02T08:00:00Z"), [1, 4]);
    assert_eq!(fewest("a", "2026-02-02T09:59:59Z"), [4, 2]);
    assert_eq!(fewest("a", "2026-02-02T10:00:00Z"), [1, 2]);
}

#[test]
fn default_signals_that_nobody_serves_are_left_out_and_named_ones_are_kept() {
    let metrics = |changes: Value, are_served: bool| -> Vec<String> {
        let objects = build(&validated(changes), &pod_settings(), are_served);
        let all = objects.autoscalers[0].spec.metrics.clone().unwrap();
        assert_eq!(
            reads_signals(&objects.autoscalers[0]),
            all.iter().any(|m| m.type_ == "Object")
        );
        all.into_iter().map(|m| m.type_).collect()
    };
    let named = json!({"spec": {"predictor": {"autoScaling": {"metrics": [
        {"type": "RequestRate", "target": {"type": "AverageValue", "averageValue": "50"}}]}}}});
    assert_eq!(metrics(json!({}), true), ["ContainerResource", "Object", "Object"]);
    assert_eq!(metrics(json!({}), false), ["ContainerResource"]);
    assert_eq!(metrics(named.clone(), true), ["Object"]);
    assert_eq!(
        metrics(named, false),
        ["Object"],
        "what was asked for is not dropped in silence"
    );
}

#[test]
fn nothing_rendered_runs_a_shell_or_mounts_a_token() {
    let objects = build(
        &validated(json!({"spec": {"cache": {"redis": {"mode": "Sidecar", "ttl": "5m", "maxMemory": "64Mi"}}}})),
        &pod_settings(),
        true,
    );
    let pod = objects.deployments[0].spec.template.spec.clone().unwrap();
    assert_eq!(pod.automount_service_account_token, Some(false));
    for container in pod.containers.iter().chain(pod.init_containers.iter().flatten()) {
        let words: Vec<_> = container
            .command
            .iter()
            .flatten()
            .chain(container.args.iter().flatten())
            .collect();
        assert!(
            !words
                .iter()
                .any(|w| matches!(w.as_str(), "sh" | "-c" | "bash" | "/bin/sh")),
            "{words:?}"
        );
        let security = container.security_context.clone().unwrap();
        assert_eq!(
            (security.read_only_root_filesystem, security.allow_privilege_escalation),
            (Some(true), Some(false))
        );
        assert!(
            container
                .resources
                .clone()
                .unwrap()
                .limits
                .unwrap()
                .contains_key("memory")
        );
    }
}
