//! What the server says of itself and its models: extensions, versions, statistics.

use serde_json::{Value, json};
use tidewright_contract::config::ModelConfig;
use tidewright_server::clock;

use crate::repository::{change, infer, with_directory};
use crate::support::{Server, config, model, server};

#[tokio::test]
async fn the_model_repository_is_an_extension_where_it_is_enabled() {
    let mut config = config(&["affine"]);
    let extensions = async |server: Server| server.get("/v2").await.json()["extensions"].clone();
    assert_eq!(
        extensions(server(&config)).await,
        json!(["binary_tensor_data", "statistics"])
    );
    config.repository.enabled = true;
    assert_eq!(
        extensions(server(&config)).await,
        json!(["binary_tensor_data", "statistics", "model_repository"])
    );
}

#[tokio::test]
async fn metadata_lists_every_version_that_requests_get() {
    let folder = tempfile::tempdir().unwrap();
    let files = [
        ("deep/10/model.onnx", "layers"),
        ("deep/2/model.onnx", "layers"),
        ("deep/1/model.onnx", "layers"),
    ];
    let server = server(&with_directory(folder.path(), &files));
    let versions = async |path: &str| server.get(path).await.json()["versions"].clone();
    assert_eq!(
        versions("/v2/models/deep").await,
        json!(["1", "2", "10"]),
        "what a request would have loaded is there"
    );
    assert_eq!(change(&server, "deep/versions/1", "load").await, 200);
    assert_eq!(change(&server, "deep/versions/2", "unload").await, 200);
    for path in ["/v2/models/deep", "/v2/models/deep/versions/1"] {
        assert_eq!(versions(path).await, json!(["1", "10"]), "{path}");
    }
    assert_eq!(versions("/v2/models/affine").await, json!(["1"]));
}

/// Name and version of each model that the statistics name.
fn names(statistics: &Value) -> Vec<(&str, &str)> {
    statistics["model_stats"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| (model["name"].as_str().unwrap(), model["version"].as_str().unwrap()))
        .collect()
}

#[tokio::test]
async fn statistics_of_all_models_are_there_beside_a_model_of_that_name() {
    let mut config = config(&["affine", "tokens"]);
    config.models.push(ModelConfig::new("stats", model("affine").path));
    let server = server(&config);
    assert_eq!(infer(&server, "affine", 4).await, 200);
    let all = server.get("/v2/models/stats").await.json();
    assert_eq!(names(&all), [("affine", "1"), ("tokens", "1"), ("stats", "1")]);
    assert_eq!(all["model_stats"][0]["inference_count"], 1);
    let series = "http_requests_total{route=\"/v2/models/stats\",method=\"GET\",code=\"200\"}";
    assert!((server.metric(series) - 1.0).abs() < f64::EPSILON);
    // The model is found by its version, and by every path that says more than its name.
    let metadata = server.get("/v2/models/stats/versions/1").await.json();
    assert_eq!(metadata["name"], "stats");
    let body = r#"{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}"#;
    let answer = server.post("/v2/models/stats/infer", body).await;
    assert_eq!((answer.status, &answer.json()["model_name"]), (200, &json!("stats")));
    for path in ["/v2/models/stats/stats", "/v2/models/stats/versions/1/stats"] {
        assert_eq!(names(&server.get(path).await.json()), [("stats", "1")], "{path}");
    }
}

#[tokio::test]
async fn statistics_say_when_the_last_run_was_and_how_large_the_runs_were() {
    let server = server(&config(&["affine", "first"]));
    let statistics = async |model: &str| {
        let answer = server.get(&format!("/v2/models/{model}/stats")).await;
        answer.json()["model_stats"][0].clone()
    };
    let never = statistics("affine").await;
    assert_eq!(
        (&never["last_inference"], &never["batch_stats"]),
        (&json!(0), &json!([]))
    );
    let began = clock::wall_millis();
    for rows in [1, 3, 3] {
        let body = json!({ "instances": vec![[1, 2, 3, 4]; rows] }).to_string();
        assert_eq!(server.post("/v1/models/affine:predict", body).await.status, 200);
    }
    let after = statistics("affine").await;
    let last = after["last_inference"].as_u64().unwrap();
    assert!((began..=clock::wall_millis()).contains(&last), "{began} {last}");
    let of = |stats: &Value| {
        let runs = stats["batch_stats"].as_array().unwrap().clone();
        runs.into_iter()
            .map(|run| {
                let infer = &run["compute_infer"];
                assert!(infer["ns"].as_u64().unwrap() > 0, "{run}");
                (run["batch_size"].as_u64().unwrap(), infer["count"].as_u64().unwrap())
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(of(&after), [(1, 1), (3, 2)]);
    // A model that takes no batches has one item per run, whatever its first dimension is.
    let input = json!({"name": "x", "shape": [3, 4], "datatype": "FP32", "data": vec![1; 12]});
    let answer = server
        .post("/v2/models/first/infer", json!({ "inputs": [input] }).to_string())
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(of(&statistics("first").await), [(1, 1)]);
}
