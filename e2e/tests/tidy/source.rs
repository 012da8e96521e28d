//! The Rust files of the workspace, and what is code in them.

use std::fs;
use std::path::Path;

use tidewright_e2e::paths;

/// One file.
#[derive(Debug, Clone)]
pub struct Source {
    /// From the root of the repository, with `/`.
    pub path: String,
    pub text: String,
}

const CRATES: [&str; 7] = [
    "operator",
    "operator/api",
    "operator/scaling",
    "operator/sim",
    "inference-server",
    "inference-server/contract",
    "e2e",
];

impl Source {
    /// Every Rust file of ours.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for root in CRATES {
            for folder in ["src", "tests", "benches", "build.rs"] {
                walk(&format!("{root}/{folder}"), &mut all);
            }
        }
        assert!(
            all.len() > 50,
            "found only {} files: is the layout another one?",
            all.len()
        );
        all.sort_by(|a, b| a.path.cmp(&b.path));
        all
    }

    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// Whether it is compiled for tests only.
    pub fn is_test(&self) -> bool {
        self.path.contains("/tests/") || self.name() == "tests.rs" || self.path.contains("/test_support")
    }

    /// Lines, numbered from 1, that are not comments.
    pub fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line))
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// [`Self::code`] up to the tests at the end of the file.
    pub fn shipped_code(&self) -> Vec<(usize, &str)> {
        let mut lines = Vec::new();
        let mut of_test = false;
        for (number, line) in self.code() {
            if of_test && line.starts_with("mod ") && line.ends_with('{') {
                break;
            }
            of_test = line.trim() == "#[cfg(test)]";
            lines.push((number, line));
        }
        lines
    }
}

fn walk(path: &str, all: &mut Vec<Source>) {
    let full = paths::repository_dir().join(path);
    if full.is_dir() {
        for entry in fs::read_dir(&full).unwrap() {
            walk(&format!("{path}/{}", entry.unwrap().file_name().to_string_lossy()), all);
        }
    } else if full.extension().is_some_and(|extension| extension == "rs") {
        // An editor may replace the file between the listing and this.
        if let Ok(text) = fs::read_to_string(&full) {
            all.push(Source {
                path: path.to_owned(),
                text,
            });
        }
    }
}

/// Files that no `mod` names: they look like part of a program and are not compiled.
pub fn unreferenced(all: &[Source]) -> Vec<String> {
    let mut problems = Vec::new();
    for source in all {
        let path = Path::new(&source.path);
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        let folder = path.parent().unwrap().to_string_lossy().replace('\\', "/");
        // What cargo finds by itself.
        let parent = folder.rsplit('/').next().unwrap_or_default();
        let is_root = match parent {
            "src" => ["lib", "main"].contains(&stem.as_str()),
            "bin" | "tests" | "benches" => CRATES.iter().any(|root| {
                folder.starts_with(&format!("{root}/{}", if parent == "bin" { "src/bin" } else { parent }))
            }),
            _ => stem == "main" || stem == "build",
        };
        if is_root {
            continue;
        }
        // a/mod.rs and a.rs are named beside the folder a; the rest in a/mod.rs, a.rs, or the root beside them.
        let (name, home) = if stem == "mod" {
            let (home, name) = folder.rsplit_once('/').unwrap();
            (name.to_owned(), home.to_owned())
        } else {
            (stem, folder.clone())
        };
        let parents = ["lib.rs", "main.rs", "mod.rs"].map(|file| format!("{home}/{file}"));
        let wanted = format!("mod {name};");
        let named = all
            .iter()
            .filter(|other| {
                parents.contains(&other.path)
                    || other.path == format!("{home}.rs")
                    || (home.ends_with("/tests") && other.path.starts_with(&home))
            })
            .any(|other| {
                other.code().any(|(_, line)| {
                    line.trim_start()
                        .trim_start_matches("pub(crate) ")
                        .trim_start_matches("pub(super) ")
                        .trim_start_matches("pub ")
                        .starts_with(&wanted)
                })
            });
        let by_path = format!("#[path = \"{}\"]", source.name());
        let named = named
            || all
                .iter()
                .any(|other| other.path.starts_with(&folder) && other.code().any(|(_, line)| line.trim() == by_path));
        if !named {
            problems.push(format!("{} is named by no `{wanted}`", source.path));
        }
    }
    problems
}
