//! How users let Prometheus scrape the servers: the README's job and the chart's PodMonitor, both run by Prometheus' own tool over pods as it would find them.
//! What must come out is what the operator's queries group by.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::{Map, Value, json};
use tidewright_api::labels;
use tidewright_contract::routes::ADMIN_PORT;
use tidewright_e2e::paths;

use super::{Helm, documents, text};

const JOB: &str = "tidewright";
/// Of a pod `digits-1` in the namespace `demo`.
const WANTED: [(&str, &str); 4] = [
    ("namespace", "demo"),
    ("pod", "digits-1"),
    ("inferenceservice", "digits"),
    ("pool", "cpu"),
];

/// A label of a pod, as Prometheus' discovery names it.
fn meta(label: &str) -> String {
    let name: String = label
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' })
        .collect();
    format!("__meta_kubernetes_pod_label_{name}")
}

/// A port of a server's pod as discovery finds it.
fn found(phase: &str, port: &str, managed_by: &str) -> Value {
    let mut labels = Map::new();
    for (name, value) in [
        ("__meta_kubernetes_namespace".to_owned(), "demo"),
        ("__meta_kubernetes_pod_name".to_owned(), "digits-1"),
        ("__meta_kubernetes_pod_phase".to_owned(), phase),
        ("__meta_kubernetes_pod_container_port_name".to_owned(), port),
        (meta(labels::MANAGED_BY), managed_by),
        (meta(labels::SERVICE), "digits"),
        (meta(labels::POOL), "cpu"),
    ] {
        labels.insert(name, json!(value));
    }
    json!({"targets": [format!("10.0.0.1:{ADMIN_PORT}")], "labels": labels})
}

/// What Prometheus would scrape of `targets`, as the labels of each; where it drops one, an empty map. A word that Prometheus does not know is an error.
fn scraped(job: &Value, targets: &[Value]) -> Vec<BTreeMap<String, String>> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("targets.json");
    std::fs::write(&file, Value::from(targets.to_vec()).to_string()).unwrap();
    let mut job = job.clone();
    // Debian's build has no discovery of Kubernetes: a file says what that would find.
    job.as_object_mut().unwrap().remove("kubernetes_sd_configs");
    job["file_sd_configs"] = json!([{"files": [file]}]);
    let config = folder.path().join("prometheus.yml");
    std::fs::write(&config, json!({"scrape_configs": [job]}).to_string()).unwrap();
    let config = config.to_str().unwrap();
    for arguments in [
        vec!["check", "config", "--lint-fatal", "--lint=all", config],
        vec!["check", "service-discovery", "--timeout=3s", config, JOB],
    ] {
        let output = Command::new("promtool").args(&arguments).output().unwrap();
        let (said, complaint) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{arguments:?}\n{said}{complaint}");
        if arguments[1] == "service-discovery" {
            let results: Vec<Value> = serde_json::from_str(&said).unwrap();
            return results
                .iter()
                .map(|result| serde_json::from_value(result["labels"].clone()).unwrap())
                .collect();
        }
    }
    unreachable!("the second is that of discovery")
}

/// Labels that a series will have: those of discovery are gone by then, and every job has `job` and `instance`.
fn of_series(labels: &BTreeMap<String, String>) -> BTreeMap<&str, &str> {
    let kept = labels.iter().filter(|(name, _)| !name.starts_with("__"));
    kept.map(|(name, value)| (name.as_str(), value.as_str()))
        .filter(|(name, _)| !["job", "instance"].contains(name))
        .collect()
}

#[test]
fn the_job_of_the_readme_scrapes_servers_with_the_labels_of_the_queries() {
    let readme = std::fs::read_to_string(paths::repository_dir().join("README.md")).unwrap();
    let shown = readme
        .split("```yaml\n")
        .map(|part| part.split("```").next().unwrap())
        .find(|part| part.trim_start().starts_with("scrape_configs:"))
        .expect("the README shows a job");
    let shown: Value = serde_saphyr::from_str(shown).unwrap();
    let job = &shown["scrape_configs"][0];
    assert_eq!(job["job_name"], JOB);
    assert_eq!(job["kubernetes_sd_configs"], json!([{"role": "pod"}]));
    let pods = [
        found("Running", "admin", "tidewright"),
        found("Running", "http", "tidewright"),
        found("Succeeded", "admin", "tidewright"),
        found("Running", "admin", "somebody"),
    ];
    let results = scraped(job, &pods);
    let kept: Vec<_> = results
        .iter()
        .filter(|labels| !labels.is_empty())
        .map(of_series)
        .collect();
    assert_eq!(kept, [BTreeMap::from(WANTED)], "{results:#?}");
}

/// The Prometheus operator makes a job of a PodMonitor; what it adds by itself, the pod's namespace and name among it, is added here.
#[test]
fn the_pod_monitor_scrapes_servers_with_the_labels_of_the_queries() {
    let helm = Helm::new(None);
    let rendered = documents(&helm.rendered("podMonitor.enabled=true"));
    let monitor = rendered
        .iter()
        .find(|object| {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            object["kind"] == "PodMonitor" && name.ends_with("-servers")
        })
        .expect("a PodMonitor for the servers");
    let spec = &monitor["spec"];
    let names = |object: &Value| -> BTreeSet<String> { object.as_object().unwrap().keys().cloned().collect() };
    let these = |names: &[&str]| -> BTreeSet<String> { names.iter().map(|&name| name.to_owned()).collect() };
    assert_eq!(
        names(spec),
        these(&["namespaceSelector", "podMetricsEndpoints", "selector"])
    );
    assert_eq!(
        spec["selector"],
        json!({"matchLabels": {labels::MANAGED_BY: "tidewright"}})
    );
    let endpoint = &spec["podMetricsEndpoints"][0];
    assert_eq!(
        names(endpoint),
        these(&["filterRunning", "interval", "path", "port", "relabelings"])
    );
    assert_eq!(endpoint["port"], "admin");
    let mut relabelings = vec![
        json!({"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"}),
        json!({"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"}),
    ];
    relabelings.extend(endpoint["relabelings"].as_array().unwrap().iter().map(|relabeling| {
        let words = relabeling.as_object().unwrap().iter();
        // The same words, written as Prometheus writes them; it refuses those that it does not know.
        words.map(|(word, value)| (snake_case(word), value.clone())).collect()
    }));
    let job = json!({"job_name": JOB, "scrape_interval": endpoint["interval"], "metrics_path": endpoint["path"], "relabel_configs": relabelings});
    let results = scraped(&job, &[found("Running", "admin", "tidewright")]);
    let kept: Vec<_> = results.iter().map(of_series).collect();
    assert_eq!(kept, [BTreeMap::from(WANTED)], "{results:#?}");
}

fn snake_case(word: &str) -> String {
    word.chars()
        .flat_map(|letter| {
            let before = letter.is_ascii_uppercase().then_some('_');
            before.into_iter().chain([letter.to_ascii_lowercase()])
        })
        .collect()
}
