//! What lies at the top of the repository: a short list, so that everything has one obvious place.

use std::fs;

use tidewright_e2e::paths;

const FOLDERS: [&str; 5] = ["operator", "inference-server", "crds", "charts", "e2e"];

const FILES: [&str; 13] = [
    "Cargo.toml",
    "Cargo.lock",
    "Makefile",
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "LICENSE",
    "rust-toolchain.toml",
    "rustfmt.toml",
    "clippy.toml",
    "deny.toml",
    ".dockerignore",
    ".ci/run",
];

/// What git ignores and an image's build would still be sent.
pub fn in_every_build_context() -> Vec<String> {
    let lines = |file: &str| -> Vec<String> {
        let text = fs::read_to_string(paths::repository_dir().join(file)).unwrap();
        text.lines()
            .map(|line| line.trim_start_matches('/').to_owned())
            .collect()
    };
    let left_out = lines(".dockerignore");
    let ignored = lines(".gitignore").into_iter().chain([".git".to_owned()]);
    ignored
        .filter(|name| !name.is_empty() && !left_out.contains(name))
        .map(|name| format!("{name} is not in .dockerignore"))
        .collect()
}

pub fn unexpected() -> Vec<String> {
    let root = paths::repository_dir();
    let mut problems: Vec<String> = FOLDERS
        .iter()
        .chain(&FILES)
        .filter(|name| !root.join(name).exists())
        .map(|name| format!("{name} is missing"))
        .collect();
    for entry in fs::read_dir(root).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        let expected = FOLDERS.contains(&name.as_str())
            || FILES.contains(&name.as_str())
            // git's own, what .gitignore names, the folder of .ci/run.
            || name.starts_with(".git")
            || ["target", ".ci"].contains(&name.as_str());
        if !expected {
            problems.push(format!(
                "{name} has no place at the top level: ARCHITECTURE.md says where things go"
            ));
        }
    }
    problems
}
