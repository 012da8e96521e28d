//! The CRD chart carries exactly the text of crds/: one source, no drift. `UPDATE=1` copies it anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use tidewright_e2e::paths;

fn texts(folder: &Path) -> BTreeMap<String, String> {
    fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            (
                path.file_name().unwrap().to_string_lossy().into_owned(),
                fs::read_to_string(&path).unwrap(),
            )
        })
        .collect()
}

#[test]
fn the_chart_has_the_generated_definitions() {
    let generated = texts(&paths::repository_dir().join("crds"));
    assert!(!generated.is_empty(), "crds/ is empty");
    let folder = paths::repository_dir().join("charts/tidewright-crds/files");
    if std::env::var_os("UPDATE").is_some() {
        fs::remove_dir_all(&folder).unwrap();
        fs::create_dir(&folder).unwrap();
        for (name, text) in &generated {
            fs::write(folder.join(name), text).unwrap();
        }
    }
    let packed = texts(&folder);
    assert_eq!(
        packed.keys().collect::<Vec<_>>(),
        generated.keys().collect::<Vec<_>>(),
        "run `make crds`"
    );
    for (name, text) in &generated {
        assert!(
            packed[name] == *text,
            "charts/tidewright-crds/files/{name} is not crds/{name}: run `make crds`"
        );
    }
}

/// The template puts our metadata behind the one line `metadata:` at the margin, and nowhere else.
#[test]
fn the_definitions_have_one_place_for_metadata() {
    for (name, text) in texts(&paths::repository_dir().join("crds")) {
        assert_eq!(text.lines().filter(|line| *line == "metadata:").count(), 1, "{name}");
        let after = text.lines().skip_while(|line| *line != "metadata:").nth(1).unwrap();
        assert!(
            after.starts_with("  name: "),
            "{name}: labels or annotations of its own would meet those of the chart"
        );
    }
}
