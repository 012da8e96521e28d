//! SIGTERM under calls over gRPC: whatever the server accepted is answered, also on streams.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt;
use tidewright_server::protocols::pb::ModelInferRequest;
use tonic::Code;

use crate::grpc::{Inference, channel, request, runtime};
use crate::support::{Client, Server, model};

fn value(request: &tidewright_server::protocols::pb::ModelInferResponse) -> f32 {
    request.outputs[0].contents.as_ref().unwrap().fp32_contents[0]
}

#[test]
fn calls_in_the_queue_are_answered_before_the_end() {
    let slow = model("slow");
    let server = Server::start(&["--model", &slow, "--max-batch-size", "1"]);
    runtime().block_on(async {
        let client = Inference::new(channel(&server).await);
        let mut calls = tokio::task::JoinSet::new();
        for number in 0..20u8 {
            let mut client = client.clone();
            calls.spawn(async move {
                let answer = client.model_infer(request("slow", "", &[number.into()])).await.unwrap();
                assert!((value(answer.get_ref()) - f32::from(number) * 2.0).abs() < f32::EPSILON);
            });
        }
        let mut admin = Client::connect(server.admin).unwrap();
        // Under way and done together: that only grows, however late one looks.
        let taken = |metrics: &str| {
            let of = |series: &str| {
                let line = metrics.lines().find_map(|line| line.strip_prefix(series));
                line.map_or(0, |value| value.trim().parse::<u32>().unwrap())
            };
            of("ml_requests_in_flight ")
                + of("ml_predictions_total{model=\"slow\",model_version=\"1\",status=\"success\"} ")
        };
        while taken(&admin.get("/metrics").unwrap().body) < 20 {
            tokio::task::yield_now().await;
        }
        server.signal("TERM");
        calls.join_all().await;
    });
    let ended = server.end();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
}

#[test]
fn a_stream_is_ended_after_what_was_read_is_answered() {
    let affine = model("affine");
    let server = Server::start(&["--model", &affine, "--drain-grace-seconds", "1"]);
    runtime().block_on(async {
        let mut client = Inference::new(channel(&server).await);
        let sent = std::sync::Arc::new(AtomicUsize::new(0));
        let count = std::sync::Arc::clone(&sent);
        // Without an end of its own, and faster than it is answered: what is sent ahead must not cost the connection.
        let requests = futures::stream::repeat(()).then(move |()| {
            let number = count.fetch_add(1, Ordering::Relaxed);
            async move {
                // A turn for the side that reads.
                tokio::task::yield_now().await;
                request("affine", &number.to_string(), &[1.0, 2.0, 3.0, 4.0]) as ModelInferRequest
            }
        });
        let mut answers = client.model_stream_infer(requests).await.unwrap().into_inner();
        let mut answered = 0usize;
        let end = loop {
            match answers.message().await {
                Ok(Some(answer)) => {
                    // In order and none left out: whoever sees the end knows which requests were run.
                    assert_eq!(answer.error_message, "");
                    assert_eq!(answer.infer_response.unwrap().id, answered.to_string());
                    answered += 1;
                    if answered == 50 {
                        server.signal("TERM");
                    }
                }
                Ok(None) => panic!("ended as if everything had been answered"),
                Err(status) => break status,
            }
        };
        assert_eq!(
            (end.code(), end.message()),
            (
                Code::Unavailable,
                "the server is stopping; requests without an answer were not run"
            )
        );
        assert!(answered >= 50 && answered <= sent.load(Ordering::Relaxed));
    });
    let ended = server.end();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
}
