//! Models of a directory in a real process: tried out in a child, loaded on demand, loaded and unloaded through the admin port.

use std::fs;

use tidewright_server::protocols::pb;
use tonic::Code;

use crate::grpc::{Inference, channel_to, inference, request, runtime};
use crate::support::{Client, Server, model, path};

#[test]
fn a_directory_is_served_without_a_configured_model() {
    let folder = tempfile::tempdir().unwrap();
    for (file, model) in [
        ("layers.onnx", "layers"),
        ("bad.onnx", "unknown"),
        ("affine.onnx", "affine"),
    ] {
        fs::copy(path(&format!("tests/models/{model}.onnx")), folder.path().join(file)).unwrap();
    }
    let directory = folder.path().to_str().unwrap();
    let server = Server::start(&["--repository", "true", "--repository-directory", directory]);
    assert!(
        server.ready_line.contains("3 models on demand"),
        "{}",
        server.ready_line
    );
    let mut client = Client::connect(server.http).unwrap();
    let body = r#"{"instances":[[1,2,3,4]]}"#;
    let answer = client.post("/v1/models/affine:predict", body).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    let unnamed = client.post("/api/v1/predict", body).unwrap();
    assert_eq!(unnamed.status, 404, "{}", unnamed.body);
    let refused = client.post("/v1/models/nobody:predict", body).unwrap();
    assert!(
        refused.status == 404 && refused.body.contains("layers"),
        "{}",
        refused.body
    );
    let broken = client.post("/v1/models/bad:predict", body).unwrap();
    assert!(
        broken.status == 503 && broken.body.contains("UnsupportedOperator"),
        "{}",
        broken.body
    );
    let mut admin = Client::connect(server.admin).unwrap();
    let unloaded = admin.post("/v2/repository/models/affine/unload", "").unwrap();
    assert_eq!(unloaded.status, 200, "{}", unloaded.body);
    assert_eq!(client.post("/v1/models/affine:predict", body).unwrap().status, 404);
    assert_eq!(admin.post("/v2/repository/models/affine/load", "").unwrap().status, 200);
    assert_eq!(client.post("/v1/models/affine:predict", body).unwrap().status, 200);
    let index = admin.post("/v2/repository/index", "").unwrap();
    assert!(
        index
            .body
            .contains(r#"{"name":"affine","version":"1","state":"READY","reason":""}"#),
        "{}",
        index.body
    );
    server.signal("TERM");
    let ended = server.end();
    assert!(ended.status.success(), "{}", ended.log);
}

#[test]
fn over_grpc_the_extension_is_named_and_metadata_lists_all_versions() {
    let folder = tempfile::tempdir().unwrap();
    for version in ["2", "10"] {
        let target = folder.path().join("deep").join(version);
        fs::create_dir_all(&target).unwrap();
        fs::copy(path("tests/models/affine.onnx"), target.join("model.onnx")).unwrap();
    }
    let directory = folder.path().to_str().unwrap();
    let server = Server::start(&["--repository", "true", "--repository-directory", directory]);
    runtime().block_on(async {
        let mut client = inference(&server).await;
        let of_server = client
            .server_metadata(pb::ServerMetadataRequest {})
            .await
            .unwrap()
            .into_inner();
        assert_eq!(
            of_server.extensions,
            ["binary_tensor_data", "statistics", "model_repository"]
        );
        let wanted = pb::ModelMetadataRequest {
            name: "deep".to_owned(),
            version: "2".to_owned(),
        };
        let of_model = client.model_metadata(wanted).await.unwrap().into_inner();
        assert_eq!(of_model.versions, ["2", "10"]);
    });
}

#[test]
fn over_grpc_models_come_and_go_on_the_admin_port_alone() {
    let directory = path("tests/models");
    let affine = model("affine");
    let server = Server::start(&[
        "--model",
        &affine,
        "--repository",
        "true",
        "--repository-directory",
        directory.to_str().unwrap(),
    ]);
    let load = |name: &str| pb::RepositoryModelLoadRequest {
        model_name: name.to_owned(),
        ..pb::RepositoryModelLoadRequest::default()
    };
    runtime().block_on(async {
        let mut admin = Inference::new(channel_to(server.admin).await);
        let mut client = inference(&server).await;
        admin.repository_model_load(load("layers")).await.unwrap();
        let ready = |repository: &str| pb::RepositoryIndexRequest {
            repository_name: repository.to_owned(),
            ready: true,
        };
        let index = admin.repository_index(ready("")).await.unwrap().into_inner();
        let names: Vec<&str> = index.models.iter().map(|model| model.name.as_str()).collect();
        assert_eq!(names, ["affine", "layers"]);
        let unload = pb::RepositoryModelUnloadRequest {
            model_name: "affine".to_owned(),
            ..pb::RepositoryModelUnloadRequest::default()
        };
        admin.repository_model_unload(unload).await.unwrap();
        let values = [1.0, 2.0, 3.0, 4.0];
        let gone = client.model_infer(request("affine", "", &values)).await.unwrap_err();
        assert_eq!(gone.code(), Code::NotFound, "{gone}");
        let refusals = [
            (admin.repository_model_load(load("nobody")).await.err(), Code::NotFound),
            (admin.repository_index(ready("other")).await.err(), Code::NotFound),
            (
                client.repository_model_load(load("affine")).await.err(),
                Code::Unimplemented,
            ),
            (
                admin.model_infer(request("layers", "", &values)).await.err(),
                Code::Unimplemented,
            ),
        ];
        for (refusal, code) in refusals {
            assert_eq!(refusal.as_ref().map(tonic::Status::code), Some(code), "{refusal:?}");
        }
    });
    // Parameters of 100 KiB: on the admin port too large, and elsewhere not looked at.
    runtime().block_on(async {
        let mut large = load("layers");
        let name = "n".repeat(100 * 1024);
        large.parameters.insert(name, pb::ModelRepositoryParameter::default());
        let mut admin = Inference::new(channel_to(server.admin).await);
        let too_large = admin.repository_model_load(large.clone()).await.unwrap_err();
        assert_eq!(too_large.code(), Code::OutOfRange, "{too_large}");
        let elsewhere = inference(&server).await.repository_model_load(large).await.unwrap_err();
        assert_eq!(elsewhere.code(), Code::Unimplemented, "{elsewhere}");
    });
    // The admin port speaks HTTP as before.
    let mut admin = Client::connect(server.admin).unwrap();
    assert_eq!(admin.get("/ready").unwrap().status, 200);
}
