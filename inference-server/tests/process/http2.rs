//! HTTP/2 by prior knowledge on the serving port, and what a client may not do with it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::grpc::runtime;
use crate::support::{Client, Server, configured, model};

const BODY: &str = r#"{"features":[1,2,3,4]}"#;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn server() -> Server {
    Server::start(&["--model", &model("affine")])
}

#[test]
fn many_streams_share_a_connection_and_each_gets_its_own_answer() {
    let server = server();
    runtime().block_on(async {
        let stream = tokio::net::TcpStream::connect(server.http).await.unwrap();
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let mut calls = tokio::task::JoinSet::new();
        for number in 0..500 {
            let mut sender = sender.clone();
            calls.spawn(async move {
                let body = Bytes::from(format!("{{\"features\":[{number},0,0,0]}}"));
                let request = Request::post("http://test/api/v1/predict")
                    .body(Full::new(body))
                    .unwrap();
                sender.ready().await.unwrap();
                let answer = sender.send_request(request).await.unwrap();
                assert_eq!((answer.status().as_u16(), answer.version()), (200, Version::HTTP_2));
                let body = answer.into_body().collect().await.unwrap().to_bytes();
                let expected = format!("{{\"prediction\":[{number}.0,");
                assert!(body.starts_with(expected.as_bytes()), "{body:?}");
            });
        }
        calls.join_all().await;
    });
    let metrics = Client::connect(server.admin).unwrap().get("/metrics").unwrap().body;
    assert!(metrics.contains("http_requests_total{route=\"/api/v1/predict\",method=\"POST\",code=\"200\"} 500"));
}

/// Closed is a connection of which hyper's client, which answers every ping, says that it has ended.
#[test]
fn a_connection_without_calls_is_closed_at_the_idle_timeout_and_one_with_a_call_is_not() {
    let path = model("affine");
    let server = configured(&serde_json::json!({
        "models": [{"name": "affine", "path": path.split_once('=').unwrap().1}],
        "limits": {"idleTimeoutSeconds": 1},
    }));
    let patience = Duration::from_secs(20);
    runtime().block_on(async {
        let connect = async || {
            let stream = tokio::net::TcpStream::connect(server.http).await.unwrap();
            let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .unwrap();
            (sender, tokio::spawn(connection))
        };
        let (_idle, ended) = connect().await;
        let begun = tokio::time::Instant::now();
        let ended = tokio::time::timeout(patience, ended).await.expect("it is closed");
        ended.unwrap().unwrap();
        assert!(begun.elapsed() >= Duration::from_millis(900), "{:?}", begun.elapsed());

        // A call that takes three times as long.
        let (mut sender, ended) = connect().await;
        let (parts, body) = tokio::sync::mpsc::channel::<&str>(1);
        let body = futures::stream::unfold(body, async |mut parts| {
            let part = parts.recv().await?;
            Some((Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from(part))), parts))
        });
        let request = Request::post("http://test/api/v1/predict").body(StreamBody::new(body).boxed_unsync());
        let answer = tokio::spawn(sender.send_request(request.unwrap()));
        let (first, second) = BODY.split_at(10);
        parts.send(first).await.unwrap();
        // The pace of a slow client.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let quick = Request::get("http://test/health").body(Empty::new().boxed_unsync());
        let quick = sender.send_request(quick.unwrap()).await;
        assert_eq!(quick.expect("nobody has said that the connection ends").status(), 200);
        parts.send(second).await.unwrap();
        drop(parts);
        let answer = tokio::time::timeout(patience, answer).await.unwrap().unwrap().unwrap();
        assert_eq!(answer.status(), 200);
        let ended = tokio::time::timeout(patience, ended)
            .await
            .expect("it is closed afterwards");
        ended.unwrap().unwrap();
    });
}

/// A frame: length, kind, flags, stream, payload.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The next frame's kind and payload; `None` when the connection is closed.
fn read_frame(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).ok()?;
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    stream.read_exact(&mut payload).ok()?;
    Some((head[3], payload))
}

fn connect(server: &Server) -> TcpStream {
    let mut stream = TcpStream::connect(server.http).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(&[PREFACE, &frame(4, 0, 0, &[])].concat()).unwrap();
    stream
}

#[test]
fn the_limits_are_announced() {
    let server = server();
    let mut stream = connect(&server);
    let settings = loop {
        let (kind, payload) = read_frame(&mut stream).unwrap();
        if kind == 4 && !payload.is_empty() {
            break payload;
        }
    };
    let value = |id: u16| {
        let pair = settings.chunks(6).find(|pair| pair[..2] == id.to_be_bytes());
        pair.map(|pair| u32::from_be_bytes(pair[2..].try_into().unwrap()))
    };
    assert_eq!(value(3), Some(256), "streams at once: {settings:?}");
    assert_eq!(value(6), Some(64 * 1024), "bytes of a head: {settings:?}");
}

#[test]
fn a_client_that_opens_and_resets_is_sent_away() {
    let server = server();
    let mut stream = connect(&server);
    // :method POST, :scheme http, :path /api/v1/predict, :authority t; then a reset at once.
    let path = b"/api/v1/predict";
    let head = [&[0x83, 0x86, 0x04, path.len() as u8][..], path, &[0x01, 1, b't']].concat();
    let attack: Vec<u8> = (0..2000u32)
        .flat_map(|number| {
            let id = number * 2 + 1;
            [frame(1, 4, id, &head), frame(3, 0, id, &8u32.to_be_bytes())].concat()
        })
        .collect();
    // The server may close while we are still sending.
    let _ = stream.write_all(&attack);
    let mut reason = None;
    let sent = tidewright_server::clock::now();
    while let Some((kind, payload)) = read_frame(&mut stream) {
        if kind == 7 {
            reason = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
        }
    }
    // Not the end of our patience: the server has closed.
    assert!(sent.elapsed() < Duration::from_secs(20));
    // What it said last may be lost in the reset of the connection.
    if let Some(reason) = reason {
        assert_eq!(reason, 11, "ENHANCE_YOUR_CALM");
    }
    let answer = Client::connect(server.http)
        .unwrap()
        .post("/api/v1/predict", BODY)
        .unwrap();
    assert_eq!(answer.status, 200, "and others are served");
}
