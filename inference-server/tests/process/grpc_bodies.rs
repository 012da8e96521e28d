//! Bodies of calls over gRPC: what they may hold together, and how long they may take.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use serde_json::json;
use tidewright_contract::routes;
use tidewright_server::protocols::pb::ModelInferRequest;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::grpc::{inference, request, runtime};
use crate::support::{Client, Server, configured, model};

type Sender = SendRequest<BoxBody<Bytes, Infallible>>;

fn server(timeout_seconds: u32) -> Server {
    let of = |name: &str| json!({"name": name, "path": model(name).split_once('=').unwrap().1});
    configured(&json!({
        "models": [of("affine"), of("slow")],
        "limits": {"timeoutSeconds": timeout_seconds, "bodyBytesMax": 8192, "bodiesBytesMax": 8192},
    }))
}

/// One item for the model, and an id of so many bytes.
fn padded(model: &str, items: usize, id_bytes: usize) -> ModelInferRequest {
    let width = if model == "affine" { 4 } else { 1 };
    let mut request = request(model, &"x".repeat(id_bytes), &vec![1.0; items * width]);
    request.inputs[0].shape = vec![i64::try_from(items).unwrap(), i64::try_from(width).unwrap()];
    request
}

/// As it is sent in a call.
fn framed(request: &ModelInferRequest) -> Bytes {
    let message = request.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0][..], &length, &message].concat().into()
}

async fn connect(address: SocketAddr) -> Sender {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

/// A call that sends these bytes and then nothing more, nor an end.
async fn stall(sender: Sender, path: &str, bytes: Bytes) -> Response<Incoming> {
    let begun = stream::iter([Ok(Frame::data(bytes))]);
    call(
        sender,
        path,
        BoxBody::new(StreamBody::new(begun.chain(stream::pending()))),
    )
    .await
}

async fn call(mut sender: Sender, path: &str, body: BoxBody<Bytes, Infallible>) -> Response<Incoming> {
    let request = Request::post(format!("http://test{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)
        .unwrap();
    within(sender.send_request(request)).await.unwrap()
}

/// Nobody waits for ever, whatever goes wrong.
async fn within<F: Future>(waits: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(30), waits).await.unwrap()
}

async fn infer(server: &Server, request: ModelInferRequest) -> Result<(), Status> {
    inference(server).await.model_infer(request).await.map(drop)
}

/// Asks until the answer is so.
async fn until(server: &Server, what: &str, is_it: impl Fn(Result<(), Status>) -> bool) {
    for _ in 0..200 {
        if is_it(infer(server, padded("affine", 1, 4000)).await) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("still not {what}");
}

fn is_refused(answer: Result<(), Status>) -> bool {
    let Err(status) = answer else { return false };
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(status.message().contains("bodies of other requests"), "{status:?}");
    assert!(status.get_details_retry_info().is_some(), "{status:?}");
    true
}

#[test]
fn a_message_of_millions_of_empty_parts_is_refused_in_bounded_memory() {
    const MIB: u64 = 1024 * 1024;
    let model = model("affine");
    let server = Server::start(&["--model", &model]);
    let before = server.peak_memory_bytes();
    // Inputs, requested outputs, raw contents, parameters, and texts of one input.
    let texts = |count: usize| {
        let contents = [0x42, 0].repeat(count);
        let request = ModelInferRequest {
            inputs: vec![tidewright_server::protocols::pb::model_infer_request::InferInputTensor::default()],
            ..ModelInferRequest::default()
        };
        assert_eq!(request.encode_to_vec(), [0x2a, 0]);
        let length = |bytes: usize| {
            let mut varint = Vec::new();
            prost::encoding::encode_varint(bytes as u64, &mut varint);
            varint
        };
        let input = [&[0x2a][..], &length(contents.len()), &contents].concat();
        [&[0x2a][..], &length(input.len()), &input].concat()
    };
    let mut messages: Vec<Vec<u8>> = [0x2a, 0x32, 0x3a, 0x22].map(|tag| [tag, 0].repeat(7 << 20)).into();
    messages.push(texts(7 << 20));
    runtime().block_on(async {
        for message in messages {
            let length = u32::try_from(message.len()).unwrap().to_be_bytes();
            let framed: Bytes = [&[0][..], &length, &message].concat().into();
            let body = BoxBody::new(http_body_util::Full::new(framed));
            let answer = call(connect(server.grpc).await, routes::GRPC_MODEL_INFER, body).await;
            let status = answer.headers().get("grpc-status").unwrap();
            assert_eq!(
                status,
                &(Code::InvalidArgument as i32).to_string(),
                "tag {}",
                message[0]
            );
        }
    });
    let grown = server.peak_memory_bytes() - before;
    // A message of 14 MiB, and what it is collected in.
    assert!(grown < 128 * MIB, "grew by {} MiB", grown / MIB);
}

#[test]
fn what_is_not_whole_takes_the_room_of_others_and_gives_it_back() {
    let server = server(60);
    runtime().block_on(async {
        let begun = framed(&padded("affine", 1, 7000)).slice(..6000);
        for path in [routes::GRPC_MODEL_INFER, routes::GRPC_STREAM_INFER] {
            let client = runtime();
            let (begun, address) = (begun.clone(), server.grpc);
            client.spawn(async move {
                // One that comes while a question of ours has the room is refused itself, and comes again.
                loop {
                    let mut answer = stall(connect(address).await, path, begun.clone()).await.into_body();
                    while answer.frame().await.is_some_and(|frame| frame.is_ok()) {}
                }
            });
            until(&server, "refused", is_refused).await;
            // Its connection goes with all that it runs on.
            client.shutdown_background();
            until(&server, "answered", |answer| answer.is_ok()).await;
        }
        for _ in 0..10 {
            infer(&server, padded("affine", 1, 4000)).await.unwrap();
        }
    });
}

#[test]
fn what_is_computed_takes_the_room_of_others() {
    let server = server(60);
    runtime().block_on(async {
        let mut client = inference(&server).await;
        let long = tokio::spawn(async move { client.model_infer(padded("slow", 30, 6000)).await });
        within(async {
            while !metrics(&server).contains("ml_requests_in_flight 1") {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        assert!(is_refused(infer(&server, padded("affine", 1, 4000)).await));
        let message = stream::iter([padded("affine", 1, 4000), padded("affine", 1, 0)]);
        let answers = inference(&server).await.model_stream_infer(message).await.unwrap();
        let answers: Vec<String> = answers
            .into_inner()
            .map(|answer| answer.unwrap().error_message)
            .collect()
            .await;
        assert!(answers[0].contains("bodies of other requests"), "{answers:?}");
        assert_eq!(answers[1], "", "what is small still fits");
        long.await.unwrap().unwrap();
        infer(&server, padded("affine", 1, 4000)).await.unwrap();
    });
}

fn metrics(server: &Server) -> String {
    Client::connect(server.admin).unwrap().get("/metrics").unwrap().body
}

#[test]
fn a_message_that_comes_too_slowly_ends_its_call_and_a_stream_may_rest() {
    let server = server(1);
    runtime().block_on(async {
        let whole = framed(&padded("affine", 1, 10));
        let begun = whole.slice(..whole.len() - 1);
        // A call of one message must end, too: until then the message is held.
        for bytes in [begun.clone(), whole.clone()] {
            let answer = stall(connect(server.grpc).await, routes::GRPC_MODEL_INFER, bytes).await;
            assert_eq!(answer.headers()["grpc-status"], "4", "{answer:?}");
        }
        let answer = stall(connect(server.grpc).await, routes::GRPC_STREAM_INFER, begun).await;
        let mut answer = answer.into_body();
        let trailers = loop {
            let frame = within(answer.frame()).await.unwrap().unwrap();
            if let Ok(trailers) = frame.into_trailers() {
                break trailers;
            }
        };
        assert_eq!(trailers["grpc-status"], "4", "{trailers:?}");
        let rests = stream::iter(0..3).then(|number| async move {
            tokio::time::sleep(Duration::from_millis(1500 * number)).await;
            padded("affine", 1, 10)
        });
        let answers = inference(&server).await.model_stream_infer(rests).await.unwrap();
        let answers: Vec<_> = answers.into_inner().collect().await;
        assert!(
            answers.len() == 3
                && answers
                    .iter()
                    .all(|answer| answer.as_ref().is_ok_and(|answer| answer.error_message.is_empty())),
            "{answers:?}"
        );
    });
}
