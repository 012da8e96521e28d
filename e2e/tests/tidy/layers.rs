//! Who may import whom inside the operator and inside the server: the tables of ARCHITECTURE.md.

use super::imports;
use super::source::Source;

/// (module below the root, modules that it may import). A module that is missing here is reported, so that its place is decided when it appears.
type Table = &'static [(&'static str, &'static [&'static str])];

/// `lib` declares the modules; `run` and `main` know everyone, and nobody imports them.
pub const OPERATOR: Table = &[
    ("clock", &[]),
    ("error", &[]),
    ("metrics", &["domain", "error"]),
    ("domain", &[]),
    ("validate", &["domain", "error"]),
    ("desired", &["domain"]),
    ("status", &["domain"]),
    ("events", &["domain"]),
    ("cluster", &["domain", "events", "error", "metrics", "clock"]),
    ("sources", &["domain", "error", "metrics", "clock"]),
    ("pods", &["domain", "clock"]),
    ("ledger", &["domain"]),
    (
        "autoscaler",
        &["domain", "cluster", "pods", "ledger", "error", "metrics", "clock"],
    ),
    (
        "controller",
        &[
            "autoscaler",
            "domain",
            "validate",
            "desired",
            "status",
            "events",
            "cluster",
            "clock",
            "metrics",
            "error",
        ],
    ),
    ("metrics_api", &["domain", "cluster", "error", "metrics", "clock"]),
    ("admin", &["domain", "cluster", "ledger", "error", "metrics", "clock"]),
    (
        "plugin",
        &[
            "domain",
            "validate",
            "autoscaler",
            "cluster",
            "ledger",
            "error",
            "clock",
        ],
    ),
    ("telemetry", &["args", "error"]),
    ("args", &["error"]),
];

pub const SERVER: Table = &[
    ("clock", &[]),
    ("error", &["tensor"]),
    ("tensor", &[]),
    ("lifecycle", &[]),
    ("metrics", &["error", "lifecycle", "clock"]),
    ("profile", &["error", "clock"]),
    ("trace", &["error", "metrics", "clock"]),
    ("telemetry", &["error"]),
    ("args", &["error"]),
    ("model", &["tensor", "error", "metrics", "clock"]),
    ("request", &["tensor", "error", "clock"]),
    ("admission", &["request", "error", "metrics", "clock"]),
    (
        "protocols",
        &["request", "tensor", "model", "error", "metrics", "clock"],
    ),
    ("batcher", &["request", "tensor", "error", "metrics", "clock"]),
    ("queue", &["request", "tensor", "batcher", "error", "metrics", "clock"]),
    ("engine", &["tensor", "model", "error", "metrics", "clock"]),
    ("cache", &["request", "tensor", "model", "error", "metrics", "clock"]),
    (
        "pipeline",
        &[
            "admission",
            "batcher",
            "cache",
            "queue",
            "request",
            "tensor",
            "model",
            "trace",
            "error",
            "metrics",
            "clock",
        ],
    ),
    ("catalog", &["pipeline", "engine", "model", "error", "metrics", "clock"]),
    (
        "http",
        &[
            "protocols",
            "pipeline",
            "catalog",
            "admission",
            "model",
            "lifecycle",
            "request",
            "trace",
            "profile",
            "error",
            "metrics",
            "clock",
        ],
    ),
    (
        "grpc",
        &[
            "http",
            "protocols",
            "pipeline",
            "admission",
            "model",
            "trace",
            "error",
            "clock",
        ],
    ),
];

pub const SCALING: Table = &[
    ("units", &[]),
    ("tuning", &[]),
    ("policy", &["tuning"]),
    ("observation", &["units"]),
    ("freshness", &["observation", "policy", "units"]),
    ("sizing", &["policy", "units"]),
    ("rate", &["observation", "policy", "units"]),
    ("learned", &["observation", "policy", "units"]),
    ("keep", &["policy", "units"]),
    ("budget", &["policy", "units"]),
    ("limits", &["policy", "units"]),
    ("pools", &["policy", "sizing", "units"]),
    (
        "decision",
        &["freshness", "learned", "observation", "policy", "sizing", "units"],
    ),
    (
        "state",
        &[
            "budget",
            "freshness",
            "keep",
            "learned",
            "limits",
            "policy",
            "rate",
            "units",
        ],
    ),
    (
        "demand",
        &["freshness", "observation", "policy", "rate", "sizing", "state", "units"],
    ),
    (
        "backlog",
        &["decision", "demand", "observation", "policy", "pools", "units"],
    ),
    ("stages", &["decision", "learned", "limits", "policy", "state", "units"]),
    (
        "thresholds",
        &[
            "backlog",
            "decision",
            "observation",
            "policy",
            "sizing",
            "state",
            "units",
        ],
    ),
    (
        "decide",
        &[
            "backlog",
            "budget",
            "decision",
            "demand",
            "learned",
            "observation",
            "policy",
            "pools",
            "sizing",
            "stages",
            "state",
            "thresholds",
            "units",
        ],
    ),
    ("explanation", &["decision", "freshness"]),
    (
        "record",
        &["decide", "decision", "observation", "policy", "state", "units"],
    ),
];

pub const SIMULATOR: Table = &[
    ("time", &[]),
    ("random", &[]),
    ("error", &[]),
    ("baselines", &[]),
    ("settings", &["error", "time"]),
    ("trace", &["error", "time"]),
    ("generator", &["error", "time"]),
    ("arrivals", &["trace", "generator", "random", "error", "time"]),
    ("faults", &["error", "time"]),
    ("plant", &["random", "time"]),
    ("metrics", &["plant", "random", "time"]),
    ("plane", &["plant", "time"]),
    ("policy", &["metrics", "plane", "plant", "time"]),
    ("score", &["plant", "time"]),
    (
        "scenario",
        &[
            "arrivals", "faults", "metrics", "plant", "random", "score", "error", "time",
        ],
    ),
    (
        "policies",
        &[
            "policy",
            "baselines",
            "run",
            "scenario",
            "score",
            "arrivals",
            "metrics",
            "plant",
            "settings",
            "error",
            "time",
        ],
    ),
    ("report", &["run", "scenario", "score", "time"]),
    (
        "args",
        &[
            "scenario",
            "arrivals",
            "trace",
            "generator",
            "faults",
            "plant",
            "error",
            "time",
        ],
    ),
    ("compare", &["args", "policies", "run", "score", "settings", "error"]),
    (
        "cli",
        &[
            "args", "compare", "policies", "report", "run", "score", "settings", "error",
        ],
    ),
];

/// Rows of the table from which one comes back to where one started.
pub fn circles(table: Table) -> Vec<String> {
    let below = |name: &str| {
        table
            .iter()
            .find(|(module, _)| *module == name)
            .map_or(&[][..], |(_, below)| below)
    };
    let mut problems = Vec::new();
    for (start, _) in table {
        let mut seen: Vec<&str> = Vec::new();
        let mut next: Vec<&str> = below(start).to_vec();
        while let Some(module) = next.pop() {
            if module == *start {
                problems.push(format!("`{start}` may import itself by way of others"));
                break;
            }
            if !seen.contains(&module) {
                seen.push(module);
                next.extend(below(module));
            }
        }
    }
    problems
}

const EVERYONE: [&str; 4] = ["lib", "main", "run", "roles"];

/// Imports that the table does not allow.
pub fn wrong_imports(root: &str, table: Table) -> Vec<String> {
    let mut problems = Vec::new();
    for source in Source::all()
        .into_iter()
        .filter(|source| source.path.starts_with(root) && !source.is_test())
    {
        let inside = &source.path[root.len()..];
        let module = inside.split('/').next().unwrap_or_default().trim_end_matches(".rs");
        if EVERYONE.contains(&module) || module == "bin" {
            continue;
        }
        let Some((_, allowed)) = table.iter().find(|(name, _)| *name == module) else {
            problems.push(format!(
                "{}: module `{module}` has no row in e2e/tests/tidy/layers.rs: decide whom it may import",
                source.path
            ));
            continue;
        };
        for (imported, line) in imports::of(&source, root) {
            let is_module = table.iter().any(|(name, _)| *name == imported) || EVERYONE.contains(&imported.as_str());
            if is_module && imported != module && !allowed.contains(&imported.as_str()) {
                problems.push(format!(
                    "{}:{line} `{module}` must not import `{imported}`",
                    source.path
                ));
            }
        }
    }
    problems
}

/// Requests to the API server outside the folder for them. Others may hold the client, to hand it over.
pub fn requests_elsewhere() -> Vec<String> {
    let mut problems = Vec::new();
    for source in Source::all() {
        let allowed = ["operator/src/cluster/", "e2e/", "operator/tests/"];
        if allowed.iter().any(|start| source.path.starts_with(start)) {
            continue;
        }
        for (number, line) in source.shipped_code() {
            let names = ["kube::Api", "kube::api::", "kube::client::", "Api<", "Api::"];
            if names.iter().any(|name| line.contains(name)) {
                problems.push(format!(
                    "{}:{number} only operator/src/cluster talks to the API server: {}",
                    source.path,
                    line.trim()
                ));
            }
        }
    }
    problems
}
