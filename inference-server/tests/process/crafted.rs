//! Models that mean harm, or do it: each is a reason and a sentence, and none takes the server along.

use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::json;
use tidewright_contract::exit::Reason;
use tidewright_server::model::source;

use crate::command_line::last_words;
use crate::support::{Client, Running, Server, command, model, path};

/// The reason and sentence with which a server ends that is given this model.
fn refusal(file: &Path) -> (Reason, String) {
    let (_, log, words) = last_words(&json!({"models": [{"name": "m", "path": file}]}));
    assert!(log.contains(words.reason.as_str()), "{log}");
    (words.reason, words.message)
}

fn file(name: &str) -> std::path::PathBuf {
    path(&format!("tests/models/{name}.onnx"))
}

#[test]
fn an_operator_that_does_not_exist_is_named() {
    let (reason, message) = refusal(&file("unknown"));
    assert_eq!(reason, Reason::UnsupportedOperator, "{message}");
    assert!(message.contains("Nonsense"), "{message}");
}

/// 256 GiB in the first run: the child's address space ends long before the machine's memory does.
#[test]
fn a_model_that_wants_all_memory_fails_its_trial() {
    let (reason, message) = refusal(&file("huge"));
    assert_eq!(reason, Reason::WarmupFailed, "{message}");
    assert!(message.contains("a run with zeros failed"), "{message}");
}

/// What the trial of a model of this digest ends with.
fn trial(name: &str, digest: &str, cpu_seconds: u64) -> Output {
    trial_for(std::process::id(), name, digest, cpu_seconds)
}

/// The same, asked for by the process of this number.
fn trial_for(server_id: u32, name: &str, digest: &str, cpu_seconds: u64) -> Output {
    let mut child = command(&["probe-model"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let request = json!({
        "serverId": server_id, "model": {"file": file(name), "digest": digest}, "provider": "cpu", "intraOpThreads": 1, "graphOptimization": "all",
        "batchSizeMax": 1, "limits": {"addressSpaceBytes": 4u64 << 30, "cpuSeconds": cpu_seconds},
    });
    let mut input = child.stdin.take().unwrap();
    input.write_all(request.to_string().as_bytes()).unwrap();
    drop(input);
    child.wait_with_output().unwrap()
}

fn digest(name: &str) -> String {
    source::digest(&fs::read(file(name)).unwrap(), None).unwrap()
}

#[test]
fn the_trial_loads_the_bytes_that_were_checked_or_nothing() {
    let right = trial("affine", &digest("affine"), 60);
    assert!(right.stdout.starts_with(b"{\"works\":"), "{right:?}");
    // The file was replaced after it was checked.
    let answer = trial("affine", &digest("layers"), 60);
    let text = String::from_utf8(answer.stdout).unwrap();
    assert!(
        text.contains("\"reason\":\"DigestMismatch\"") && text.contains(&digest("affine")),
        "{text}"
    );
}

#[test]
fn a_model_that_does_not_end_is_ended_by_its_processor_time() {
    let output = trial("endless", &digest("endless"), 1);
    assert_eq!(output.status.signal(), Some(24), "SIGXCPU: {output:?}");
    assert!(output.stdout.is_empty() && !output.status.core_dumped());
}

#[test]
fn a_trial_whose_server_was_gone_before_it_could_be_told_does_not_begin() {
    // Nobody has this number.
    let output = trial_for(0, "endless", &digest("endless"), 60);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("the server that asked for it has ended"), "{text}");
}

#[test]
fn a_server_that_is_asked_to_end_during_a_trial_leaves_no_child_behind() {
    let model = format!("m={}", file("endless").display());
    let server = command(&[
        "serve",
        "--model",
        &model,
        "--http",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
    ])
    .stderr(Stdio::null())
    .spawn()
    .unwrap();
    let mut server = Running(server);
    // The children of every thread of a process are in one file per thread.
    let child = loop {
        assert!(server.0.try_wait().unwrap().is_none(), "ended by itself");
        let tasks = fs::read_dir(format!("/proc/{}/task", server.0.id())).unwrap();
        let found = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
        if let Some(child) = found
            .flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
            .next()
        {
            break child;
        }
        std::thread::yield_now();
    };
    let is_trial = || fs::read(format!("/proc/{child}/cmdline")).is_ok_and(|line| line.ends_with(b"probe-model\0"));
    while !is_trial() {
        std::thread::yield_now();
    }
    let told = std::process::Command::new("kill")
        .args(["-TERM", &server.0.id().to_string()])
        .status()
        .unwrap();
    assert!(told.success());
    assert_eq!(server.0.wait().unwrap().code(), Some(0));
    let asked = tidewright_server::clock::now();
    while is_trial() {
        assert!(asked.elapsed().as_secs() < 10, "the trial goes on without its server");
        std::thread::yield_now();
    }
}

#[test]
fn weights_in_another_file_only_from_the_models_own_folder() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("model");
    fs::create_dir(&folder).unwrap();
    let (model, weights) = (folder.join("model.onnx"), folder.join("weights.bin"));
    fs::copy(file("external"), &model).unwrap();
    let values: Vec<u8> = [1f32, 2.0, 3.0, 4.0].into_iter().flat_map(f32::to_le_bytes).collect();

    let (reason, message) = refusal(&model);
    assert_eq!(reason, Reason::UnsafeExternalData, "{message}");
    assert!(
        message.contains("\"weights.bin\" is not in the model's folder"),
        "{message}"
    );

    let elsewhere = outer.path().join("elsewhere");
    fs::write(&elsewhere, &values).unwrap();
    std::os::unix::fs::symlink("../elsewhere", &weights).unwrap();
    let (reason, message) = refusal(&model);
    assert!(
        reason == Reason::UnsafeExternalData && message.contains("symbolic link"),
        "{message}"
    );

    fs::remove_file(&weights).unwrap();
    fs::hard_link(&elsewhere, &weights).unwrap();
    let (reason, message) = refusal(&model);
    assert!(
        reason == Reason::UnsafeExternalData && message.contains("hard link"),
        "{message}"
    );

    fs::remove_file(&weights).unwrap();
    fs::write(&weights, &values[..15]).unwrap();
    assert_eq!(refusal(&model).0, Reason::UnsafeExternalData);

    fs::write(&weights, &values).unwrap();
    let server = Server::start(&["--model", &format!("m={}", folder.display())]);
    let answer = Client::connect(server.http)
        .unwrap()
        .post("/api/v1/predict", r#"{"features": [1, 10]}"#)
        .unwrap();
    assert!(answer.body.contains("[31.0,42.0]"), "{}", answer.body);
}

#[test]
fn the_trial_can_be_left_out() {
    let server = Server::start(&["--model", &model("affine"), "--load-in-child", "false"]);
    let tasks = fs::read_to_string(format!("/proc/{}/stat", server.id())).unwrap();
    assert!(tasks.contains("inference-serve"));
    // Field 11, cminflt: what children that were waited for have cost. Nothing: there was none.
    let children_cost: u64 = tasks
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .nth(8)
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(children_cost, 0);
}
