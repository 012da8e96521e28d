//! What each protocol answers, with exact documents.

use serde_json::{Value, json};

use crate::support::{config, server};

#[tokio::test]
async fn open_inference_protocol_v2() {
    let server = server(&config(&["affine", "tokens"]));
    assert_eq!(server.get("/v2").await.json()["name"], "tidewright-inference-server");
    assert_eq!(server.get("/v2/health/live").await.json(), json!({"live": true}));
    assert_eq!(server.get("/v2/health/ready").await.json(), json!({"ready": true}));
    assert_eq!(
        server.get("/v2/models/affine/ready").await.json(),
        json!({"name": "affine", "ready": true})
    );
    let metadata = server.get("/v2/models/tokens").await.json();
    assert_eq!(metadata, server.get("/v2/models/tokens/versions/1").await.json());
    assert_eq!(metadata["platform"], "onnxruntime_onnx");
    assert_eq!(
        metadata["inputs"][0],
        json!({"name": "ids", "datatype": "INT64", "shape": [-1, -1]})
    );
    assert_eq!(
        metadata["outputs"],
        json!([{"name": "total", "datatype": "INT64", "shape": [-1]}])
    );
    assert_eq!(metadata["parameters"]["provider"], "cpu");
    assert!(
        metadata["parameters"]["digest"]
            .as_str()
            .unwrap()
            .starts_with("sha256:")
    );

    let answer = server
        .post(
            "/v2/models/affine/infer",
            r#"{"id":"q\"1","parameters":{"a":1},"inputs":[{"name":"x","shape":[2,4],"datatype":"FP32","data":[[1,2,3,4],[0,0,0,1]]}],"outputs":[{"name":"y"}]}"#,
        )
        .await;
    assert_eq!(
        answer.text,
        r#"{"model_name":"affine","model_version":"1","id":"q\"1","outputs":[{"name":"y","datatype":"FP32","shape":[2,3],"data":[30.0,31.0,302.0,4.0,5.0,42.0]}]}"#
    );
    assert_eq!(answer.headers["content-type"], "application/json");
    // Keys in any order, data before the name.
    let swapped = r#"{"inputs":[{"data":[[5,6]],"shape":[1,2],"datatype":"INT64","name":"ids"},{"data":[1,1],"datatype":"INT64","name":"mask","shape":[1,2]}]}"#;
    let answer = server.post("/v2/models/tokens/versions/1/infer", swapped).await;
    assert_eq!(answer.json()["outputs"][0]["data"], json!([11]), "{}", answer.text);
}

#[tokio::test]
async fn short_forms() {
    let server = server(&config(&["affine", "tokens", "fixed"]));
    let expected = r#"{"prediction":[30.0,31.0,302.0],"model_name":"affine","model_version":"1"}"#;
    assert_eq!(
        server.post("/api/v1/predict", r#"{"features":[1,2,3,4]}"#).await.text,
        expected
    );
    assert_eq!(
        server
            .post("/api/v1/predict", r#"{"extra":{"a":[1]},"features":{"x":[1,2,3,4]}}"#)
            .await
            .text,
        expected
    );
    let expected = r#"{"predictions":[[30.0,31.0,302.0],[0.0,1.0,2.0]],"model_name":"affine","model_version":"1"}"#;
    for path in ["/api/v1/predict/batch", "/v1/models/affine:predict"] {
        assert_eq!(
            server.post(path, r#"{"instances":[[1,2,3,4],[0,0,0,0]]}"#).await.text,
            expected
        );
    }
    let answer = server
        .post(
            "/v1/models/tokens:predict",
            r#"{"instances":[{"ids":[1,2],"mask":[1,0]},{"mask":[1,1],"ids":[3,4]}]}"#,
        )
        .await;
    assert_eq!(answer.json()["predictions"], json!([1, 7]), "{}", answer.text);
    // A model with a fixed first dimension gets as many runs as needed.
    let answer = server
        .post(
            "/v1/models/fixed:predict",
            r#"{"instances":[[1,2,3],[4,5,6],[7,8,9],[1,1,1]]}"#,
        )
        .await;
    assert_eq!(answer.json()["predictions"], json!([6.0, 15.0, 24.0, 3.0]));
    let answer = server
        .post("/v1/models/fixed:predict", r#"{"instances":[[1,2,3]]}"#)
        .await;
    assert_eq!(
        answer.error(),
        "\"instances\": the model takes exactly 2 items per run, 1 is no multiple of it"
    );
    assert_eq!(
        server.get("/v1/models").await.json(),
        json!({"models": ["affine", "tokens", "fixed"]})
    );
    assert_eq!(
        server.get("/v1/models/affine").await.json(),
        json!({"name": "affine", "ready": true})
    );
}

#[tokio::test]
async fn every_datatype_travels() {
    let server = server(&config(&["echo"]));
    let values: Vec<(&str, Value)> = vec![
        ("BOOL", json!([true, false])),
        ("UINT8", json!([0, 255])),
        ("UINT16", json!([0, 65535])),
        ("UINT32", json!([0, 4_294_967_295_u32])),
        ("UINT64", json!([0, u64::MAX])),
        ("INT8", json!([-128, 127])),
        ("INT16", json!([-32768, 32767])),
        ("INT32", json!([i32::MIN, i32::MAX])),
        ("INT64", json!([i64::MIN, i64::MAX])),
        ("FP16", json!([0.5, -65504.0])),
        ("FP32", json!([0.1, -3.402_823_5e38])),
        ("FP64", json!([0.1, -1.797_693_134_862_315_7e308])),
        ("BYTES", json!(["", "é😀\n\"\\"])),
    ];
    let inputs: Vec<Value> = values
        .iter()
        .map(|(datatype, data)| {
            json!({"name": format!("in_{}", datatype.to_lowercase()), "datatype": datatype, "shape": [1, 2], "data": data})
        })
        .collect();
    let answer = server
        .post("/v2/models/echo/infer", json!({ "inputs": inputs }).to_string())
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let outputs = answer.json()["outputs"].clone();
    for (position, (datatype, data)) in values.iter().enumerate() {
        let output = &outputs[position];
        assert_eq!(output["name"], format!("out_{}", datatype.to_lowercase()));
        assert_eq!(output["datatype"], **datatype);
        assert_eq!(&output["data"], data, "{datatype}");
    }
    // Only the wanted outputs, in the wanted order.
    let wanted = json!({"inputs": inputs, "outputs": [{"name": "out_int8"}, {"name": "out_bool"}]});
    let outputs = server.post("/v2/models/echo/infer", wanted.to_string()).await.json()["outputs"].clone();
    let names: Vec<&str> = outputs
        .as_array()
        .unwrap()
        .iter()
        .map(|output| output["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["out_int8", "out_bool"]);
}

#[tokio::test]
async fn what_json_cannot_say_becomes_null() {
    let server = server(&config(&["affine"]));
    let answer = server
        .post("/api/v1/predict", r#"{"features":[3e38,3e38,3e38,3e38]}"#)
        .await;
    assert_eq!(
        answer.json()["prediction"],
        json!([null, null, null]),
        "infinity has no JSON"
    );
}

#[tokio::test]
async fn unknown_names_and_methods() {
    let server = server(&config(&["affine", "tokens"]));
    let answer = server.get("/v2/models/nope").await;
    assert_eq!(
        (answer.status, answer.error().as_str()),
        (404, "no model \"nope\"; the models: [\"affine\", \"tokens\"]")
    );
    let answer = server.get("/v2/models/affine/versions/7").await;
    assert_eq!(
        (answer.status, answer.error().as_str()),
        (404, "model \"affine\" has no version \"7\"; the versions: [\"1\"]")
    );
    let answer = server.get("/v3").await;
    assert_eq!((answer.status, answer.error().as_str()), (404, "no route \"/v3\""));
    let answer = server.get("/v2/models/affine/infer").await;
    assert_eq!(
        (answer.status, answer.headers["allow"].to_str().unwrap()),
        (405, "POST")
    );
    let answer = server.post("/v2", "").await;
    assert_eq!(
        (answer.status, answer.headers["allow"].to_str().unwrap()),
        (405, "GET, HEAD")
    );
    assert!(
        (server.metric("http_requests_total{route=\"unmatched\",method=\"GET\",code=\"404\"}") - 1.0).abs()
            < f64::EPSILON
    );
}

#[tokio::test]
async fn a_priority_is_taken_and_one_that_is_not_there_is_refused() {
    let server = server(&config(&["affine"]));
    let body = |parameters: Value| {
        let input = json!({"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]});
        json!({"inputs": [input], "parameters": parameters}).to_string()
    };
    let answer = |parameters: Value| server.post("/v2/models/affine/infer", body(parameters));
    for priority in 0..=3 {
        assert_eq!(
            answer(json!({ "priority": priority, "other": "skipped" })).await.status,
            200
        );
    }
    for priority in [json!(4), json!(-1), json!(1.5)] {
        let refused = answer(json!({ "priority": priority })).await;
        let told = (refused.status, refused.error());
        assert_eq!(
            told,
            (
                400,
                "priority: 1 is high, 2 or 0 normal, 3 low; there is no other".to_owned()
            )
        );
    }
    assert_eq!(answer(json!({"priority": "high"})).await.status, 400);
}

#[tokio::test]
async fn bf16_travels_as_numbers() {
    let server = server(&config(&["bf16"]));
    let metadata = server.get("/v2/models/bf16").await.json();
    assert_eq!(
        metadata["inputs"],
        json!([{"name": "in_bf16", "datatype": "BF16", "shape": [-1, 2]}])
    );
    let body = |data: Value| {
        let input = json!({"name": "in_bf16", "datatype": "BF16", "shape": [2, 2], "data": data});
        json!({ "inputs": [input] }).to_string()
    };
    // Eight bits of every number are kept, and its whole range: 257 lies between two of them.
    let answer = server
        .post("/v2/models/bf16/infer", body(json!([0.5, -3e38, 257, 0])))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let output = &answer.json()["outputs"][0];
    assert_eq!(
        (&output["name"], &output["datatype"]),
        (&json!("out_bf16"), &json!("BF16"))
    );
    let data: Vec<f64> = output["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|value| value.as_f64().unwrap())
        .collect();
    assert_eq!((data[0], data[2], data[3]), (0.5, 256.0, 0.0));
    assert!((data[1] / -3e38 - 1.0).abs() < 1.0 / 256.0, "{data:?}");
    let refused = server.post("/v2/models/bf16/infer", body(json!([1e39, 0, 0, 0]))).await;
    assert_eq!(refused.status, 400, "{}", refused.text);
}
