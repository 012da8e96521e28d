//! Content codings: encoded requests are decoded up to the limit, and long answers are encoded for those who ask for it.

use async_compression::tokio::bufread::{
    BrotliDecoder, BrotliEncoder, GzipDecoder, GzipEncoder, ZlibDecoder, ZlibEncoder, ZstdDecoder, ZstdEncoder,
};
use http::Request;
use http_body_util::Full;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::support::{Answer, Server, config, server};

async fn whole(mut reader: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).await.unwrap();
    bytes
}

async fn encode(coding: &str, body: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => whole(GzipEncoder::new(body)).await,
        "deflate" => whole(ZlibEncoder::new(body)).await,
        "zstd" => whole(ZstdEncoder::new(body)).await,
        "br" => whole(BrotliEncoder::new(body)).await,
        other => panic!("{other}"),
    }
}

async fn decode(coding: &str, body: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => whole(GzipDecoder::new(body)).await,
        "deflate" => whole(ZlibDecoder::new(body)).await,
        "zstd" => whole(ZstdDecoder::new(body)).await,
        "br" => whole(BrotliDecoder::new(body)).await,
        other => panic!("{other}"),
    }
}

const CODINGS: [&str; 4] = ["gzip", "deflate", "zstd", "br"];

async fn send(server: &Server, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
    let mut request = Request::post("/api/v1/predict/batch");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    server.call(request.body(Full::from(body)).unwrap()).await
}

#[tokio::test]
async fn encoded_requests_are_read() {
    let server = server(&config(&["affine"]));
    let body = br#"{"instances":[[1,2,3,4]]}"#;
    for coding in CODINGS {
        let answer = send(&server, &[("content-encoding", coding)], encode(coding, body).await).await;
        assert_eq!(answer.json()["predictions"], json!([[30.0, 31.0, 302.0]]), "{coding}");
        assert!(answer.headers.get("content-encoding").is_none(), "nobody asked");
        let broken = send(&server, &[("content-encoding", coding)], b"{\"instances\":[]}".to_vec()).await;
        assert_eq!(
            (broken.status, broken.error()),
            (400, format!("the body is no whole {coding} stream"))
        );
    }
    for headers in [
        &[("content-encoding", "gzip, zstd")][..],
        &[("content-encoding", "gzip"), ("content-encoding", "gzip")],
        &[("content-encoding", "snappy")],
    ] {
        let answer = send(&server, headers, encode("gzip", body).await).await;
        assert_eq!(answer.status, 415, "{headers:?}");
        assert_eq!(answer.headers["accept-encoding"], "zstd, br, gzip, deflate");
    }
}

#[tokio::test]
async fn the_limit_is_on_the_decoded_bytes() {
    let mut config = config(&["affine"]);
    config.limits.body_bytes_max = 64 * 1024;
    let server = server(&config);
    let fits = format!("{{\"instances\":[[1,2,3,4]]}}{}", " ".repeat(64 * 1024 - 25));
    for coding in CODINGS {
        let encoded = encode(coding, fits.as_bytes()).await;
        assert!(encoded.len() < 1024, "{coding}");
        assert_eq!(
            send(&server, &[("content-encoding", coding)], encoded).await.status,
            200
        );
        let too_long = encode(coding, format!("{fits} ").as_bytes()).await;
        let answer = send(&server, &[("content-encoding", coding)], too_long).await;
        assert_eq!(
            (answer.status, answer.error().as_str()),
            (413, "the body is longer than the limit of 65536 bytes"),
            "{coding}"
        );
    }
}

#[tokio::test]
async fn long_answers_are_encoded_for_those_who_ask() {
    let server = server(&config(&["affine"]));
    let rows = vec![[1, 2, 3, 4]; 200];
    let body = json!({ "instances": rows }).to_string().into_bytes();
    let plain = send(&server, &[], body.clone()).await;
    for coding in CODINGS {
        let answer = send(&server, &[("accept-encoding", coding)], body.clone()).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.headers["content-encoding"], coding);
        assert_eq!(answer.headers["vary"], "accept-encoding");
        assert!(
            answer.bytes.len() < plain.bytes.len() / 4,
            "{coding}: {}",
            answer.bytes.len()
        );
        assert_eq!(decode(coding, &answer.bytes).await, plain.bytes, "{coding}");
    }
    let short = br#"{"instances":[[1,2,3,4]]}"#.to_vec();
    for (accept, body) in [("gzip", short), ("identity", body.clone()), ("gzip;q=0", body)] {
        let answer = send(&server, &[("accept-encoding", accept)], body).await;
        assert!(answer.headers.get("content-encoding").is_none(), "{accept}");
    }
}

#[tokio::test]
async fn bytes_of_tensors_are_encoded_as_a_whole() {
    let server = server(&config(&["affine"]));
    let document = r#"{"inputs":[{"name":"x","shape":[200,4],"datatype":"FP32","parameters":{"binary_data_size":3200}}],"parameters":{"binary_data_output":true}}"#;
    let body = [document.as_bytes(), &[0; 3200]].concat();
    let request = Request::post("/v2/models/affine/infer")
        .header("inference-header-content-length", document.len())
        .header("content-encoding", "gzip")
        .header("accept-encoding", "deflate");
    let answer = server
        .call(request.body(Full::from(encode("gzip", &body).await)).unwrap())
        .await;
    assert_eq!(answer.headers["content-encoding"], "deflate");
    let decoded = decode("deflate", &answer.bytes).await;
    let length: usize = answer.headers["inference-header-content-length"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    // The length is that of the document before it was encoded, as Triton's clients expect.
    assert_eq!(decoded.len(), length + 200 * 3 * 4);
}
