//! The binary tensor extension: bytes behind the document, both ways, and what is answered when sizes lie.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};

use crate::support::{Answer, Server, config, server};

async fn send(server: &Server, path: &str, document: &str, tail: &[u8]) -> Answer {
    let body = [document.as_bytes(), tail].concat();
    let request = Request::post(path)
        .header("content-type", "application/octet-stream")
        .header("inference-header-content-length", document.len());
    server.call(request.body(Full::new(Bytes::from(body))).unwrap()).await
}

/// The document and the bytes behind it.
fn parts(answer: &Answer) -> (Value, Bytes) {
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.headers["content-type"], "application/octet-stream");
    let length: usize = answer.headers["inference-header-content-length"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    (
        serde_json::from_slice(&answer.bytes[..length]).unwrap(),
        answer.bytes.slice(length..),
    )
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[tokio::test]
async fn golden_of_both_directions() {
    let server = server(&config(&["affine"]));
    let document = r#"{"id":"7","inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","parameters":{"binary_data_size":16}}],"parameters":{"binary_data_output":true,"priority":3}}"#;
    let answer = send(
        &server,
        "/v2/models/affine/versions/1/infer",
        document,
        &floats(&[1.0, 2.0, 3.0, 4.0]),
    )
    .await;
    let head = r#"{"model_name":"affine","model_version":"1","id":"7","outputs":[{"name":"y","datatype":"FP32","shape":[1,3],"parameters":{"binary_data_size":12}}]}"#;
    let expected = [head.as_bytes(), &floats(&[30.0, 31.0, 302.0])].concat();
    assert_eq!(answer.bytes, expected, "{}", answer.text);
    assert_eq!(
        answer.headers["inference-header-content-length"],
        head.len().to_string().as_str()
    );
    // An output's own word stands above the request's, either way round.
    let document = r#"{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","parameters":{"binary_data_size":16}}],"outputs":[{"name":"y","parameters":{"binary_data":false}}],"parameters":{"binary_data_output":true}}"#;
    let answer = send(
        &server,
        "/v2/models/affine/infer",
        document,
        &floats(&[1.0, 2.0, 3.0, 4.0]),
    )
    .await;
    assert_eq!(
        answer.text,
        r#"{"model_name":"affine","model_version":"1","outputs":[{"name":"y","datatype":"FP32","shape":[1,3],"data":[30.0,31.0,302.0]}]}"#
    );
    assert_eq!(answer.headers["content-type"], "application/json");
    // JSON in, bytes out.
    let document = r#"{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}],"outputs":[{"name":"y","parameters":{"binary_data":true}}]}"#;
    let (_, tail) = parts(&server.post("/v2/models/affine/infer", document).await);
    assert_eq!(tail, floats(&[30.0, 31.0, 302.0]));
    assert_eq!(
        server.get("/v2").await.json()["extensions"],
        json!(["binary_tensor_data", "statistics"])
    );
}

#[tokio::test]
async fn what_json_cannot_say_travels_as_bytes() {
    let server = server(&config(&["affine"]));
    let document = r#"{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","parameters":{"binary_data_size":16}}],"parameters":{"binary_data_output":true}}"#;
    let answer = send(
        &server,
        "/v2/models/affine/infer",
        document,
        &floats(&[f32::INFINITY, 0.0, 0.0, 0.0]),
    )
    .await;
    assert_eq!(parts(&answer).1, floats(&[f32::INFINITY; 3]));
}

#[tokio::test]
async fn every_datatype_travels_as_bytes_and_mixed_with_json() {
    let server = server(&config(&["echo"]));
    let rows: Vec<(&str, Vec<u8>)> = vec![
        ("BOOL", vec![1, 0]),
        ("UINT8", vec![0, 255]),
        ("UINT16", vec![0, 0, 255, 255]),
        ("UINT32", vec![0, 0, 0, 0, 255, 255, 255, 255]),
        (
            "UINT64",
            [0, u64::MAX].iter().flat_map(|value| value.to_le_bytes()).collect(),
        ),
        ("INT8", vec![128, 127]),
        (
            "INT16",
            [i16::MIN, 5].iter().flat_map(|value| value.to_le_bytes()).collect(),
        ),
        (
            "INT32",
            [i32::MIN, 5].iter().flat_map(|value| value.to_le_bytes()).collect(),
        ),
        (
            "INT64",
            [i64::MIN, 5].iter().flat_map(|value| value.to_le_bytes()).collect(),
        ),
        ("FP16", vec![0, 0x3c, 0, 0xfc]),
        ("FP32", floats(&[0.1, f32::NEG_INFINITY])),
        (
            "FP64",
            [0.1f64, -1e308].iter().flat_map(|value| value.to_le_bytes()).collect(),
        ),
        ("BYTES", b"\x02\0\0\0\xc3\xa9\0\0\0\0".to_vec()),
    ];
    let inputs: Vec<Value> = rows
        .iter()
        .map(|(datatype, bytes)| {
            json!({"name": format!("in_{}", datatype.to_lowercase()), "datatype": datatype, "shape": [1, 2],
                   "parameters": {"binary_data_size": bytes.len()}})
        })
        .collect();
    let tail: Vec<u8> = rows.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
    let document = json!({"inputs": inputs, "parameters": {"binary_data_output": true}}).to_string();
    let (head, answered) = parts(&send(&server, "/v2/models/echo/infer", &document, &tail).await);
    assert_eq!(answered, tail);
    for (output, (datatype, bytes)) in head["outputs"].as_array().unwrap().iter().zip(&rows) {
        assert_eq!(output["datatype"], *datatype);
        assert_eq!(output["parameters"], json!({"binary_data_size": bytes.len()}));
        assert!(output.get("data").is_none());
    }
    // One input as JSON among bytes; the outputs in another order, bytes only where asked.
    let mut mixed = inputs.clone();
    mixed[1] = json!({"name": "in_uint8", "datatype": "UINT8", "shape": [1, 2], "data": [7, 8]});
    let tail: Vec<u8> = rows
        .iter()
        .filter(|(datatype, _)| *datatype != "UINT8")
        .flat_map(|(_, bytes)| bytes.clone())
        .collect();
    let outputs = json!([
        {"name": "out_int8", "parameters": {"binary_data": true}},
        {"name": "out_uint8"},
        {"name": "out_bool", "parameters": {"binary_data": true, "classification": 0}},
    ]);
    let document = json!({"inputs": mixed, "outputs": outputs}).to_string();
    let (head, answered) = parts(&send(&server, "/v2/models/echo/infer", &document, &tail).await);
    assert_eq!(head["outputs"][1]["data"], json!([7, 8]));
    assert_eq!(answered[..], [128, 127, 1, 0]);
}

#[tokio::test]
async fn bf16_travels_as_bytes() {
    let server = server(&config(&["bf16"]));
    // 1, -infinity, a number that FP16 does not hold, and a NaN, bit for bit.
    let tail = [0x80, 0x3f, 0x80, 0xff, 0x7f, 0x7f, 0xc1, 0x7f];
    let document = |size: usize| {
        let input =
            json!({"name": "in_bf16", "datatype": "BF16", "shape": [2, 2], "parameters": {"binary_data_size": size}});
        json!({"inputs": [input], "parameters": {"binary_data_output": true}}).to_string()
    };
    let (head, answered) = parts(&send(&server, "/v2/models/bf16/infer", &document(8), &tail).await);
    assert_eq!(answered[..], tail);
    assert_eq!(head["outputs"][0]["datatype"], "BF16");
    let refused = send(&server, "/v2/models/bf16/infer", &document(7), &tail[..7]).await;
    assert_eq!(
        (refused.status, refused.error().as_str()),
        (
            400,
            "input \"in_bf16\": shape [2, 2] of BF16 takes 8 bytes, its binary data has 7"
        )
    );
}

#[tokio::test]
async fn sizes_that_lie() {
    let server = server(&config(&["affine", "tokens"]));
    let document = |size: &str, shape: &str| {
        format!(
            r#"{{"inputs":[{{"name":"x","shape":{shape},"datatype":"FP32","parameters":{{"binary_data_size":{size}}}}}]}}"#
        )
    };
    for (size, shape, tail, error) in [
        (
            "16",
            "[1,4]",
            12,
            "input \"x\": binary_data_size is 16, the body has 12 bytes left",
        ),
        ("16", "[1,4]", 20, "the body has 4 bytes that belong to no input"),
        (
            "12",
            "[1,4]",
            12,
            "input \"x\": shape [1, 4] of FP32 takes 16 bytes, its binary data has 12",
        ),
        (
            "32",
            "[1,4]",
            32,
            "input \"x\": shape [1, 4] of FP32 takes 16 bytes, its binary data has 32",
        ),
        ("16", "[4]", 16, "input \"x\": expected shape [-1, 4], got [4]"),
        (
            "16",
            "[9223372036854775807,4]",
            16,
            "input \"x\": shape [9223372036854775807, 4] of FP32 takes more bytes than memory can hold, its binary data has 16",
        ),
        (
            "18446744073709551616",
            "[1,4]",
            16,
            "binary_data_size: 18446744073709551616 is no size",
        ),
        ("1.5", "[1,4]", 16, "binary_data_size: 1.5 is no size"),
        ("0", "[0,4]", 0, "the first dimension is 0: nothing to predict"),
    ] {
        let answer = send(
            &server,
            "/v2/models/affine/infer",
            &document(size, shape),
            &vec![0; tail],
        )
        .await;
        assert_eq!((answer.status, answer.error().as_str()), (400, error), "{size} {shape}");
    }
    for (header, error) in [
        (
            "999",
            "the header inference-header-content-length announces 999 bytes, the body has 2",
        ),
        (
            "-1",
            "the header inference-header-content-length: \"-1\" is no number of bytes",
        ),
        (
            "x",
            "the header inference-header-content-length: \"x\" is no number of bytes",
        ),
        ("0", "invalid JSON at byte 0: expected an object (infer request)"),
    ] {
        let request = Request::post("/v2/models/affine/infer").header("inference-header-content-length", header);
        let answer = server.call(request.body(Full::from("{}")).unwrap()).await;
        assert_eq!((answer.status, answer.error().as_str()), (400, error));
    }
    let one = send(
        &server,
        "/v2/models/affine/infer",
        &document("16", "[1,4]"),
        &floats(&[1.0, 2.0, 3.0, 4.0]),
    )
    .await;
    assert_eq!(
        one.json()["outputs"][0]["data"],
        json!([30.0, 31.0, 302.0]),
        "and the server goes on"
    );
}
