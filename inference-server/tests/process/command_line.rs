//! Flags, files, exit codes and last words.

use std::fs;
use std::os::unix::process::ExitStatusExt;

use tidewright_contract::exit::{self, Reason, TerminationMessage};

use crate::support::{Client, Server, command, model, run};

#[test]
fn help_and_completion() {
    let help = run(&["serve", "--help"]);
    assert!(help.status.success());
    let text = String::from_utf8(help.stdout).unwrap();
    for word in [
        "--model <NAME=PATH>",
        "TIDEWRIGHT_HTTP",
        "Exit codes",
        "Examples:",
        "ORT_DYLIB_PATH",
    ] {
        assert!(text.contains(word), "{word} is missing in\n{text}");
    }
    let completion = run(&["completion", "bash"]);
    assert!(
        String::from_utf8(completion.stdout)
            .unwrap()
            .contains("inference-server")
    );
    assert_eq!(
        run(&["serve", "--nonsense"]).status.code(),
        Some(i32::from(exit::USAGE))
    );
}

#[test]
fn check_config_says_everything() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("server.json");
    let check = |text: &str| {
        fs::write(&file, text).unwrap();
        let output = run(&["check-config", file.to_str().unwrap()]);
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), text)
    };
    let golden = include_str!("../../contract/tests/goldens/serve.json");
    assert_eq!(check(golden).0, Some(0));
    let (code, text) = check(r#"{"models":[],"limits":{"timeoutSeconds":0}}"#);
    assert_eq!(code, Some(i32::from(exit::CONFIG)));
    assert!(
        text.contains("models: must name at least one model")
            && text.contains("limits.timeoutSeconds: must be between"),
        "{text}"
    );
    let (code, text) = check(r#"{"models":[],"limit":{}}"#);
    assert!(
        code == Some(3) && text.contains("unknown field `limit`") && text.contains("line 1"),
        "{text}"
    );
}

/// Runs `serve` with a config and answers its exit code, log and last words.
pub fn last_words(config: &serde_json::Value) -> (Option<i32>, String, TerminationMessage) {
    let folder = tempfile::tempdir().unwrap();
    let (file, words) = (folder.path().join("server.json"), folder.path().join("termination-log"));
    fs::write(&words, "old").unwrap();
    let mut config = config.clone();
    config["terminationLogPath"] = words.to_str().unwrap().into();
    config["http"] = serde_json::json!({"address": "127.0.0.1:0"});
    config["admin"] = serde_json::json!({"address": "127.0.0.1:0"});
    fs::write(&file, config.to_string()).unwrap();
    let output = run(&["serve", "--config", file.to_str().unwrap()]);
    let text = fs::read_to_string(&words).unwrap();
    let message = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    (output.status.code(), String::from_utf8(output.stderr).unwrap(), message)
}

#[test]
fn a_model_that_cannot_be_loaded_ends_the_server_with_last_words() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.onnx");
    fs::write(&broken, "no model").unwrap();
    let config = |path: &str, digest: Option<&str>| serde_json::json!({"models": [{"name": "digits", "path": path, "digest": digest}]});

    let (code, log, message) = last_words(&config(broken.to_str().unwrap(), None));
    assert_eq!(
        (code, message.reason),
        (Some(i32::from(exit::MODEL)), Reason::ModelLoadFailed),
        "{log}"
    );
    assert_eq!(message.model.as_deref(), Some("digits"));
    assert!(
        log.contains("ModelLoadFailed") && log.contains(&message.message),
        "{log}"
    );

    let missing = last_words(&config("/nowhere/model.onnx", None)).2;
    assert_eq!(missing.reason, Reason::ModelNotFound);
    assert!(missing.message.contains("/nowhere/model.onnx"), "{}", missing.message);

    let digest = format!("sha256:{}", "0".repeat(64));
    assert_eq!(
        last_words(&config(broken.to_str().unwrap(), Some(&digest))).2.reason,
        Reason::DigestMismatch
    );

    let cuda = serde_json::json!({"models": [{"name": "digits", "path": model("affine").split_once('=').unwrap().1}], "execution": {"providers": ["cuda"]}});
    let (code, _, message) = last_words(&cuda);
    assert_eq!(
        (code, message.reason),
        (Some(i32::from(exit::RUNTIME)), Reason::ProviderUnavailable),
        "{}",
        message.message
    );
}

#[test]
fn a_missing_library_is_said_clearly() {
    let output = command(&[
        "serve",
        "--http",
        "127.0.0.1:0",
        "--grpc",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--model",
        &model("affine"),
    ])
    .env("ORT_DYLIB_PATH", "/nowhere/libonnxruntime.so")
    .output()
    .unwrap();
    assert_eq!(output.status.code(), Some(i32::from(exit::RUNTIME)));
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(
        log.contains("RuntimeUnavailable") && log.contains("/nowhere/libonnxruntime.so"),
        "{log}"
    );
}

#[test]
fn a_port_that_is_taken_is_an_unexpected_failure() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(&[
        "serve",
        "--http",
        &address,
        "--grpc",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--model",
        &model("affine"),
    ]);
    assert_eq!(output.status.code(), Some(i32::from(exit::FAILURE)));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains(&format!("cannot listen on {address}"))
    );
}

#[test]
fn environment_and_directory_and_json_log() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(
        model("affine").split_once('=').unwrap().1,
        folder.path().join("any.onnx"),
    )
    .unwrap();
    let server = Server::start(&[
        "--model",
        &format!("dir={}", folder.path().display()),
        "--log-format",
        "json",
    ]);
    assert!(
        server.ready_line.contains("serving dir (cpu, 1 workers)"),
        "{}",
        server.ready_line
    );
    assert_eq!(
        Client::connect(server.admin).unwrap().get("/ready").unwrap().status,
        200
    );
    server.signal("INT");
    let ended = server.end();
    assert_eq!(
        (ended.status.code(), ended.status.signal()),
        (Some(0), None),
        "{}",
        ended.log
    );
    for line in ended.log.lines() {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(
            entry["timestamp"].is_string() && entry["level"].is_string() && entry["message"].is_string(),
            "{line}"
        );
    }
}

#[test]
fn one_request_in_so_many_has_a_line_in_the_log() {
    let model = model("affine");
    let server = Server::start(&["--model", &model, "--access-log-one-in", "5", "--log-format", "json"]);
    let mut client = Client::connect(server.http).unwrap();
    for _ in 0..10 {
        let answer = client.post("/api/v1/predict", r#"{"features":[1,2,3,4]}"#).unwrap();
        assert_eq!(answer.status, 200);
    }
    server.signal("TERM");
    let log = server.end().log;
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("\"target\":\"access\""))
        .collect();
    assert_eq!(lines.len(), 2, "{log}");
    for part in [
        "\"route\":\"/api/v1/predict\"",
        "\"method\":\"POST\"",
        "\"code\":200",
        "\"millis\":",
    ] {
        assert!(lines[0].contains(part), "no {part} in {}", lines[0]);
    }
}

#[test]
fn a_line_says_which_model_and_request_of_which_trace_and_why_there_was_no_answer() {
    let model = model("affine");
    let server = Server::start(&["--model", &model, "--access-log-one-in", "1", "--log-format", "json"]);
    let mut client = Client::connect(server.http).unwrap();
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let traceparent = format!("00-{trace}-b7ad6b7169203331-01");
    let mut send = |body: &str| {
        let head = "POST /v2/models/affine/infer HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nx-request-id: from-a-proxy";
        let length = body.len();
        let whole = format!("{head}\r\ntraceparent: {traceparent}\r\ncontent-length: {length}\r\n\r\n{body}");
        client.send(whole.as_bytes()).unwrap();
        client.answer().unwrap()
    };
    let infer = |id: &str, values: &str| {
        format!(
            r#"{{"id": "{id}", "inputs": [{{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": {values}}}]}}"#
        )
    };
    let good = infer("mine", "[1, 2, 3, 4]");
    let answer = send(&good);
    assert_eq!(answer.status, 200);
    let bad = send(&infer("", "[1]"));
    assert_eq!(bad.status, 400);
    server.signal("TERM");
    let log = server.end().log;
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &serde_json::Value| line["target"] == "access")
        .collect();
    let [first, second] = lines.as_slice() else {
        panic!("{log}");
    };
    assert_eq!((&first["model"], &first["version"]), (&"affine".into(), &"1".into()));
    assert_eq!(
        (&first["id"], &first["trace"]),
        (&"mine".into(), &trace.into()),
        "the caller's own name goes first"
    );
    assert_eq!(first["received_bytes"], good.len());
    assert_eq!(first["sent_bytes"], answer.body.len());
    assert!(first.get("error").is_none(), "{first}");
    assert_eq!((&second["id"], &second["code"]), (&"from-a-proxy".into(), &400.into()));
    let told: serde_json::Value = serde_json::from_str(&bad.body).unwrap();
    assert_eq!(second["error"], told["error"]);
}

/// What the log does not show the library is not asked for: left alone it puts together lines for every run, and nobody reads them.
#[test]
fn onnx_runtime_writes_no_more_than_the_log_shows() {
    let model = model("affine");
    let about_sessions = |filter: &str| {
        let server = Server::start(&["--model", &model, "--log", filter, "--log-format", "json"]);
        let mut client = Client::connect(server.http).unwrap();
        let answer = client.post("/api/v1/predict", r#"{"features":[1,2,3,4]}"#).unwrap();
        assert_eq!(answer.status, 200);
        server.signal("TERM");
        let log = server.end().log;
        let lines = log.lines().filter(|line| line.contains("\"target\":\"ort::logging\""));
        lines.filter(|line| line.to_lowercase().contains("session")).count()
    };
    // Its lines are of our level info, whichever they are: only the library itself leaves them out.
    assert_eq!(about_sessions("ort=info"), 0);
    let all = about_sessions("ort=debug");
    assert!(all > 3, "{all} lines");
}
