//! The same documents as msgpack, in and out, on every protocol over HTTP.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};

use crate::support::{Answer, Server, config, server};

async fn post(server: &Server, path: &str, document: &Value) -> Answer {
    let request = Request::post(path)
        .header("content-type", "application/msgpack")
        .header("accept", "application/msgpack");
    let body = rmp_serde::to_vec_named(document).unwrap();
    server.call(request.body(Full::from(body)).unwrap()).await
}

fn read(answer: &Answer) -> Value {
    assert_eq!(answer.headers["content-type"], "application/msgpack");
    rmp_serde::from_slice(&answer.bytes).unwrap_or_else(|error| panic!("{error}: {:x?}", answer.bytes))
}

#[tokio::test]
async fn every_protocol_speaks_it_both_ways() {
    let server = server(&config(&["affine", "tokens"]));
    for (path, request) in [
        ("/api/v1/predict", json!({"features": [1, 2, 3, 4]})),
        (
            "/api/v1/predict/batch",
            json!({"instances": [[1, 2, 3, 4], [0.5, 0.25, 0, -1]]}),
        ),
        (
            "/v1/models/tokens:predict",
            json!({"instances": [{"ids": [1, 2], "mask": [1, 0]}]}),
        ),
        (
            "/v2/models/affine/infer",
            json!({"id": "7", "inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}),
        ),
        ("/v2/models/affine/infer", json!({"inputs": []})),
        ("/api/v1/predict", json!({"features": "x"})),
    ] {
        let as_json = server.post(path, request.to_string()).await;
        let as_msgpack = post(&server, path, &request).await;
        assert_eq!(as_msgpack.status, as_json.status, "{path}");
        assert_eq!(read(&as_msgpack), as_json.json(), "{path}");
    }
    for path in ["/v2", "/v2/models/affine", "/v1/models", "/health", "/v3"] {
        let request = Request::get(path).header("accept", "application/msgpack");
        let as_msgpack = server.call(request.body(Full::default()).unwrap()).await;
        assert_eq!(read(&as_msgpack), server.get(path).await.json(), "{path}");
    }
}

#[tokio::test]
async fn golden_of_the_bytes() {
    let server = server(&config(&["affine"]));
    let request = Request::post("/api/v1/predict")
        .header("content-type", "application/msgpack")
        .header("accept", "application/msgpack");
    // {"features": [1, 2, 3, 4.0 (single)]}
    let body = Bytes::from_static(b"\x81\xa8features\x94\x01\x02\x03\xca\x40\x80\0\0");
    let answer = server.call(request.body(Full::new(body)).unwrap()).await;
    // {"prediction": [30.0, 31.0, 302.0] (singles), "model_name": "affine", "model_version": "1"}
    let expected = b"\x83\xaaprediction\x93\xca\x41\xf0\0\0\xca\x41\xf8\0\0\xca\x43\x97\0\0\xaamodel_name\xa6affine\xadmodel_version\xa11";
    assert_eq!(answer.bytes, expected[..], "{:x?}", answer.bytes);
}

#[tokio::test]
async fn one_side_may_be_json_and_bytes_may_follow() {
    let server = server(&config(&["affine"]));
    let document = rmp_serde::to_vec_named(&json!({
        "inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "parameters": {"binary_data_size": 16}}],
        "outputs": [{"name": "y", "parameters": {"binary_data": false}}],
    }))
    .unwrap();
    let tail: Vec<u8> = [1f32, 2.0, 3.0, 4.0]
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let request = Request::post("/v2/models/affine/infer")
        .header("content-type", "application/x-msgpack")
        .header("inference-header-content-length", document.len());
    let body = [document, tail].concat();
    let answer = server.call(request.body(Full::from(body)).unwrap()).await;
    assert_eq!(answer.json()["outputs"][0]["data"], json!([30.0, 31.0, 302.0]));
}

#[tokio::test]
async fn what_json_cannot_say_is_said() {
    let server = server(&config(&["affine"]));
    let request = Request::post("/api/v1/predict")
        .header("content-type", "application/msgpack")
        .header("accept", "application/msgpack");
    let body = rmp_serde::to_vec_named(&std::collections::BTreeMap::from([(
        "features",
        [f32::INFINITY, 0.0, 0.0, 0.0],
    )]));
    let answer = server.call(request.body(Full::from(body.unwrap())).unwrap()).await;
    #[derive(serde::Deserialize)]
    struct Prediction {
        prediction: Vec<f32>,
    }
    let read: Prediction = rmp_serde::from_slice(&answer.bytes).unwrap();
    assert_eq!(read.prediction, [f32::INFINITY; 3]);
}

#[tokio::test]
async fn bounds_hold_as_for_json() {
    let server = server(&config(&["affine"]));
    let mut deep = b"\x81\xa8features".to_vec();
    deep.extend(vec![0x91; 1_000_000]);
    let mut keys = b"\xde\xff\xff".to_vec();
    keys.extend(b"\xa1a\x01".repeat(65_535));
    for (body, error) in [
        (deep, "invalid msgpack at byte 74: nested deeper than 64"),
        (keys, "invalid msgpack at byte 3: more than 256 keys in one object"),
        (
            b"\x81\xa8features\xdd\xff\xff\xff\xff".to_vec(),
            "invalid msgpack at byte 15: expected a value of features, input \"x\"",
        ),
        (
            b"\x81\xa8features\xc6\xff\xff\xff\xff".to_vec(),
            "features, input \"x\": value 0 is a string, expected FP32",
        ),
        (
            b"\x81\xa8features\x94\x01\x02\x03\x04\x00".to_vec(),
            "invalid msgpack at byte 15: bytes after the end of the document",
        ),
    ] {
        let request = Request::post("/api/v1/predict").header("content-type", "application/msgpack");
        let answer = server.call(request.body(Full::from(body)).unwrap()).await;
        assert_eq!((answer.status, answer.error().as_str()), (400, error));
    }
}
