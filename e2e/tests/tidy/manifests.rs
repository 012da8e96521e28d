//! What the crates' manifests may name: the direction between our crates, and what each of them deliberately does without.

use std::fs;

use tidewright_e2e::paths;

use super::source::Source;

/// (folder, our crates that it may use, crates that would break what the folder is for)
const RULES: [(&str, &[&str], &[&str]); 7] = [
    (
        "operator/api",
        &[],
        &["tokio", "kube-runtime", "reqwest", "tracing", "hyper"],
    ),
    (
        "operator/scaling",
        &[],
        &[
            "tokio",
            "kube",
            "kube-runtime",
            "k8s-openapi",
            "reqwest",
            "tracing",
            "hyper",
            "rand",
            "jiff",
        ],
    ),
    (
        "inference-server/contract",
        &[],
        &["tokio", "kube", "reqwest", "tracing", "hyper", "axum"],
    ),
    (
        "operator",
        &["tidewright-api", "tidewright-contract", "tidewright-scaling"],
        &["ort", "redis", "plotters"],
    ),
    (
        "operator/sim",
        &["tidewright-scaling"],
        &["tokio", "kube", "reqwest", "rand"],
    ),
    (
        "inference-server",
        &["tidewright-contract"],
        &["kube", "kube-runtime", "k8s-openapi", "schemars"],
    ),
    (
        "e2e",
        &["tidewright-api", "tidewright-contract", "tidewright-sim"],
        &["ort"],
    ),
];

/// Dependencies of the workspace that none of its crates takes.
pub fn unclaimed_dependencies() -> Vec<String> {
    let root = fs::read_to_string(paths::repository_dir().join("Cargo.toml")).unwrap();
    let (_, rest) = root.split_once("[workspace.dependencies]").unwrap();
    let taken: Vec<String> = RULES
        .iter()
        .flat_map(|(folder, _, _)| dependencies(folder, true))
        .collect();
    rest.split("\n[")
        .next()
        .unwrap()
        .lines()
        .filter_map(|line| line.split_once(" = "))
        .filter(|(name, _)| !name.starts_with('#') && !taken.iter().any(|other| other == name))
        .map(|(name, _)| format!("Cargo.toml names {name}, and no crate takes it"))
        .collect()
}

/// Names of the dependencies of one crate; `dev` says whether those of its tests count too.
fn dependencies(folder: &str, dev: bool) -> Vec<String> {
    let text = fs::read_to_string(paths::repository_dir().join(folder).join("Cargo.toml")).unwrap();
    let mut section = String::new();
    let mut names = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[') {
            name.trim_end_matches(']').clone_into(&mut section);
        } else if section == "dependencies" || (dev && section.ends_with("dependencies")) {
            let name: String = line
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '-' || *c == '_')
                .collect();
            if !name.is_empty() {
                names.push(name);
            }
        }
    }
    assert!(!names.is_empty(), "{folder}/Cargo.toml names no dependencies");
    names
}

pub fn wrong_dependencies() -> Vec<String> {
    let mut problems = Vec::new();
    for (folder, ours, absent) in RULES {
        for name in dependencies(folder, false) {
            if name.starts_with("tidewright-") && !ours.contains(&name.as_str()) {
                problems.push(format!("{folder} must not use {name}"));
            }
            if absent.contains(&name.as_str()) {
                problems.push(format!("{folder} is deliberately without {name}"));
            }
        }
    }
    problems
}

/// Dependencies whose name no file of the crate says.
pub fn unused_dependencies(all: &[Source]) -> Vec<String> {
    let mut problems = Vec::new();
    for (folder, _, _) in RULES {
        let own: Vec<&Source> = all
            .iter()
            .filter(|source| {
                ["src/", "tests/", "benches/", "build.rs"]
                    .iter()
                    .any(|part| source.path.starts_with(&format!("{folder}/{part}")))
            })
            .collect();
        for name in dependencies(folder, true) {
            let ident = name.replace('-', "_");
            let says = |line: &str| {
                line.match_indices(&ident).any(|(at, _)| {
                    let before = line[..at].chars().next_back();
                    let after = line[at + ident.len()..].chars().next();
                    let other = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
                    !other(before) && !other(after)
                })
            };
            if !own.iter().any(|source| source.code().any(|(_, line)| says(line))) {
                problems.push(format!(
                    "{folder}/Cargo.toml names {name}, and no file of the crate does"
                ));
            }
        }
    }
    problems
}
