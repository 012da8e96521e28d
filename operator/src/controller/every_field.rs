//! No field of the schema does nothing: every leaf, set to two values, gives two outcomes. What the server makes of its configuration is shown by the
//! server's own tests.

use std::time::Duration;

use serde_json::{Value, json};
use tidewright_contract::config::ServeConfig;

use super::subscribe;
use crate::autoscaler::{self, Times};
use crate::desired::build;
use crate::domain::observed::Observed;
use crate::status;
use crate::test_support::{inference_service, pod_settings, prometheus};
use crate::validate::validate;

/// Leaves that cannot have two accepted values, and why.
const ONE_VALUE: [(&str, &str); 5] = [
    ("predictor.model.modelFormat.name", "there is one format"),
    (
        "predictor.autoScaling.metrics[].external.metric.backend",
        "there is one backend",
    ),
    (
        "predictor.autoScaling.metrics[].external.target.averageUtilization",
        "a rule refuses a utilization of anything but a resource",
    ),
    (
        "predictor.autoScaling.metrics[].target.averageUtilization",
        "a rule refuses a utilization of anything but a resource",
    ),
    (
        "predictor.autoScaling.metrics[].resource.target.value",
        "a rule refuses a total of a resource",
    ),
];

/// What else has to be in the spec for a leaf to mean something: by the beginning of its path, the last that fits.
fn surroundings(path: &str) -> Value {
    let rate =
        |target: Value| json!({"predictor": {"autoScaling": {"metrics": [{"type": "RequestRate", "target": target}]}}});
    let resource = |target: Value| json!({"predictor": {"autoScaling": {"metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]}}});
    let external = |target: Value| {
        json!({"predictor": {"autoScaling": {"metrics": [
            {"type": "External", "external": {"metric": {"query": "sum(a)"}, "target": target}}]}}})
    };
    let average = json!({"type": "AverageValue", "averageValue": "5", "value": "5", "averageUtilization": 50});
    let total = json!({"type": "Value", "averageValue": "5", "value": "5"});
    let share = json!({"type": "Utilization", "averageUtilization": 50});
    let table = [
        ("", json!({})),
        (
            "predictor.autoScaling.slo",
            json!({"predictor": {"autoScaling": {"mode": "Direct", "slo": {"latency": "9s", "serviceTime": "20ms", "percentile": 90}}}}),
        ),
        (
            "predictor.autoScaling.schedules",
            json!({"predictor": {"autoScaling": {"schedules": [
                {"name": "day", "schedule": "0 10 * * *", "timeZone": "UTC", "duration": "8h", "minReplicas": 3}]}}}),
        ),
        (
            "predictor.autoScaling.schedules[].pool",
            json!({"pools": [{"name": "a"}, {"name": "b"}], "predictor": {"autoScaling": {"schedules": [
                {"name": "day", "schedule": "0 10 * * *", "timeZone": "UTC", "duration": "8h", "minReplicas": 3}]}}}),
        ),
        (
            "predictor.autoScaling.overrideTTL",
            json!({"predictor": {"replicas": 3}}),
        ),
        ("predictor.replicas", json!({"pools": [{"name": "a"}]})),
        ("predictor.autoScaling.metrics[].type", rate(average.clone())),
        ("predictor.autoScaling.metrics[].target", rate(average.clone())),
        ("predictor.autoScaling.metrics[].target.value", rate(total.clone())),
        ("predictor.autoScaling.metrics[].resource", resource(average.clone())),
        (
            "predictor.autoScaling.metrics[].resource.target.averageUtilization",
            resource(share),
        ),
        ("predictor.autoScaling.metrics[].external", external(average)),
        ("predictor.autoScaling.metrics[].external.target.value", external(total)),
        (
            "predictor.model.env[]",
            json!({"predictor": {"model": {"env": [{"name": "A", "value": "1"}]}}}),
        ),
        ("pools[]", json!({"pools": [{"name": "a"}]})),
        (
            "pools[].accelerator",
            json!({"pools": [{"name": "a", "executionProviders": ["cuda"], "accelerator": {"resource": "nvidia.com/gpu", "count": 1}}]}),
        ),
        (
            "pools[].executionProviders[]",
            json!({"pools": [{"name": "a", "accelerator": {"resource": "nvidia.com/gpu", "count": 1}}]}),
        ),
        ("cache.memory", json!({"cache": {"memory": {"maxBytes": "1Mi"}}})),
        ("cache.redis", json!({"cache": {"redis": {"mode": "Sidecar"}}})),
        ("cache.redis.mode", json!({"cache": {"redis": {"url": "redis://a:1"}}})),
        ("cache.redis.url", json!({"cache": {"redis": {"mode": "External"}}})),
    ];
    let fitting = table.into_iter().rfind(|(beginning, _)| path.starts_with(beginning));
    fitting.map(|(_, spec)| spec).unwrap_or_default()
}

/// Two values of a leaf that the schema allows.
fn two_values(path: &str, schema: &Value) -> [Value; 2] {
    match path {
        "predictor.autoScaling.metrics[].type" => return [json!("RequestRate"), json!("QueueDepth")],
        "predictor.autoScaling.metrics[].resource.target.type" => return [json!("Utilization"), json!("AverageValue")],
        _ if path.ends_with("target.type") => return [json!("AverageValue"), json!("Value")],
        _ => {}
    }
    if let Some([first, ..]) = schema["enum"].as_array().map(Vec::as_slice) {
        let last = schema["enum"].as_array().and_then(|all| all.last());
        return [first.clone(), last.unwrap_or(first).clone()];
    }
    if let Some(of) = schema.get("additionalProperties") {
        // Requests and limits know amounts of what Kubernetes knows.
        return match of["x-kubernetes-int-or-string"].as_bool() {
            Some(true) => [json!({"memory": "300Mi"}), json!({"memory": "400Mi"})],
            _ => [json!({"key": "a"}), json!({"key": "b"})],
        };
    }
    if schema["x-kubernetes-int-or-string"] == json!(true) {
        return [json!("70Mi"), json!("90Mi")];
    }
    let digests = ["a", "b"].map(|digit| format!("sha256:{}", digit.repeat(64)));
    let of_own_form = [
        ("pausedUntil", ["2026-01-01T00:00:00Z", "2026-03-01T00:00:00Z"]),
        ("schedule", ["0 9 * * *", "0 11 * * SUN"]),
        ("timeZone", ["UTC", "Asia/Tokyo"]),
        ("duration", ["30m", "1d"]),
        ("overrideTTL", ["5m", "2h"]),
        ("ttl", ["5m", "7m"]),
        ("latency", ["200ms", "2s"]),
        ("serviceTime", ["20ms", "1s"]),
        ("digest", digests.each_ref().map(String::as_str)),
        ("storageUri", ["pvc://a/b", "pvc://a/c"]),
        ("url", ["redis://a:1", "redis://b:1"]),
        ("resource", ["nvidia.com/gpu", "amd.com/gpu"]),
        ("query", ["sum(a)", "sum(b)"]),
        ("serverAddress", ["http://a:1", "http://b:1"]),
    ];
    let name = path.rsplit('.').next().unwrap_or(path);
    if let Some((_, [one, other])) = of_own_form.iter().find(|(of, _)| *of == name) {
        return [json!(one), json!(other)];
    }
    match schema["type"].as_str() {
        Some("integer") => [json!(2), json!(3)],
        Some("boolean") => [json!(false), json!(true)],
        _ => [json!("a"), json!("b")],
    }
}

/// Every leaf below a schema, with its path.
fn leaves<'a>(schema: &'a Value, path: String, into: &mut Vec<(String, &'a Value)>) {
    if let Some(properties) = schema["properties"].as_object() {
        for (name, property) in properties {
            let below = if path.is_empty() {
                name.clone()
            } else {
                format!("{path}.{name}")
            };
            leaves(property, below, into);
        }
    } else if let Some(items) = schema.get("items") {
        leaves(items, format!("{path}[]"), into);
    } else {
        into.push((path, schema));
    }
}

/// Sets the leaf; a list on the way gets one item.
fn set(spec: &mut Value, path: &str, value: &Value) {
    let mut at = spec;
    for segment in path.split('.') {
        at = match segment.strip_suffix("[]") {
            None => &mut at[segment],
            Some(list) => {
                let list = &mut at[list];
                if list.is_null() {
                    *list = json!([null]);
                }
                &mut list[0]
            }
        };
    }
    *at = value.clone();
}

/// Everything that a spec leads to.
fn outcome(path: &str, value: &Value) -> Result<String, String> {
    let mut spec = surroundings(path);
    set(&mut spec, path, value);
    let object = inference_service(json!({"spec": spec}));
    // Accepts every address, so that it has somewhere to lead.
    let mut prometheus = prometheus();
    prometheus.address_refusal = Box::new(|_, _| None);
    let times = Times {
        rate_window: Duration::from_secs(30),
        stale_after: Duration::from_secs(60),
        relearn: Duration::from_secs(300),
        has_prometheus: true,
        asks_pods: Some(Duration::from_secs(1)),
    };
    match validate(&object, &prometheus) {
        Ok(service) => {
            let now = "2026-02-01T12:00:00Z".parse().unwrap();
            let service = service.at(now);
            Ok(format!(
                "{:?} {:?} {:?} {:?}",
                build(&service, &pod_settings(), true),
                subscribe::of_valid(&service, None),
                autoscaler::plan(&service, &times),
                status::summarise(&object, &service, &Observed::default(), now).r#override
            ))
        }
        Err(problems) => Err(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
    }
}

#[test]
fn no_field_of_the_schema_does_nothing() {
    let crds = tidewright_api::crd::all_crds();
    let crd = serde_json::to_value(&crds[0]).unwrap();
    let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut all = Vec::new();
    leaves(spec, String::new(), &mut all);
    assert!(all.len() > 150, "{} leaves are not the schema", all.len());
    let mut wrong = Vec::new();
    for (path, schema) in &all {
        let values = two_values(path, schema);
        let [one, other] = values.each_ref().map(|value| outcome(path, value));
        let is_listed = ONE_VALUE.iter().any(|(of, _)| of == path);
        match (one, other) {
            (Err(problem), _) | (_, Err(problem)) if !is_listed => {
                wrong.push(format!("{path}: one of {values:?} is refused: {problem}"));
            }
            (Ok(one), Ok(other)) if one == other && !is_listed => {
                wrong.push(format!("{path}: {values:?} lead to the same"));
            }
            (Ok(one), Ok(other)) if one != other && is_listed => {
                wrong.push(format!("{path} is listed without need"));
            }
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (path, reason) in ONE_VALUE {
        assert!(all.iter().any(|(of, _)| of == path), "{path} is no field ({reason})");
    }
}

/// What the server says of the configuration that a spec leads to; nothing where the operator refuses the spec.
fn servers_problems(path: &str, value: &Value) -> Vec<String> {
    let mut spec = surroundings(path);
    set(&mut spec, path, value);
    let mut prometheus = prometheus();
    prometheus.address_refusal = Box::new(|_, _| None);
    let Ok(service) = validate(&inference_service(json!({"spec": spec})), &prometheus) else {
        return Vec::new();
    };
    let files = build(&service, &pod_settings(), true).config_maps.into_iter();
    files
        .flat_map(|map| map.data.unwrap_or_default().into_values())
        .filter_map(|text| {
            let config: ServeConfig = serde_json::from_str(&text).unwrap();
            config
                .validate()
                .err()
                .map(|problems| format!("{path} = {value}: {problems:?}"))
        })
        .collect()
}

/// A spec that is said to be honoured, and a server that does not start, would be the worst of both.
#[test]
fn whatever_the_schema_allows_the_server_starts_with_or_the_operator_refuses() {
    let crds = tidewright_api::crd::all_crds();
    let crd = serde_json::to_value(&crds[0]).unwrap();
    let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut all = Vec::new();
    leaves(spec, String::new(), &mut all);
    let mut wrong = Vec::new();
    let mut tried = 0;
    for (path, schema) in &all {
        for bound in ["minimum", "maximum"] {
            if let Some(number) = schema[bound].as_f64() {
                tried += 1;
                wrong.extend(servers_problems(path, &json!(number as i64)));
            }
        }
        if schema["x-kubernetes-int-or-string"] == json!(true) {
            for amount in ["1m", "1", "500", "1023", "1Ki", "1Ti", "2Ti", "100E"] {
                tried += 1;
                wrong.extend(servers_problems(path, &json!(amount)));
            }
        }
    }
    assert!(tried > 100, "{tried} values are not the bounds of the schema");
    let late = json!({"predictor": {"timeout": 5, "batcher": {"maxBatchSize": 8, "maxLatency": 5000}}});
    let refused = validate(&inference_service(json!({"spec": late})), &prometheus()).unwrap_err();
    assert!(refused[0].to_string().contains("batcher.maxLatency"), "{refused:?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
