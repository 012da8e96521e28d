//! A corpus of bad requests: each is answered with a 4xx that says what is wrong and where, and the server goes on.

use http::Request;
use http_body_util::Full;
use proptest::prelude::*;

use crate::support::{Server, config, server};

async fn check(server: &Server, path: &str, body: &str, status: u16, error: &str) {
    let answer = server.post(path, body.to_owned()).await;
    let shown: String = body.chars().take(120).collect();
    assert_eq!(answer.status, status, "{shown}: {}", answer.text);
    assert_eq!(answer.error(), error, "{shown}");
}

fn input(fields: &str) -> String {
    format!("{{\"inputs\":[{{{fields}}}]}}")
}

#[tokio::test]
async fn infer_requests_that_do_not_fit() {
    let server = server(&config(&["affine", "tokens"]));
    let models = "the model's inputs: \"x\" FP32 [-1, 4]";
    for (body, error) in [
        (String::new(), "invalid JSON at byte 0: expected an object (infer request)".to_owned()),
        ("[]".to_owned(), "invalid JSON at byte 0: expected an object (infer request)".to_owned()),
        ("{}".to_owned(), format!("\"inputs\" is missing; {models}")),
        (r#"{"inputs":[]}"#.to_owned(), format!("input \"x\" is missing; {models}")),
        (r#"{"inputs":{}}"#.to_owned(), "invalid JSON at byte 10: expected an array (inputs)".to_owned()),
        (r#"{"inputs":[],"inputs":[]}"#.to_owned(), "invalid JSON at byte 21: the key \"inputs\" stands twice".to_owned()),
        (r#"{"inputs":[]} x"#.to_owned(), "invalid JSON at byte 14: text after the end of the document".to_owned()),
        (r#"{"inputs":[]"#.to_owned(), "invalid JSON at byte 12: expected ',' or '}'".to_owned()),
        (r#"{"id":7,"inputs":[]}"#.to_owned(), "invalid JSON at byte 6: expected a string (id)".to_owned()),
        (input(r#""name":"z","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]"#), format!("unknown input \"z\"; {models}")),
        (input(r#""shape":[1,4],"datatype":"FP32","data":[1,2,3,4]"#), "an input has no \"name\"".to_owned()),
        (input(r#""name":"x","datatype":"FP32","data":[1,2,3,4]"#), "input \"x\" has no \"shape\"".to_owned()),
        (input(r#""name":"x","shape":[1,4],"data":[1,2,3,4]"#), "input \"x\" has no \"datatype\"".to_owned()),
        (input(r#""name":"x","shape":[1,4],"datatype":"FP32""#), "input \"x\" has no \"data\"".to_owned()),
        (
            input(r#""name":"x","shape":[1,4],"datatype":"INT64","data":[1,2,3,4]"#),
            "input \"x\": expected datatype FP32, got INT64".to_owned(),
        ),
        (
            input(r#""name":"x","shape":[1,4],"datatype":"float","data":[1,2,3,4]"#),
            "input \"x\": expected datatype FP32, got the unknown \"float\"".to_owned(),
        ),
        (
            input(r#""name":"x","shape":[1,5],"datatype":"FP32","data":[1,2,3,4,5]"#),
            "input \"x\": expected shape [-1, 4], got [1, 5]".to_owned(),
        ),
        (input(r#""name":"x","shape":[4],"datatype":"FP32","data":[1,2,3,4]"#), "input \"x\": expected shape [-1, 4], got [4]".to_owned()),
        (
            input(r#""name":"x","shape":[2,4],"datatype":"FP32","data":[1,2,3,4]"#),
            "input \"x\": shape [2, 4] holds 8 values, data has 4".to_owned(),
        ),
        (
            input(r#""name":"x","shape":[2,4],"datatype":"FP32","data":[[1,2],[3,4],[5,6],[7,8]]"#),
            "input \"x\": shape is [2, 4], data is nested as [4, 2]".to_owned(),
        ),
        (
            input(r#""name":"x","shape":[9223372036854775807,4],"datatype":"FP32","data":[1]"#),
            "input \"x\": shape [9223372036854775807, 4] holds more values than memory can hold, data has 1".to_owned(),
        ),
        (
            input(r#""name":"x","shape":[-1,4],"datatype":"FP32","data":[1,2,3,4]"#),
            "input \"x\": shape: -1 is no dimension".to_owned(),
        ),
        (
            input(r#""name":"x","shape":[1.5,4],"datatype":"FP32","data":[1,2,3,4]"#),
            "input \"x\": shape: 1.5 is no dimension".to_owned(),
        ),
        (
            input(r#""name":"x","shape":[1e30,4],"datatype":"FP32","data":[1,2,3,4]"#),
            "input \"x\": shape: 1e30 is no dimension".to_owned(),
        ),
        (
            input(&format!(r#""name":"x","shape":[{}1],"datatype":"FP32","data":[1]"#, "1,".repeat(40))),
            "input \"x\": shape has more than 32 dimensions".to_owned(),
        ),
        (input(r#""name":"x","shape":[0,4],"datatype":"FP32","data":[]"#), "the first dimension is 0: nothing to predict".to_owned()),
        (
            input(r#""name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,1e400]"#),
            "input \"x\": value 3 (1e400) does not fit FP32".to_owned(),
        ),
        (
            input(r#""name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,NaN]"#),
            "invalid JSON at byte 69: expected a value of input \"x\"".to_owned(),
        ),
        (
            input(r#""name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,null]"#),
            "input \"x\": value 3 is null, expected FP32".to_owned(),
        ),
        (
            input(r#""name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4],"parameters":{"binary_data_size":16}"#),
            "input \"x\" has both \"data\" and a binary_data_size".to_owned(),
        ),
        (
            input(r#""name":"x","shape":[1,4],"datatype":"FP32","parameters":{"binary_data_size":16}"#),
            "input \"x\" has a binary_data_size, the request has no header inference-header-content-length".to_owned(),
        ),
        (
            input(r#""name":"x","shape":[1,4],"datatype":"FP32","parameters":{"binary_data_size":-16}"#),
            "binary_data_size: -16 is no size".to_owned(),
        ),
        (
            input(r#""name":"x","shape":[1,4],"datatype":"FP32","parameters":[]"#),
            "invalid JSON at byte 68: expected an object (parameters)".to_owned(),
        ),
        (
            r#"{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]},{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}"#.to_owned(),
            "input \"x\" stands twice".to_owned(),
        ),
        (
            r#"{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}],"outputs":[{"name":"z"}]}"#.to_owned(),
            "unknown output \"z\"; the model's outputs: [\"y\"]".to_owned(),
        ),
        (
            r#"{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}],"outputs":[{"name":"y"},{"name":"y"}]}"#.to_owned(),
            "output \"y\" stands twice".to_owned(),
        ),
    ] {
        check(&server, "/v2/models/affine/infer", &body, 400, &error).await;
    }
    let two = r#"{"inputs":[{"name":"ids","shape":[2,1],"datatype":"INT64","data":[1,2]},{"name":"mask","shape":[3,1],"datatype":"INT64","data":[1,1,1]}]}"#;
    let error = "inputs differ in their first dimension: \"ids\" has 2, \"mask\" has 3";
    check(&server, "/v2/models/tokens/infer", two, 400, error).await;
    // Shapes that go together for us and not for the model are the client's fault, too.
    let broken = r#"{"inputs":[{"name":"ids","shape":[1,2],"datatype":"INT64","data":[1,2]},{"name":"mask","shape":[1,3],"datatype":"INT64","data":[1,1,1]}]}"#;
    let answer = server.post("/v2/models/tokens/infer", broken).await;
    assert!(answer.status == 400 || answer.status == 500, "{}", answer.text);
    assert!(!answer.text.contains('/'), "no path: {}", answer.text);
    // After all of it a good request is served.
    assert_eq!(
        server.post("/api/v1/predict", r#"{"features":[1,2,3,4]}"#).await.status,
        200
    );
}

#[tokio::test]
async fn items_that_do_not_fit() {
    let server = server(&config(&["affine", "tokens"]));
    for (path, body, error) in [
        ("/api/v1/predict", r#"{"feature":[1,2,3,4]}"#, "\"features\" is missing"),
        (
            "/api/v1/predict",
            r#"{"features":[1,2,3]}"#,
            "features, input \"x\": expected shape [4], got [3]",
        ),
        (
            "/api/v1/predict",
            r#"{"features":[]}"#,
            "features, input \"x\": expected shape [4], got [0]",
        ),
        (
            "/api/v1/predict",
            r#"{"features":{"z":[1]}}"#,
            "features: unknown input \"z\"; the model's inputs: [\"x\"]",
        ),
        (
            "/api/v1/predict",
            r#"{"features":{}}"#,
            "features: input \"x\" is missing",
        ),
        (
            "/api/v1/predict",
            r#"{"features":[1,2,3,"4"]}"#,
            "features, input \"x\": value 3 is a string, expected FP32",
        ),
        ("/api/v1/predict/batch", r#"{"instances":[]}"#, "\"instances\" is empty"),
        (
            "/api/v1/predict/batch",
            r#"{"instances":7}"#,
            "invalid JSON at byte 13: expected an array (instances)",
        ),
        (
            "/api/v1/predict/batch",
            r#"{"instances":[[1,2,3,4],[1,2,3,4,5]]}"#,
            "instances[1], input \"x\": expected shape [4], got [5]",
        ),
        (
            "/v1/models/tokens:predict",
            r#"{"instances":[[1,2]]}"#,
            "instances[0]: the model has several inputs, send an object with the features of each; the model's inputs: [\"ids\", \"mask\"]",
        ),
        (
            "/v1/models/tokens:predict",
            r#"{"instances":[{"ids":[1]}]}"#,
            "instances[0]: input \"mask\" is missing",
        ),
        (
            "/v1/models/tokens:predict",
            r#"{"instances":[{"ids":[1],"mask":[1]},{"ids":[1,2],"mask":[1,1]}]}"#,
            "instances[1], input \"ids\": shape [2] differs from [1] of the items before; send them one by one",
        ),
    ] {
        check(&server, path, body, 400, error).await;
    }
}

#[tokio::test]
async fn deep_and_long_documents() {
    let server = server(&config(&["affine"]));
    let deep = "[".repeat(1_000_000);
    for body in [
        deep.clone(),
        format!("{{\"x\":{deep}"),
        format!("{{\"inputs\":{deep}"),
        format!("{{\"features\":{deep}"),
        "{\"a\":".repeat(100_000),
    ] {
        for path in ["/v2/models/affine/infer", "/api/v1/predict", "/api/v1/predict/batch"] {
            let answer = server.post(path, body.clone()).await;
            assert_eq!(answer.status, 400);
            assert!(answer.text.len() < 1000);
        }
    }
    let keys = (0..300)
        .map(|number| format!("\"k{number}\":1,"))
        .collect::<Vec<_>>()
        .concat();
    let answer = server
        .post("/api/v1/predict", format!("{{{keys}\"features\":[1,2,3,4]}}"))
        .await;
    assert!(answer.error().contains("more than 256 keys in one object"));
    let number = format!("{{\"features\":[{},2,3,4]}}", "9".repeat(100_000));
    assert!(
        server
            .post("/api/v1/predict", number)
            .await
            .error()
            .starts_with("features, input \"x\": value 0 (99999999999999999999999999999999) does not fit FP32")
    );
    let answer = server
        .post("/api/v1/predict", &b"{\"features\":[1,2,3,\xff]}"[..])
        .await;
    assert_eq!(answer.error(), "invalid JSON at byte 19: not UTF-8");
    let name = "n".repeat(60_000);
    assert!(server.get(&format!("/v2/models/{name}")).await.text.len() < 1000);
}

#[tokio::test]
async fn bodies_that_are_not_plain_json() {
    let server = server(&config(&["affine"]));
    for (header, value, error) in [
        (
            "content-type",
            "application/x-www-form-urlencoded",
            "content type \"application/x-www-form-urlencoded\" is not supported, send application/json or application/msgpack",
        ),
        (
            "content-encoding",
            "compress",
            "content encoding \"compress\" is not supported, send one of zstd, br, gzip, deflate, or none",
        ),
        (
            "inference-header-content-length",
            "12",
            "binary tensors are sent to /v2/models/{model}/infer; here the body is one document",
        ),
    ] {
        let request = Request::post("/api/v1/predict")
            .header(header, value)
            .body(Full::from("{}"))
            .unwrap();
        let answer = server.call(request).await;
        assert_eq!((answer.status, answer.error().as_str()), (415, error));
    }
    let with_charset = Request::post("/api/v1/predict")
        .header("content-type", "Application/JSON; charset=utf-8")
        .body(Full::from(r#"{"features":[1,2,3,4]}"#))
        .unwrap();
    assert_eq!(server.call(with_charset).await.status, 200);
}

#[test]
fn whatever_is_sent_is_answered_with_200_or_4xx() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let server = runtime.block_on(async { server(&config(&["affine"])) });
    // Valid requests with a piece replaced: near misses reach deeper than noise.
    let good = r#"{"id":"1","inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}],"outputs":[{"name":"y"}]}"#;
    let strategy = (0..good.len(), 0..12usize, "[\\[\\]{}\",:0-9.eE+\\-a-z \u{e9}]{0,12}");
    proptest!(ProptestConfig::with_cases(3000), |((at, cut, insert) in strategy)| {
        let end = (at + cut).min(good.len());
        let body = format!("{}{insert}{}", &good[..at], &good[end..]);
        let answer = runtime.block_on(server.post("/v2/models/affine/infer", body.clone()));
        prop_assert!(answer.status == 200 || answer.status == 400, "{}: {} {}", body, answer.status, answer.text);
        serde_json::from_str::<serde_json::Value>(&answer.text).unwrap();
    });
}
