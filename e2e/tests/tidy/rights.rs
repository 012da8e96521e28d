//! The rights that the chart grants, against what the operator applies: nothing missing, nothing unused, each explained.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use tidewright_e2e::paths;

/// What the operator does with its children: it applies, prunes and watches them.
const CHILD_VERBS: [&str; 6] = ["get", "list", "watch", "create", "patch", "delete"];

const TEMPLATES: [&str; 2] = [
    "charts/tidewright/templates/rbac-cluster.yaml",
    "charts/tidewright/templates/rbac-namespace.yaml",
];

#[derive(Debug, Default, Clone)]
struct Rule {
    at: String,
    comment: String,
    groups: Vec<String>,
    resources: Vec<String>,
    verbs: Vec<String>,
    by_name: bool,
}

fn read(path: &str) -> String {
    fs::read_to_string(paths::repository_dir().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// `key: [a, "b"]`
fn list(line: &str) -> Vec<String> {
    let inner = line
        .split_once('[')
        .and_then(|(_, rest)| rest.rsplit_once(']'))
        .unwrap_or_else(|| panic!("a list in one line: {line}"))
        .0;
    inner
        .split(',')
        .map(|item| item.trim().trim_matches('"').to_owned())
        .collect()
}

fn rules() -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    for path in TEMPLATES {
        let mut comment = String::new();
        for (index, line) in read(path).lines().enumerate() {
            let text = line.trim();
            if let Some(said) = text.strip_prefix("# ") {
                said.clone_into(&mut comment);
            } else if text.starts_with("- apiGroups:") {
                rules.push(Rule {
                    at: format!("{path}:{}", index + 1),
                    comment: std::mem::take(&mut comment),
                    groups: list(text),
                    ..Rule::default()
                });
            } else if let Some(rule) = rules.last_mut().filter(|rule| rule.at.starts_with(path)) {
                match text.split(':').next() {
                    Some("resources") => rule.resources = list(text),
                    Some("verbs") => rule.verbs = list(text),
                    Some("resourceNames") => rule.by_name = true,
                    _ => {}
                }
            }
        }
    }
    assert!(rules.len() > 10, "found only {} rules", rules.len());
    rules
}

/// (group, plural) of every kind in the operator's list of children.
fn children() -> BTreeSet<(String, String)> {
    let text = read("operator/src/domain/objects.rs");
    let kinds: BTreeSet<_> = text
        .lines()
        .filter_map(|line| {
            line.trim()
                .strip_prefix('(')?
                .split_once("k8s_openapi::api::")
                .map(|(_, rest)| rest)
        })
        .map(|rest| {
            let mut parts = rest.split("::");
            let group = match parts.next().unwrap() {
                "core" => String::new(),
                "networking" => "networking.k8s.io".to_owned(),
                other => other.to_owned(),
            };
            let kind: String = parts
                .nth(1)
                .unwrap()
                .chars()
                .take_while(|c| c.is_alphanumeric())
                .collect::<String>()
                .to_lowercase();
            let plural = kind
                .strip_suffix('y')
                .map_or_else(|| format!("{kind}s"), |stem| format!("{stem}ies"));
            (group, plural)
        })
        .collect();
    assert!(kinds.len() >= 7, "found only {kinds:?} in domain/objects.rs");
    kinds
}

pub fn differences() -> Vec<String> {
    let children = children();
    let mut problems = Vec::new();
    let mut granted: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for rule in rules() {
        if rule
            .groups
            .iter()
            .chain(&rule.resources)
            .chain(&rule.verbs)
            .any(|word| word.contains('*'))
        {
            problems.push(format!("{}: `*` grants what nobody has thought of", rule.at));
        }
        for forbidden in ["escalate", "bind", "impersonate"] {
            if rule.verbs.iter().any(|verb| verb == forbidden) {
                problems.push(format!("{}: `{forbidden}` is more than any module needs", rule.at));
            }
        }
        if rule.resources.iter().any(|name| name == "secrets") && !rule.by_name && rule.verbs != ["create"] {
            problems.push(format!("{}: Secrets may be read by name only", rule.at));
        }
        for group in &rule.groups {
            for resource in &rule.resources {
                if !rule.by_name {
                    granted
                        .entry((group.clone(), resource.clone()))
                        .or_default()
                        .extend(rule.verbs.iter().cloned());
                }
            }
        }
    }
    let wanted: BTreeSet<String> = CHILD_VERBS.iter().map(|verb| (*verb).to_owned()).collect();
    for child in &children {
        let have = granted.get(child).cloned().unwrap_or_default();
        if have != wanted {
            problems.push(format!(
                "{child:?}: the operator needs {wanted:?}, the chart grants {have:?}"
            ));
        }
    }
    for (resource, verbs) in granted
        .iter()
        .filter(|(resource, verbs)| verbs.contains("delete") && !children.contains(*resource))
    {
        problems.push(format!(
            "{resource:?}: the chart grants {verbs:?}, and the operator has no such children"
        ));
    }
    problems
}

/// Rules whose comment does not begin with the modules that need them, as `cluster/apply, cluster/prune: …`.
pub fn unexplained() -> Vec<String> {
    let sources = paths::repository_dir().join("operator/src");
    let mut problems = Vec::new();
    for rule in rules() {
        let Some((modules, _)) = rule.comment.split_once(": ") else {
            problems.push(format!("{}: no comment that names the module", rule.at));
            continue;
        };
        for module in modules.split(", ") {
            if !sources.join(format!("{module}.rs")).is_file() && !sources.join(module).join("mod.rs").is_file() {
                problems.push(format!("{}: there is no module {module} in operator/src", rule.at));
            }
        }
    }
    problems
}
