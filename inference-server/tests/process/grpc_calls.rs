//! Calls over gRPC that do not go as usual: streams, refusals with their codes, limits; and health, reflection, statistics.

use std::time::Duration;

use futures::StreamExt;
use tidewright_server::protocols::pb;
use tidewright_server::protocols::pb::infer_parameter::ParameterChoice;
use tonic::codec::CompressionEncoding;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::{v1::ServerReflectionRequest, v1alpha};
use tonic_types::StatusExt;

use crate::grpc::{channel, inference, request, runtime};
use crate::support::{Client, Server, model};

#[test]
fn a_stream_answers_in_order_and_goes_on_after_an_error() {
    let affine = model("affine");
    let server = Server::start(&["--model", &affine]);
    runtime().block_on(async {
        let mut client = inference(&server).await;
        let requests = (0..200u16).map(|number| {
            let model = if number == 77 { "nope" } else { "affine" };
            request(model, &number.to_string(), &[number.into(), 0.0, 0.0, 0.0])
        });
        let requests: Vec<_> = requests.collect();
        let mut answers = client
            .model_stream_infer(futures::stream::iter(requests))
            .await
            .unwrap()
            .into_inner();
        for number in 0..200u16 {
            let answer = answers.message().await.unwrap().unwrap();
            let response = answer.infer_response.unwrap();
            assert_eq!(response.id, number.to_string());
            if number == 77 {
                assert_eq!(answer.error_message, "no model \"nope\"; the models: [\"affine\"]");
            } else {
                assert_eq!(answer.error_message, "");
                let value = response.outputs[0].contents.as_ref().unwrap().fp32_contents[0];
                assert!((value - f32::from(number)).abs() < f32::EPSILON, "{value}");
            }
        }
        assert!(answers.message().await.unwrap().is_none());
    });
    let metrics = Client::connect(server.admin).unwrap().get("/metrics").unwrap().body;
    // A model that is not there is counted under the route, too.
    assert!(
        metrics
            .contains("http_requests_received_total{route=\"/inference.GRPCInferenceService/ModelStreamInfer\"} 200")
    );
    assert!(metrics.contains("ml_predictions_total{model=\"affine\",model_version=\"1\",status=\"success\"} 199"));
}

#[test]
fn codes_of_what_is_refused() {
    let slow = model("slow");
    let server = Server::start(&["--model", &slow, "--max-concurrency", "1"]);
    runtime().block_on(async {
        let mut client = inference(&server).await;
        let mut hasty = Request::new(request("slow", "", &[1.0]));
        hasty.set_timeout(Duration::from_millis(5));
        let status = client.model_infer(hasty).await.unwrap_err();
        // Either side may be the first to notice.
        assert!(
            [Code::DeadlineExceeded, Code::Cancelled].contains(&status.code()),
            "{status:?}"
        );
        // More at once than one: someone is refused, and told when to come back.
        let statuses = loop {
            let mut calls = tokio::task::JoinSet::new();
            for _ in 0..8 {
                let mut client = client.clone();
                calls.spawn(async move { client.model_infer(request("slow", "", &[1.0])).await });
            }
            let refused: Vec<Status> = calls.join_all().await.into_iter().filter_map(Result::err).collect();
            if !refused.is_empty() {
                break refused;
            }
        };
        for status in statuses {
            assert_eq!(status.code(), Code::ResourceExhausted);
            assert_eq!(status.message(), "1 requests are under way, the limit");
            let delay = status.get_details_retry_info().unwrap().retry_delay.unwrap();
            assert!(delay >= Duration::from_secs(1), "{delay:?}");
        }
    });
}

#[test]
fn a_request_with_a_timeout_of_its_own_is_told_when_that_has_passed() {
    let slow = model("slow");
    let server = Server::start(&["--model", &slow, "--max-batch-size", "1"]);
    let with = |choice: ParameterChoice| {
        let parameter = pb::InferParameter {
            parameter_choice: Some(choice),
        };
        pb::ModelInferRequest {
            parameters: [("timeout".to_owned(), parameter)].into(),
            ..request("slow", "", &[1.0])
        }
    };
    runtime().block_on(async {
        let mut client = inference(&server).await;
        // One run takes some 60 ms.
        for late in [ParameterChoice::Int64Param(5000), ParameterChoice::Uint64Param(5000)] {
            let status = client.model_infer(with(late.clone())).await.unwrap_err();
            assert_eq!(status.code(), Code::DeadlineExceeded, "{late:?}: {status:?}");
        }
        let status = client
            .model_infer(with(ParameterChoice::Int64Param(-1)))
            .await
            .unwrap_err();
        assert_eq!(
            (status.code(), status.message()),
            (
                Code::InvalidArgument,
                "timeout: a whole number of microseconds, 0 for the server's own; there is no other"
            )
        );
        for enough in [0, u64::MAX] {
            client
                .model_infer(with(ParameterChoice::Uint64Param(enough)))
                .await
                .unwrap();
        }
        // A message of a stream has its own.
        let messages = [ParameterChoice::Int64Param(5000), ParameterChoice::Int64Param(0)].map(with);
        let answers = client
            .model_stream_infer(futures::stream::iter(messages))
            .await
            .unwrap();
        let answers: Vec<_> = answers
            .into_inner()
            .map(|answer| answer.unwrap().error_message)
            .collect()
            .await;
        assert_eq!(
            answers,
            ["the deadline of the request passed before it was answered", ""]
        );
    });
}

#[test]
fn messages_have_a_limit() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("server.json");
    let model = model("affine");
    let config = serde_json::json!({
        "models": [{"name": "affine", "path": model.split_once('=').unwrap().1}],
        "limits": {"bodyBytesMax": 4096},
    });
    std::fs::write(&file, config.to_string()).unwrap();
    let server = Server::start(&["--config", file.to_str().unwrap()]);
    runtime().block_on(async {
        let mut client = inference(&server).await;
        let big = || request("affine", "", &vec![0.0; 100_000]);
        let status = client.model_infer(big()).await.unwrap_err();
        assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
        // What it becomes counts, not what is sent.
        let status = client
            .clone()
            .send_compressed(CompressionEncoding::Gzip)
            .model_infer(big())
            .await
            .unwrap_err();
        assert!(
            [Code::OutOfRange, Code::ResourceExhausted].contains(&status.code()),
            "{status:?}"
        );
        assert!(
            client
                .model_infer(request("affine", "", &[1.0, 2.0, 3.0, 4.0]))
                .await
                .is_ok()
        );
    });
}

/// grpcio-reflection, older grpcurl and ghz ask for the version before v1, and for no other.
#[test]
fn reflection_in_its_older_version() {
    use v1alpha::server_reflection_request::MessageRequest;
    use v1alpha::server_reflection_response::MessageResponse;

    let affine = model("affine");
    let server = Server::start(&["--model", &affine]);
    runtime().block_on(async {
        let mut reflection = v1alpha::server_reflection_client::ServerReflectionClient::new(channel(&server).await);
        let described = v1alpha::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::FileContainingSymbol(
                "inference.GRPCInferenceService".to_owned(),
            )),
        };
        let mut answers = reflection
            .server_reflection_info(futures::stream::iter([described]))
            .await
            .unwrap()
            .into_inner();
        let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
        let MessageResponse::FileDescriptorResponse(files) = answer else {
            panic!("{answer:?}")
        };
        assert_eq!(files.file_descriptor_proto.len(), 1);
    });
}

#[test]
fn health_and_reflection() {
    let affine = model("affine");
    let server = Server::start(&["--model", &affine, "--drain-grace-seconds", "600"]);
    runtime().block_on(async {
        let channel = channel(&server).await;
        let mut health = HealthClient::new(channel.clone());
        let check = |service: &str| HealthCheckRequest {
            service: service.to_owned(),
        };
        for service in ["", "inference.GRPCInferenceService"] {
            let status = health.check(check(service)).await.unwrap().get_ref().status;
            assert_eq!(status, i32::from(ServingStatus::Serving));
        }
        assert_eq!(health.check(check("nope")).await.unwrap_err().code(), Code::NotFound);
        let mut reflection = ServerReflectionClient::new(channel);
        let list = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut answers = reflection
            .server_reflection_info(futures::stream::iter([list]))
            .await
            .unwrap()
            .into_inner();
        let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
        let MessageResponse::ListServicesResponse(list) = answer else {
            panic!("{answer:?}")
        };
        let names: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
        for name in [
            "inference.GRPCInferenceService",
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
        ] {
            assert!(names.contains(&name), "{names:?}");
        }

        // A watch hears of the drain, and ends with it.
        let mut watch = health.watch(check("")).await.unwrap().into_inner();
        assert_eq!(
            watch.message().await.unwrap().unwrap().status,
            i32::from(ServingStatus::Serving)
        );
        server.signal("TERM");
        assert_eq!(
            watch.message().await.unwrap().unwrap().status,
            i32::from(ServingStatus::NotServing)
        );
        server.signal("TERM");
        while let Some(Ok(_)) = watch.next().await {}
    });
    assert_eq!(server.end().status.code(), Some(0));
}

#[test]
fn statistics_count_requests_items_and_runs() {
    let (affine, tokens) = (model("affine"), model("tokens"));
    let server = Server::start(&["--model", &affine, "--model", &tokens]);
    runtime().block_on(async {
        let mut client = inference(&server).await;
        for _ in 0..3 {
            client
                .model_infer(request("affine", "", &[1.0, 2.0, 3.0, 4.0]))
                .await
                .unwrap();
        }
        client.model_infer(request("affine", "", &[1.0])).await.unwrap_err();
        let all = client
            .model_statistics(pb::ModelStatisticsRequest::default())
            .await
            .unwrap()
            .into_inner();
        let [stats, idle] = &all.model_stats[..] else {
            panic!("{all:?}")
        };
        assert_eq!(
            (idle.name.as_str(), idle.inference_count, idle.last_inference),
            ("tokens", 0, 0)
        );
        // Of this century.
        assert!(stats.last_inference > 1_700_000_000_000, "{stats:?}");
        let [runs] = &stats.batch_stats[..] else {
            panic!("{stats:?}")
        };
        let infer = runs.compute_infer.unwrap();
        assert!(runs.batch_size == 1 && infer.count == 3 && infer.ns > 0, "{runs:?}");
        assert_eq!((stats.name.as_str(), stats.version.as_str()), ("affine", "1"));
        assert_eq!((stats.inference_count, stats.execution_count), (3, 3));
        let times = stats.inference_stats.as_ref().unwrap();
        assert_eq!((times.success.unwrap().count, times.fail.unwrap().count), (3, 1));
        for part in [
            times.queue,
            times.compute_input,
            times.compute_infer,
            times.compute_output,
            times.success,
        ] {
            assert!(part.unwrap().count == 3 && part.unwrap().ns > 0, "{times:?}");
        }
        let nobody = pb::ModelStatisticsRequest {
            name: "nope".to_owned(),
            version: String::new(),
        };
        assert_eq!(
            client.model_statistics(nobody).await.unwrap_err().code(),
            Code::NotFound
        );
    });
    let rest = Client::connect(server.http)
        .unwrap()
        .get("/v2/models/affine/versions/1/stats")
        .unwrap();
    let rest: serde_json::Value = serde_json::from_str(&rest.body).unwrap();
    assert_eq!(rest["model_stats"][0]["inference_stats"]["success"]["count"], 3);
}
