//! Every rule of the schema, once broken and once kept.
use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tidewright_api::rules::{RULES, TARGET_RULE};

use super::{cluster, smallest, try_create};

/// A rule that no object can break today, and why.
const UNREACHABLE: [(&str, &str); 1] = [(
    "modelFormat is immutable: create a new InferenceService for another format",
    "there is one format",
)];

struct Case {
    /// Part of the message, as the user reads it.
    message: &'static str,
    /// JSON pointer to what is set.
    at: &'static str,
    refused: Value,
    accepted: Value,
}

fn case(message: &'static str, at: &'static str, refused: Value, accepted: Value) -> Case {
    Case {
        message,
        at,
        refused,
        accepted,
    }
}

fn cases() -> Vec<Case> {
    let metrics = "/spec/predictor/autoScaling";
    let of = |metric: Value| json!({"metrics": [metric]});
    let two = |a: &Value, b: &Value| json!({"metrics": [a, b]});
    let target = json!({"type": "AverageValue", "averageValue": "5"});
    let percent = json!({"type": "Utilization", "averageUtilization": 70});
    let cpu = json!({"type": "Resource", "resource": {"name": "cpu", "target": percent}});
    let memory = json!({"type": "Resource", "resource": {"name": "memory", "target": percent}});
    let rate = json!({"type": "RequestRate", "target": target});
    let queue = json!({"type": "QueueDepth", "target": target});
    let external = |name: &str| json!({"type": "External", "external": {"metric": {"name": name, "query": "sum(up)"}, "target": target}});
    let redis = "/spec/cache/redis";
    let slo = json!({"latency": "200ms", "serviceTime": "20ms"});
    vec![
        case(
            "metadata.name must have at most 40 characters",
            "/metadata/name",
            json!("a".repeat(41)),
            json!("a".repeat(40)),
        ),
        case(
            "metadata.name must be a DNS label that starts with a letter",
            "/metadata/name",
            json!("1digits"),
            json!("digits-1"),
        ),
        case(
            "metadata.name must be a DNS label that starts with a letter",
            "/metadata/name",
            json!("digits.v1"),
            json!("digits-v1"),
        ),
        case(
            "minReplicas must not be greater than maxReplicas",
            "/spec/predictor/minReplicas",
            json!(11),
            json!(10),
        ),
        case(
            "batcher.maxLatency (milliseconds) must be less than timeout (seconds)",
            "/spec/predictor/batcher",
            json!({"maxLatency": 60_000}),
            json!({"maxLatency": 59_999}),
        ),
        case(
            "storageUri must start with pvc:// (pvc://CLAIM/PATH) or file:///",
            "/spec/predictor/model/storageUri",
            json!("s3://bucket/model.onnx"),
            json!("pvc://models/model.onnx"),
        ),
        case(
            "storageUri must name a file by plain path segments",
            "/spec/predictor/model/storageUri",
            json!("pvc://models/../../etc/passwd"),
            json!("pvc://models/a/b_c-1.2.onnx"),
        ),
        case(
            "pool names must be unique",
            "/spec/pools",
            json!([{"name": "a"}, {"name": "a"}]),
            json!([{"name": "a"}, {"name": "b"}]),
        ),
        case(
            "in every pool minReplicas must not be greater than maxReplicas",
            "/spec/pools",
            json!([{"name": "a", "minReplicas": 11}]),
            json!([{"name": "a", "minReplicas": 11, "maxReplicas": 11}]),
        ),
        case(
            "slo belongs to the modes Advise and Direct",
            "/spec/predictor/autoScaling",
            json!({"slo": slo}),
            json!({"mode": "Direct", "slo": slo}),
        ),
        case(
            "name either paused or pausedUntil",
            "/spec/predictor/autoScaling",
            json!({"paused": true, "pausedUntil": "2026-01-31T14:00:00Z"}),
            json!({"paused": false, "pausedUntil": "2026-01-31T15:00:00+01:00"}),
        ),
        case(
            "behavior belongs to the HorizontalPodAutoscalers of the modes Hpa and Advise",
            "/spec/predictor/autoScaling",
            json!({"mode": "Direct", "behavior": {"scaleDown": {"selectPolicy": "Min"}}}),
            json!({"mode": "Advise", "behavior": {"scaleDown": {"selectPolicy": "Min"}}}),
        ),
        case(
            "with target.type AverageValue",
            "/spec/predictor/autoScaling",
            json!({"mode": "Direct", "metrics": [cpu, {"type": "QueueDepth", "target": {"type": "Value", "value": "5"}}]}),
            json!({"mode": "Direct", "metrics": [cpu, memory, queue, external("a")]}),
        ),
        case(
            "a metric of type Resource needs `resource`",
            metrics,
            of(json!({"type": "Resource"})),
            of(cpu.clone()),
        ),
        case(
            "`resource` belongs to type Resource only",
            metrics,
            of(json!({"type": "RequestRate", "target": target, "resource": cpu["resource"]})),
            of(rate.clone()),
        ),
        case(
            "a metric of type External needs `external`",
            metrics,
            of(json!({"type": "External"})),
            of(external("a")),
        ),
        case(
            "`external` belongs to type External only",
            metrics,
            of(json!({"type": "QueueDepth", "target": target, "external": external("a")["external"]})),
            of(queue.clone()),
        ),
        case(
            "`target` belongs to the types RequestRate, QueueDepth and Concurrency, which need it",
            metrics,
            of(json!({"type": "QueueDepth"})),
            of(queue.clone()),
        ),
        case(
            "`target` belongs to the types RequestRate, QueueDepth and Concurrency, which need it",
            metrics,
            of(json!({"type": "Resource", "resource": cpu["resource"], "target": target})),
            of(memory.clone()),
        ),
        case(
            "RequestRate, QueueDepth and Concurrency have no utilisation",
            metrics,
            of(json!({"type": "RequestRate", "target": percent})),
            of(json!({"type": "RequestRate", "target": {"type": "Value", "value": "5"}})),
        ),
        case(
            "target.type of a resource must be Utilization or AverageValue",
            metrics,
            of(json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Value", "value": "5"}}})),
            of(json!({"type": "Resource", "resource": {"name": "cpu", "target": target}})),
        ),
        case(
            "a metric of type External needs external.metric.query",
            metrics,
            of(json!({"type": "External", "external": {"metric": {"name": "a"}, "target": target}})),
            of(external("a")),
        ),
        case(
            "an External metric has no utilisation",
            metrics,
            of(json!({"type": "External", "external": {"metric": {"query": "sum(up)"}, "target": percent}})),
            of(
                json!({"type": "External", "external": {"metric": {"query": "sum(up)"}, "target": {"type": "Value", "value": 5}}}),
            ),
        ),
        case(
            "names of External metrics must be unique",
            metrics,
            two(&external("a"), &external("a")),
            two(&external("a"), &external("b")),
        ),
        case(
            "each signal may be named once",
            metrics,
            two(&cpu, &cpu),
            two(&cpu, &memory),
        ),
        case(
            "each signal may be named once",
            metrics,
            two(&rate, &rate),
            two(&rate, &queue),
        ),
        case(
            "`url` belongs to mode External, which needs it",
            redis,
            json!({"mode": "External"}),
            json!({"mode": "External", "url": "redis://redis:6379/0"}),
        ),
        case(
            "`url` belongs to mode External, which needs it",
            redis,
            json!({"mode": "Sidecar", "url": "redis://redis:6379"}),
            json!({"mode": "Sidecar"}),
        ),
        case(
            "labels must not use the keys that the operator sets itself",
            "/spec/predictor/labels",
            json!({"serving.tidewright.dev/pool": "x"}),
            json!({"team": "x"}),
        ),
        case(
            "labels must not use the keys that the operator sets itself",
            "/spec/predictor/labels",
            json!({"component": "x"}),
            json!({"example.com/component": "x"}),
        ),
        case(
            "`maxMemory` belongs to mode Sidecar",
            redis,
            json!({"mode": "External", "url": "redis://redis:6379", "maxMemory": "64Mi"}),
            json!({"mode": "Sidecar", "maxMemory": "64Mi"}),
        ),
        case(
            "labels must have keys as Kubernetes writes them",
            "/spec/predictor/labels",
            json!({"two words": "x"}),
            json!({"example.com/two-words": "x"}),
        ),
        case(
            "annotations must have keys as Kubernetes writes them",
            "/spec/predictor/annotations",
            json!({"example.com/": "x"}),
            json!({"example.com/x": "two words"}),
        ),
        case(
            "annotations must not use the keys that the operator sets itself",
            "/spec/predictor/annotations",
            json!({"prometheus.io/port": "1"}),
            json!({"example.com/port": "1"}),
        ),
        case(
            "target needs exactly the number that its type names",
            metrics,
            of(json!({"type": "RequestRate", "target": {"type": "AverageValue", "value": "5"}})),
            of(rate.clone()),
        ),
        case(
            "target needs exactly the number that its type names",
            metrics,
            of(
                json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageValue": "5"}}}),
            ),
            of(cpu.clone()),
        ),
        case(
            "target needs exactly the number that its type names",
            metrics,
            of(
                json!({"type": "External", "external": {"metric": {"query": "sum(up)"}, "target": {"type": "Value", "value": "5", "averageValue": "5"}}}),
            ),
            of(external("a")),
        ),
    ]
}

pub(super) fn with(at: &str, value: &Value) -> Value {
    let mut object = smallest("digits");
    let mut place = &mut object;
    for step in at.split('/').skip(1) {
        if place.is_null() {
            *place = json!({});
        }
        place = &mut place[step];
    }
    *place = value.clone();
    object
}

#[tokio::test]
async fn every_rule_refuses_with_its_message_and_accepts_its_counterpart() -> Result<()> {
    let client = cluster().await?.client().await?;
    let mut wrong = Vec::new();
    for case in cases() {
        match try_create(&client, &with(case.at, &case.refused)).await {
            Err(message) if message.contains(case.message) => {}
            other => wrong.push(format!("{}: {} gave {other:?}", case.message, case.refused)),
        }
        if let Err(message) = try_create(&client, &with(case.at, &case.accepted)).await {
            wrong.push(format!("{}: {} is refused: {message}", case.message, case.accepted));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn every_rule_has_a_case() {
    let cases = cases();
    let all: BTreeSet<&str> = RULES.iter().chain([&TARGET_RULE]).map(|rule| rule.message).collect();
    let without: Vec<&&str> = all
        .iter()
        .filter(|message| !cases.iter().any(|case| message.contains(case.message)))
        .filter(|message| !UNREACHABLE.iter().any(|(unreachable, _)| unreachable == *message))
        .collect();
    assert!(without.is_empty(), "no case for {without:?}");
}

#[tokio::test]
async fn bounds_and_formats_are_enforced_by_the_schema() -> Result<()> {
    let client = cluster().await?.client().await?;
    let cases = [
        ("/spec/predictor/minReplicas", json!(0), "greater than or equal to 1"),
        ("/spec/predictor/maxReplicas", json!(1001), "less than or equal to 1000"),
        ("/spec/predictor/replicas", json!(-1), "greater than or equal to 0"),
        ("/spec/predictor/timeout", json!(0), "greater than or equal to 1"),
        (
            "/spec/predictor/batcher",
            json!({"maxBatchSize": 0}),
            "greater than or equal to 1",
        ),
        ("/spec/predictor/model/digest", json!("sha256:abc"), "should match"),
        (
            "/spec/predictor/model/modelFormat/name",
            json!("sklearn"),
            "supported values: \"onnx\"",
        ),
        ("/spec/predictor/model/env", json!([{"name": "a b"}]), "should match"),
        (
            "/spec/predictor/model/resources",
            json!({"requests": {"cpu": "lots"}}),
            "should match",
        ),
        (
            "/spec/predictor/model/resources",
            json!({"requests": {"cpu": "-1"}}),
            "should match",
        ),
        (
            "/spec/predictor/autoScaling",
            json!({"mode": "Knative"}),
            "supported values: \"Hpa\"",
        ),
        (
            "/spec/predictor/autoScaling",
            json!({"mode": "Direct", "slo": {"latency": "fast", "serviceTime": "1ms"}}),
            "should match",
        ),
        (
            "/spec/predictor/autoScaling",
            json!({"mode": "Direct", "slo": {"latency": "1s", "serviceTime": "1ms", "percentile": 100}}),
            "less than or equal to 99",
        ),
        ("/spec/pools", json!([{"name": "Gpu"}]), "should match"),
        ("/spec/pools", json!([{"name": "averylongname"}]), "Too long"),
        (
            "/spec/cache/memory",
            json!({"maxBytes": "1Mi", "ttl": "0s"}),
            "should match",
        ),
        (
            "/spec/cache/redis",
            json!({"mode": "External", "url": "http://redis"}),
            "should match",
        ),
        ("/spec/cache/redis", json!({"mode": "Shared"}), "supported values"),
        (
            "/spec/cache/redis",
            json!({"mode": "External", "url": "redis://a:65536"}),
            "should match",
        ),
    ];
    let mut wrong = Vec::new();
    for (at, value, part) in cases {
        match try_create(&client, &with(at, &value)).await {
            Err(message) if message.contains(part) => {}
            other => wrong.push(format!("{at} {value}: {other:?}")),
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}
