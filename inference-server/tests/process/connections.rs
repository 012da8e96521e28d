//! What happens on the wire: keep-alive, pipelining, slow and rude clients.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::{Client, Server, configured, model, request};

const BODY: &str = r#"{"features":[1,2,3,4]}"#;
const GOOD: &str = r#"{"prediction":[30.0,31.0,302.0],"model_name":"affine","model_version":"1"}"#;

fn server(arguments: &[&str]) -> Server {
    let model = model("affine");
    let mut all = vec!["--model", &model];
    all.extend(arguments);
    Server::start(&all)
}

/// Waits a second for whatever a client does.
fn impatient() -> Server {
    let model = model("affine");
    configured(&serde_json::json!({
        "models": [{"name": "affine", "path": model.split_once('=').unwrap().1}],
        "limits": {"timeoutSeconds": 1, "idleTimeoutSeconds": 1},
    }))
}

/// Whatever one client does, the next one is answered.
fn answers_others(server: &Server) {
    let answer = Client::connect(server.http).unwrap().post("/api/v1/predict", BODY);
    assert_eq!(answer.unwrap().body, GOOD);
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
    let server = impatient();
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
fn who_says_nothing_or_not_what_he_speaks_is_sent_away_on_every_port() {
    let server = impatient();
    let started = tidewright_server::clock::now();
    let mut silent = Vec::new();
    for port in [server.http, server.grpc, server.admin] {
        for first in [&b""[..], b"P", b"PRI * HT"] {
            let mut client = Client::connect(port).unwrap();
            client.send(first).unwrap();
            silent.push((port, first, client));
        }
    }
    for (port, first, mut client) in silent {
        assert!(client.is_closed(), "{port}: {}", String::from_utf8_lossy(first));
    }
    assert!(started.elapsed() < Duration::from_secs(10));
}

/// A connection, and requests that are answered with more than the kernels on both sides take.
fn unheard(server: &Server) -> (TcpStream, Vec<u8>) {
    let stream = TcpStream::connect(server.http).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    (stream, b"GET /openapi.json HTTP/1.1\r\nhost: t\r\n\r\n".repeat(500))
}

#[test]
fn who_sends_and_does_not_read_is_sent_away_at_the_idle_timeout() {
    let server = impatient();
    let (mut deaf, requests) = unheard(&server);
    let started = tidewright_server::clock::now();
    // They are taken until there is no room for answers; then we wait, and not for ever.
    let error = loop {
        if let Err(error) = deaf.write_all(&requests) {
            break error;
        }
    };
    assert!(
        matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
        "{error:?}"
    );
    assert!(started.elapsed() < Duration::from_secs(15));
    answers_others(&server);
}

#[test]
fn who_reads_slowly_is_kept() {
    let server = impatient();
    let (mut slow, requests) = unheard(&server);
    slow.write_all(&requests).unwrap();
    let mut piece = vec![0; 64 * 1024];
    let mut read = 0;
    let started = tidewright_server::clock::now();
    // Three times the timeout.
    while started.elapsed() < Duration::from_secs(3) {
        std::thread::sleep(Duration::from_millis(10));
        read += slow.read(&mut piece).unwrap();
    }
    let first = Client::connect(server.http).unwrap().get("/openapi.json").unwrap();
    assert!(read < 500 * first.body.len(), "there was always more to read: {read}");
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
    answers_others(&server);
}

#[test]
fn what_is_no_http_is_told_so_before_its_connection_is_closed() {
    let server = server(&[]);
    for address in [server.http, server.grpc] {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(b"INVALID CONNECTION PREFACE\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{address}: {answer:?}");
    }
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
