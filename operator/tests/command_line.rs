//! The commands of the binary that need no cluster: what they print is what the documentation says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::process::Command;

/// Exit code and standard output.
fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tidewright-operator"))
        .args(arguments)
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn crd_prints_the_committed_definitions() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let mut committed = String::new();
    for path in &files {
        let text = std::fs::read_to_string(path).unwrap();
        let body = text.lines().filter(|line| !line.starts_with('#'));
        for line in std::iter::once("---").chain(body) {
            committed.push_str(line);
            committed.push('\n');
        }
    }
    let (code, printed) = run(&["crd"]);
    assert_eq!(code, Some(0));
    assert!(
        printed == committed,
        "crd prints other definitions than crds/:\n{printed}"
    );
}

#[test]
fn help_names_every_command_and_every_option_with_its_variable() {
    let (code, help) = run(&["--help"]);
    assert_eq!(code, Some(0));
    for command in ["run", "crd", "completion"] {
        assert!(help.contains(&format!("\n  {command} ")), "{help}");
    }
    let (code, help) = run(&["run", "--help"]);
    assert_eq!(code, Some(0));
    let options: Vec<&str> = help
        .lines()
        .map(str::trim_start)
        .filter(|line| line.starts_with("--"))
        .collect();
    assert!(options.len() > 20, "{help}");
    let variables = help.matches("[env: ").count();
    assert_eq!(
        variables,
        options.len(),
        "each option can also be given by the environment:\n{help}"
    );
}

#[test]
fn a_missing_or_unknown_option_is_refused() {
    assert_eq!(run(&["run", "--server-image=a"]).0, Some(2));
    assert_eq!(
        run(&["run", "--server-image=a", "--redis-image=b", "--unknown"]).0,
        Some(2)
    );
    assert_eq!(run(&[]).0, Some(2));
}
