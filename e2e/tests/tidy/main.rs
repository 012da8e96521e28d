//! What the layout promises, checked over the sources of the whole workspace: who imports whom, how long a file is, where time comes from.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod folders;
mod imports;
mod layers;
mod manifests;
mod rights;
mod source;

use source::Source;

/// Fails with all of them, so that one run shows everything.
fn assert_none(problems: &[String]) {
    assert!(
        problems.is_empty(),
        "{} problem(s):\n{}",
        problems.len(),
        problems.join("\n")
    );
}

#[test]
fn files_are_short_and_say_what_they_are() {
    let mut problems = Vec::new();
    for source in Source::all() {
        let lines = source.text.lines().count();
        if lines > 400 {
            problems.push(format!(
                "{} has {lines} lines; split it by idea, at most 400",
                source.path
            ));
        }
        let first = source.text.lines().next().unwrap_or_default();
        if first.strip_prefix("//! ").is_none_or(|text| text.trim().is_empty()) {
            problems.push(format!(
                "{} must begin with a `//!` line that says what it is for",
                source.path
            ));
        }
    }
    assert_none(&problems);
}

/// What is shipped takes the time from its clock, so that tests can set it. Tokio's instants are such a clock already: tests pause it.
#[test]
fn time_enters_through_the_clock() {
    let mut problems = Vec::new();
    for source in Source::all()
        .into_iter()
        .filter(|source| source.name() != "clock.rs" && !source.path.starts_with("e2e/"))
    {
        let tokios = source.text.contains("use tokio::time::{") && source.text.contains("Instant")
            || source.text.contains("use tokio::time::Instant");
        for (number, line) in source.code() {
            let reads = line.contains("Instant::now(") && !tokios && !line.contains("tokio::time::Instant::now(");
            if reads
                || ["SystemTime::now(", "Timestamp::now(", "Zoned::now("]
                    .iter()
                    .any(|call| line.contains(call))
            {
                problems.push(format!(
                    "{}:{number} reads the time; take it from clock.rs: {}",
                    source.path,
                    line.trim()
                ));
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn no_test_is_switched_off() {
    let mut problems = Vec::new();
    for source in Source::all()
        .into_iter()
        .filter(|source| !source.path.starts_with("e2e/tests/tidy/"))
    {
        for (number, line) in source.code() {
            if line.trim_start().starts_with("#[ignore") || line.contains("todo!(") || line.contains("unimplemented!(")
            {
                problems.push(format!("{}:{number} {}", source.path, line.trim()));
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn every_file_belongs_to_a_program() {
    assert_none(&source::unreferenced(&Source::all()));
}

#[test]
fn crates_depend_in_one_direction() {
    assert_none(&manifests::wrong_dependencies());
}

#[test]
fn dependencies_are_used() {
    let mut problems = manifests::unused_dependencies(&Source::all());
    problems.extend(manifests::unclaimed_dependencies());
    assert_none(&problems);
}

#[test]
fn modules_import_downwards() {
    let mut problems = layers::wrong_imports("operator/src/", layers::OPERATOR);
    problems.extend(layers::wrong_imports("inference-server/src/", layers::SERVER));
    problems.extend(layers::wrong_imports("operator/scaling/src/", layers::SCALING));
    problems.extend(layers::wrong_imports("operator/sim/src/", layers::SIMULATOR));
    assert_none(&problems);
}

#[test]
fn the_layers_have_no_circle() {
    assert_none(&layers::circles(layers::OPERATOR));
    assert_none(&layers::circles(layers::SERVER));
    assert_none(&layers::circles(layers::SCALING));
    assert_none(&layers::circles(layers::SIMULATOR));
}

#[test]
fn only_one_folder_talks_to_the_api_server() {
    assert_none(&layers::requests_elsewhere());
}

#[test]
fn the_top_level_is_the_documented_one() {
    assert_none(&folders::unexpected());
}

#[test]
fn images_are_built_from_sources_alone() {
    assert_none(&folders::in_every_build_context());
}

#[test]
fn the_chart_grants_what_the_operator_applies_and_no_more() {
    assert_none(&rights::differences());
}

#[test]
fn every_right_names_the_module_that_needs_it() {
    assert_none(&rights::unexplained());
}
