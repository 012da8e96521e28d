//! SIGTERM under load: whatever the server accepted is answered.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::support::{Client, Running, Server, command, model, path, request};

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for a condition; fails when it does not come.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = tidewright_server::clock::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "waited for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until so many requests have come: a count that only grows, unlike that of those who wait.
fn await_received(admin: &mut Client, requests: u32) {
    let line = format!("http_requests_received_total{{route=\"/api/v1/predict\"}} {requests}\n");
    until("the requests to be received", || {
        admin.get("/metrics").unwrap().body.contains(&line)
    });
}

/// What became of the requests of one client.
#[derive(Debug, Default)]
struct Tally {
    answered: AtomicUsize,
    /// Sent in full and not answered.
    lost: AtomicUsize,
    closed_by_answer: AtomicUsize,
}

/// Sends one request after the other, never one twice. A connection on which an answer said "close" is left. When the server is `removed` from the
/// endpoints no new connection is opened, as Kubernetes does some time after readiness went false.
fn load(server: &Server, body: &str, tally: &Tally, removed: &AtomicBool) {
    let mut client: Option<Client> = None;
    loop {
        let connection = match client.take() {
            Some(connection) => Ok(connection),
            None if removed.load(Ordering::Relaxed) => return,
            None => Client::connect(server.http),
        };
        // A refused connection is no accepted request: nothing was sent.
        let Ok(mut connection) = connection else { return };
        let Ok(answer) = connection.post("/api/v1/predict", body) else {
            tally.lost.fetch_add(1, Ordering::Relaxed);
            return;
        };
        assert_eq!(answer.status, 200, "{}", answer.body);
        tally.answered.fetch_add(1, Ordering::Relaxed);
        if answer.closes {
            tally.closed_by_answer.fetch_add(1, Ordering::Relaxed);
        } else {
            client = Some(connection);
        }
    }
}

#[test]
fn under_load_no_request_is_lost() {
    for (name, body) in [("affine", r#"{"features":[1,2,3,4]}"#), ("slow", r#"{"features":[1]}"#)] {
        let model = model(name);
        let server = Server::start(&[
            "--model",
            &model,
            "--drain-grace-seconds",
            "5",
            "--drain-timeout-seconds",
            "20",
        ]);
        let tally = Tally::default();
        let removed = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| load(&server, body, &tally, &removed));
            }
            until("50 answers", || tally.answered.load(Ordering::Relaxed) >= 50);
            server.signal("TERM");
            // During the grace readiness is false while requests are still served.
            let mut admin = Client::connect(server.admin).unwrap();
            until("readiness to go", || admin.get("/ready").unwrap().status != 200);
            assert!(admin.get("/ready").unwrap().body.contains("\"state\":\"draining\""));
            assert_eq!(admin.get("/live").unwrap().status, 200);
            let answer = Client::connect(server.http)
                .unwrap()
                .post("/api/v1/predict", body)
                .unwrap();
            assert_eq!((answer.status, answer.closes), (200, true));
            // News travels: for a while connections are still opened.
            let before = tally.answered.load(Ordering::Relaxed);
            until("5 more answers", || {
                tally.answered.load(Ordering::Relaxed) >= before + 5
            });
            removed.store(true, Ordering::Relaxed);
        });
        let ended = server.end();
        assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
        assert_eq!(
            tally.lost.load(Ordering::Relaxed),
            0,
            "{name}: {tally:?}\n{}",
            ended.log
        );
        assert!(
            tally.closed_by_answer.load(Ordering::Relaxed) >= 8,
            "{name}: clients are sent elsewhere: {tally:?}"
        );
    }
}

#[test]
fn what_waits_in_the_queue_is_answered_before_the_end() {
    let model = model("slow");
    let server = Server::start(&["--model", &model, "--max-batch-size", "1"]);
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..20)
            .map(|number| {
                let server = &server;
                scope.spawn(move || {
                    let answer = Client::connect(server.http)
                        .unwrap()
                        .post("/api/v1/predict", &format!("{{\"features\":[{number}]}}"));
                    let answer = answer.unwrap();
                    assert!(
                        answer.body.starts_with(&format!("{{\"prediction\":[{}.0]", number * 2)),
                        "{}",
                        answer.body
                    );
                })
            })
            .collect();
        let mut admin = Client::connect(server.admin).unwrap();
        await_received(&mut admin, 20);
        server.signal("TERM");
        for call in calls {
            call.join().unwrap();
        }
    });
    let ended = server.end();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
    assert!(ended.log.contains("every accepted request was answered"));
}

#[test]
fn the_drain_timeout_ends_it_and_the_lost_are_counted() {
    let model = model("slow");
    let server = Server::start(&[
        "--model",
        &model,
        "--max-batch-size",
        "1",
        "--drain-timeout-seconds",
        "1",
    ]);
    // Far more work than fits into the timeout.
    let mut clients: Vec<Client> = (0..60).map(|_| Client::connect(server.http).unwrap()).collect();
    for client in &mut clients {
        client.send(&request("/api/v1/predict", r#"{"features":[1]}"#)).unwrap();
    }
    let mut admin = Client::connect(server.admin).unwrap();
    await_received(&mut admin, 60);
    server.signal("TERM");
    let ended = server.end();
    assert_eq!(ended.status.code(), Some(6), "{}", ended.log);
    assert!(
        ended.log.contains("DrainTimeout")
            && ended
                .log
                .contains("requests were unanswered when the drain timeout of 1 s passed"),
        "{}",
        ended.log
    );
}

/// At the limit of connections one that waits for a place is answered, and the drain does not wait for those that idle.
#[test]
fn at_the_connection_limit_the_drain_does_not_wait_for_a_place() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("server.json");
    let model = json!({"name": "affine", "path": path("tests/models/affine.onnx")});
    let file = json!({"models": [model], "limits": {"connectionsMax": 2}, "drain": {"timeoutSeconds": 20}});
    std::fs::write(&config, file.to_string()).unwrap();
    let server = Server::start(&["--config", config.to_str().unwrap()]);
    let body = r#"{"features":[1,2,3,4]}"#;
    let mut idle: Vec<Client> = (0..2).map(|_| Client::connect(server.http).unwrap()).collect();
    for client in &mut idle {
        assert_eq!(client.post("/api/v1/predict", body).unwrap().status, 200);
    }
    let mut waiting = Client::connect(server.http).unwrap();
    waiting.send(&request("/api/v1/predict", body)).unwrap();
    server.signal("TERM");
    let answer = waiting.answer().unwrap();
    assert_eq!((answer.status, answer.closes), (200, true), "{}", answer.body);
    let ended = server.end();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
}

#[test]
fn a_signal_while_loading_ends_it_at_once() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let address = format!("127.0.0.1:{port}");
    let model = model("slow");
    // Two hundred sessions to warm up: far longer than this test takes.
    let child = command(&[
        "serve",
        "--model",
        &model,
        "--workers",
        "200",
        "--http",
        "127.0.0.1:0",
        "--grpc",
        "127.0.0.1:0",
        "--admin",
        &address,
    ])
    .spawn()
    .unwrap();
    let mut child = Running(child);
    let state = || {
        Client::connect(address.parse().unwrap())
            .and_then(|mut admin| admin.get("/ready"))
            .map(|answer| answer.body)
    };
    until("it to load", || {
        assert!(child.0.try_wait().unwrap().is_none(), "ended by itself");
        state().is_ok_and(|body| body.contains("\"state\":\"warming\"") || body.contains("\"state\":\"loading\""))
    });
    assert!(state().unwrap().contains("\"waitingFor\":[\"model slow\"]"));
    let told = std::process::Command::new("kill")
        .args(["-TERM", &child.0.id().to_string()])
        .status()
        .unwrap();
    assert!(told.success());
    let asked = tidewright_server::clock::now();
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
}

#[test]
fn a_second_signal_cuts_the_grace_short() {
    let model = model("affine");
    let server = Server::start(&["--model", &model, "--drain-grace-seconds", "600"]);
    server.signal("TERM");
    let mut admin = Client::connect(server.admin).unwrap();
    until("readiness to go", || admin.get("/ready").unwrap().status != 200);
    server.signal("TERM");
    assert_eq!(server.end().status.code(), Some(0));
}
