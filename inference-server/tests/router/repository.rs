//! Models come and go while the server runs, and no request is lost by that.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tidewright_contract::config::ServeConfig;
use tidewright_server::catalog::table::Cause;
use tidewright_server::catalog::{Kind, ModelRef};
use tidewright_server::clock;
use tidewright_server::http::admin;
use tidewright_server::lifecycle::State;
use tidewright_server::metrics::Metrics;
use tidewright_server::roles::repository::Repository;
use tidewright_server::roles::serve;

use crate::support::{Server, config, model, runtime, server};

/// A server that has `affine`, and these files of its models under other names in a directory.
pub fn with_directory(folder: &Path, files: &[(&str, &str)]) -> ServeConfig {
    for (path, name) in files {
        let target = folder.join(path);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(model(name).path, target).unwrap();
    }
    let mut config = config(&["affine"]);
    config.repository.enabled = true;
    config.repository.directory = Some(folder.to_owned());
    config
}

/// Three models of one size, of which two have room beside `affine`.
fn two_of_three(folder: &Path) -> ServeConfig {
    let files = [("a.onnx", "layers"), ("b.onnx", "layers"), ("c.onnx", "layers")];
    let mut config = with_directory(folder, &files);
    config.repository.loaded_bytes_max = 2 * fs::metadata(model("layers").path).unwrap().len() + 1000;
    config
}

async fn post(server: &Server, path: &str, body: &str) -> (u16, Value) {
    let request = Request::post(path)
        .body(Full::new(Bytes::from(body.to_owned())))
        .unwrap();
    let response = admin::handle(&server.app, request).await;
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap())
}

pub async fn change(server: &Server, model: &str, verb: &str) -> u16 {
    let (status, body) = post(server, &format!("/v2/repository/models/{model}/{verb}"), "").await;
    assert!(status == 200 || body["error"].is_string(), "{body}");
    status
}

/// Name, version, state and reason of each line.
async fn index(server: &Server, body: &str) -> Vec<[String; 4]> {
    let (status, lines) = post(server, "/v2/repository/index", body).await;
    assert_eq!(status, 200, "{lines}");
    let of =
        |line: &Value| ["name", "version", "state", "reason"].map(|field| line[field].as_str().unwrap().to_owned());
    lines.as_array().unwrap().iter().map(of).collect()
}

/// The status of a request for 64 numbers (`layers`), or four (`affine`).
pub async fn infer(server: &Server, model: &str, numbers: usize) -> u16 {
    let rows = vec![vec![1; numbers]];
    let body = json!({ "instances": rows }).to_string();
    server.post(&format!("/v1/models/{model}:predict"), body).await.status
}

#[tokio::test]
async fn a_model_is_loaded_and_unloaded_as_asked() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(&with_directory(folder.path(), &[("deep/2/model.onnx", "layers")]));
    let dormant = ["deep", "2", "UNAVAILABLE", "loaded at its next request"];
    let ready = ["affine", "1", "READY", ""];
    assert_eq!(index(&server, "").await, [ready, dormant]);
    assert_eq!(index(&server, r#"{"ready":true}"#).await, [ready]);
    assert_eq!(
        server.get("/v1/models").await.json()["models"],
        json!(["affine", "deep"])
    );

    assert_eq!(change(&server, "deep", "load").await, 200);
    assert_eq!(index(&server, "").await[1][2], "READY");
    assert_eq!(infer(&server, "deep", 64).await, 200);
    assert_eq!(
        server.get("/v2/models/deep/versions/2").await.json()["versions"],
        json!(["2"])
    );

    let serving = Arc::downgrade(&server.app.catalog.serving()[1]);
    assert_eq!(change(&server, "deep/versions/2", "unload").await, 200);
    assert!(serving.upgrade().is_none(), "nothing of it is kept");
    assert_eq!(index(&server, "").await[1][2..], ["UNAVAILABLE", "unloaded"]);
    let refused = server.post("/v1/models/deep:predict", "{}").await;
    let told = (refused.status, refused.error());
    assert_eq!(
        told,
        (404, "model \"deep\" is not loaded".to_owned()),
        "what was unloaded as asked stays so"
    );
    assert_eq!(server.get("/v2/models/deep/ready").await.status, 404);
    assert_eq!(
        server.get("/health").await.status,
        200,
        "the server is ready all the same"
    );
    assert_eq!(change(&server, "deep", "load").await, 200);
    assert_eq!(infer(&server, "deep", 64).await, 200);
    for (cause, loads) in [("start", 1.0), ("request", 2.0)] {
        server
            .metric_becomes(
                &format!("ml_model_loads_total{{cause=\"{cause}\",outcome=\"success\"}}"),
                loads,
            )
            .await;
    }
    server
        .metric_becomes("ml_model_unloads_total{cause=\"request\"}", 1.0)
        .await;
    server.metric_becomes("ml_models_loaded", 2.0).await;
}

#[tokio::test]
async fn what_cannot_be_done_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let config = with_directory(
        folder.path(),
        &[("broken.onnx", "unknown"), ("late/1/model.onnx", "layers")],
    );
    let on = server(&config);
    let (status, body) = post(&on, "/v2/repository/models/broken/load", "").await;
    assert_eq!(status, 500, "{body}");
    assert!(
        body["error"].as_str().unwrap().contains("UnsupportedOperator"),
        "{body}"
    );
    let index = index(&on, "").await;
    assert!(index[1][3].starts_with("UnsupportedOperator: "), "{index:?}");
    let refused = on.post("/v1/models/broken:predict", "{}").await;
    let told = (refused.status, refused.error());
    assert_eq!(
        told,
        (
            503,
            "model \"broken\" could not be loaded: UnsupportedOperator".to_owned()
        )
    );
    assert_eq!(change(&on, "nobody", "load").await, 404);
    assert_eq!(change(&on, "late/versions/7", "load").await, 404);
    fs::create_dir(folder.path().join("late/7")).unwrap();
    fs::copy(model("layers").path, folder.path().join("late/7/model.onnx")).unwrap();
    assert_eq!(
        change(&on, "late/versions/7", "load").await,
        200,
        "what came since is found"
    );
    let parameters = r#"{"parameters":{"config":"{}"}}"#;
    let (status, body) = post(&on, "/v2/repository/models/late/load", parameters).await;
    assert_eq!(status, 400, "{body}");
    let (status, _) = post(
        &on,
        "/v2/repository/models/late/unload",
        r#"{"parameters":{"unload_dependents":false}}"#,
    )
    .await;
    assert_eq!(status, 200);
    let (status, _) = post(&on, "/v2/repository/index", "{").await;
    assert_eq!(status, 400);
    let get = Request::get("/v2/repository/index")
        .body(Full::<Bytes>::default())
        .unwrap();
    assert_eq!(admin::handle(&on.app, get).await.status(), 405);

    let mut off = config;
    off.repository.enabled = false;
    let off = server(&off);
    assert_eq!(change(&off, "affine", "unload").await, 404, "off unless it is enabled");
    assert_eq!(
        infer(&off, "late", 64).await,
        200,
        "the directory is served all the same"
    );
}

#[tokio::test]
async fn the_least_recently_used_model_makes_room_and_comes_back_at_its_next_request() {
    let folder = tempfile::tempdir().unwrap();
    let files = ["a", "b", "c"].map(|name| format!("{name}.onnx"));
    let files: Vec<(&str, &str)> = files.iter().map(|path| (path.as_str(), "layers")).collect();
    let mut config = with_directory(folder.path(), &files);
    let one = fs::metadata(model("layers").path).unwrap().len();
    // Two of them, and the small one that is always there.
    config.repository.loaded_bytes_max = 2 * one + 1000;
    let server = server(&config);
    assert_eq!(infer(&server, "affine", 4).await, 200);
    for name in ["a", "b", "affine", "c", "affine", "b", "a"] {
        assert_eq!(
            infer(&server, name, if name == "affine" { 4 } else { 64 }).await,
            200,
            "{name}"
        );
    }
    let loads = "ml_model_loads_total{cause=\"demand\",outcome=\"success\"}";
    server.metric_becomes(loads, 4.0).await;
    server
        .metric_becomes("ml_model_unloads_total{cause=\"memory\"}", 2.0)
        .await;
    assert!(server.metric("ml_models_loaded_bytes") <= config.repository.loaded_bytes_max as f64);
    assert_eq!(server.get("/v2/models/c/ready").await.status, 200, "it can be called");
    assert_eq!(
        server.get("/v2/models/c").await.json()["name"],
        "c",
        "who asks what it takes has it loaded"
    );
    server.metric_becomes(loads, 5.0).await;

    config.repository.loaded_bytes_max = one - 1;
    let small = crate::support::server(&config);
    let refused = small.post("/v1/models/a:predict", "{}").await;
    assert_eq!(
        (refused.status, refused.error().as_str()),
        (503, "model \"a\" could not be loaded: ModelTooLarge")
    );
    assert_eq!(infer(&small, "affine", 4).await, 200);
}

#[tokio::test]
async fn a_model_that_is_loaded_anew_is_counted_once() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(&with_directory(folder.path(), &[("deep.onnx", "layers")]));
    let workers = "ml_engine_workers{model=\"deep\",model_version=\"1\"}";
    for file in ["layers", "exported", "layers"] {
        fs::copy(model(file).path, folder.path().join("deep.onnx")).unwrap();
        assert_eq!(change(&server, "deep", "load").await, 200);
        server.metric_becomes(workers, 1.0).await;
        let text = server.app.metrics.scrape(server.app.lifecycle.state()).unwrap();
        let infos = text
            .lines()
            .filter(|line| line.starts_with("ml_model_info{model=\"deep\""));
        assert_eq!(infos.count(), 1, "{text}");
    }
    assert_eq!(change(&server, "deep", "unload").await, 200);
    server.metric_becomes(workers, 0.0).await;
}

#[tokio::test]
async fn what_a_load_that_failed_left_behind_does_not_take_the_room_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = with_directory(folder.path(), &[("a.onnx", "layers"), ("b.onnx", "layers")]);
    config.repository.loaded_bytes_max = fs::metadata(model("layers").path).unwrap().len() + 1000;
    let server = server(&config);
    let a = ModelRef {
        name: "a",
        version: None,
    };
    let deadline = tokio::time::Instant::now().into_std() + Duration::from_mins(1);
    let held = server.app.catalog.lease(Some(a), deadline).await.unwrap();
    let unloading = {
        let server = server.clone();
        tokio::spawn(async move { change(&server, "a", "unload").await })
    };
    let mut changes = server.app.catalog.changes();
    while server.app.catalog.find(a).is_ok() {
        changes.changed().await.unwrap();
    }
    fs::remove_file(folder.path().join("a.onnx")).unwrap();
    assert_eq!(
        change(&server, "a", "load").await,
        500,
        "its file is gone, and a request still holds what it was"
    );
    drop(held);
    assert_eq!(unloading.await.unwrap(), 200);
    assert_eq!(infer(&server, "b", 64).await, 200, "there is room");
}

#[tokio::test]
async fn a_file_that_is_no_model_makes_nobody_leave() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = with_directory(folder.path(), &[("a.onnx", "layers")]);
    let one = fs::metadata(model("layers").path).unwrap().len();
    fs::write(folder.path().join("junk.onnx"), vec![0; usize::try_from(one).unwrap()]).unwrap();
    config.repository.loaded_bytes_max = one + 1000;
    let server = server(&config);
    assert_eq!(infer(&server, "a", 64).await, 200);
    assert_eq!(change(&server, "junk", "load").await, 500);
    assert!(
        index(&server, r#"{"ready":true}"#)
            .await
            .iter()
            .any(|line| line[0] == "a")
    );
}

#[tokio::test]
async fn a_look_at_a_model_is_no_use_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(&two_of_three(folder.path()));
    for (name, numbers) in [("a", 64), ("b", 64), ("affine", 4)] {
        assert_eq!(infer(&server, name, numbers).await, 200);
    }
    for path in ["/v2/models/a/ready", "/v1/models/a", "/v2/models/a/stats"] {
        assert_eq!(server.get(path).await.status, 200, "{path}");
    }
    assert_eq!(infer(&server, "c", 64).await, 200);
    let ready = index(&server, r#"{"ready":true}"#).await;
    let names: Vec<&str> = ready.iter().map(|line| line[0].as_str()).collect();
    assert_eq!(names, ["affine", "b", "c"], "a has been used least recently");
}

#[tokio::test]
async fn a_model_that_somebody_has_makes_room_after_idle_ones() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(&two_of_three(folder.path()));
    let a = ModelRef {
        name: "a",
        version: None,
    };
    let held = server
        .app
        .catalog
        .lease(Some(a), clock::now() + Duration::from_mins(1))
        .await;
    for (name, numbers) in [("b", 64), ("affine", 4), ("c", 64)] {
        assert_eq!(infer(&server, name, numbers).await, 200);
    }
    let ready = index(&server, r#"{"ready":true}"#).await;
    let names: Vec<&str> = ready.iter().map(|line| line[0].as_str()).collect();
    assert_eq!(
        names,
        ["affine", "a", "c"],
        "a has been used least recently, and is in use"
    );
    drop(held.unwrap());
}

#[tokio::test]
async fn a_request_that_an_unload_overtook_loads_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = with_directory(folder.path(), &[("a.onnx", "layers")]);
    let (catalog, orders) = serve::catalog(&config).unwrap();
    let a = ModelRef {
        name: "a",
        version: None,
    };
    let mut changes = catalog.changes();
    let waiting = {
        let catalog = Arc::clone(&catalog);
        let deadline = tokio::time::Instant::now().into_std() + Duration::from_mins(1);
        tokio::spawn(async move { catalog.lease(Some(a), deadline).await.map(|_| ()) })
    };
    changes.changed().await.unwrap();
    assert_eq!(catalog.waiting(), 1);
    let index = catalog.meant_indices(a).unwrap()[0];
    assert!(
        catalog.withdraw(index, Cause::Request).is_none(),
        "it was not loaded yet"
    );
    let metrics = Arc::new(Metrics::default());
    let repository = Repository::new(
        &config,
        runtime().clone(),
        Arc::clone(&metrics),
        Arc::clone(&catalog),
        Vec::new(),
    );
    let executor = tokio::spawn(repository.run(orders));
    let refused = waiting.await.unwrap().unwrap_err();
    assert_eq!(refused.to_string(), "model \"a\" is not loaded");
    // An order that comes after it has been carried out after it.
    assert!(catalog.order(index, Kind::Unload).await.is_ok());
    let text = metrics.scrape(State::Ready).unwrap();
    assert!(
        !text.contains("ml_model_loads_total{cause=\"demand\",outcome=\"success\"}"),
        "{text}"
    );
    assert_eq!(catalog.waiting(), 0);
    executor.abort();
}
