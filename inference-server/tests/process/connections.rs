//! What happens on the wire: keep-alive, pipelining, slow and rude clients.

use std::time::Duration;

use crate::support::{Client, Server, model, request};

const BODY: &str = r#"{"features":[1,2,3,4]}"#;
const GOOD: &str = r#"{"prediction":[30.0,31.0,302.0],"model_name":"affine","model_version":"1"}"#;

fn server(arguments: &[&str]) -> Server {
    let model = model("affine");
    let mut all = vec!["--model", &model];
    all.extend(arguments);
    Server::start(&all)
}

#[test]
fn connections_are_kept_and_pipelined_requests_are_answered_in_order() {
    let server = server(&[]);
    let mut client = Client::connect(server.http).unwrap();
    for _ in 0..3 {
        let answer = client.post("/api/v1/predict", BODY).unwrap();
        assert_eq!((answer.status, answer.closes, answer.body.as_str()), (200, false, GOOD));
    }
    let mut all = Vec::new();
    for number in 0..16 {
        all.extend(request(
            "/api/v1/predict",
            &format!("{{\"features\":[{number},0,0,0]}}"),
        ));
    }
    client.send(&all).unwrap();
    for number in 0..16 {
        let answer = client.answer().unwrap();
        assert!(
            answer.body.starts_with(&format!("{{\"prediction\":[{number}.0,")),
            "{}",
            answer.body
        );
    }
}

#[test]
fn a_body_that_is_too_long_is_refused_without_reading_it() {
    let server = server(&[]);
    let mut client = Client::connect(server.http).unwrap();
    client
        .send(b"POST /api/v1/predict HTTP/1.1\r\nhost: t\r\ncontent-length: 99999999999\r\n\r\n")
        .unwrap();
    let answer = client.answer().unwrap();
    assert_eq!((answer.status, answer.closes), (413, true));
    // Who asks first is answered before sending anything.
    let mut client = Client::connect(server.http).unwrap();
    client
        .send(
            b"POST /api/v1/predict HTTP/1.1\r\nhost: t\r\nexpect: 100-continue\r\ncontent-length: 99999999999\r\n\r\n",
        )
        .unwrap();
    assert_eq!(client.answer().unwrap().status, 413);
}

#[test]
fn a_slow_body_ends_at_the_timeout_and_a_slow_head_at_the_idle_timeout() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("server.json");
    let model = model("affine");
    let config = serde_json::json!({
        "models": [{"name": "affine", "path": model.split_once('=').unwrap().1}],
        "limits": {"timeoutSeconds": 1, "idleTimeoutSeconds": 1},
    });
    std::fs::write(&file, config.to_string()).unwrap();
    let server = Server::start(&["--config", file.to_str().unwrap()]);
    let mut slow_body = Client::connect(server.http).unwrap();
    let started = tidewright_server::clock::now();
    slow_body
        .send(b"POST /api/v1/predict HTTP/1.1\r\nhost: t\r\ncontent-length: 100\r\n\r\n{")
        .unwrap();
    let answer = slow_body.answer().unwrap();
    assert_eq!((answer.status, answer.closes), (408, true));
    let mut slow_head = Client::connect(server.http).unwrap();
    slow_head.send(b"POST /api").unwrap();
    let mut idle = Client::connect(server.http).unwrap();
    assert_eq!(idle.get("/health").unwrap().status, 200);
    assert!(slow_head.answer().is_err() || slow_head.is_closed());
    assert!(idle.is_closed());
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn noise_is_answered_with_400_and_the_server_goes_on() {
    let server = server(&[]);
    for noise in [
        &b"\x16\x03\x01\x02\x00\x01\x00"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n\r\n\r\n",
        b"POST /api/v1/predict HTTP/1.1\r\ncontent-length: x\r\n\r\n",
    ] {
        let mut client = Client::connect(server.http).unwrap();
        client.send(noise).unwrap();
        client.finish().unwrap();
        if let Ok(answer) = client.answer() {
            assert_eq!(answer.status, 400, "{answer:?}");
        }
    }
    assert_eq!(
        Client::connect(server.http)
            .unwrap()
            .post("/api/v1/predict", BODY)
            .unwrap()
            .body,
        GOOD
    );
}

#[test]
fn who_asks_first_is_told_to_go_on() {
    let server = server(&[]);
    let mut client = Client::connect(server.http).unwrap();
    let head = format!(
        "POST /api/v1/predict HTTP/1.1\r\nhost: t\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        BODY.len()
    );
    client.send(head.as_bytes()).unwrap();
    assert_eq!(client.answer().unwrap().status, 100);
    client.send(BODY.as_bytes()).unwrap();
    let answer = client.answer().unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, GOOD));
}

#[test]
fn a_head_that_is_too_long_is_refused() {
    let server = server(&[]);
    let mut client = Client::connect(server.http).unwrap();
    let long = format!("GET /health HTTP/1.1\r\nhost: t\r\nx: {}\r\n\r\n", "y".repeat(70_000));
    // The server may close while we are still sending.
    let _ = client.send(long.as_bytes());
    // What it said may be lost in the reset of the connection.
    let answer = client.answer();
    assert!(
        answer.as_ref().map_or(true, |answer| answer.status == 431),
        "{answer:?}"
    );
    assert!(answer.is_err() || client.is_closed());
    let fits = format!("GET /health HTTP/1.1\r\nhost: t\r\nx: {}\r\n\r\n", "y".repeat(60_000));
    let mut client = Client::connect(server.http).unwrap();
    client.send(fits.as_bytes()).unwrap();
    assert_eq!(client.answer().unwrap().status, 200);
}
