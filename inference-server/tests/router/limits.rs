//! What is refused, when, and how it is counted.

use std::time::Duration;

use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{Answer, Server, config, server};

async fn slow(server: &Server) -> Answer {
    server.post("/api/v1/predict", r#"{"features":[1]}"#).await
}

fn outcome(server: &Server, status: &str) -> f64 {
    server.metric(&format!(
        "ml_predictions_total{{model=\"slow\",model_version=\"1\",status=\"{status}\"}}"
    ))
}

/// Requests to `slow` that were taken, under way or done.
const ACCEPTED: [&str; 2] = [
    "ml_requests_in_flight",
    "ml_predictions_total{model=\"slow\",model_version=\"1\",status=\"success\"}",
];

/// A server with work for more than a second: whoever comes after these twenty calls waits behind them for as long.
async fn busy() -> (Server, JoinSet<u16>) {
    let mut config = config(&["slow"]);
    config.batcher.max_batch_size = 1;
    let server = server(&config);
    let first = calls(&server, 20);
    server.sum_becomes(&ACCEPTED, 20.0).await;
    (server, first)
}

/// That many calls in the background.
fn calls(server: &Server, count: usize) -> JoinSet<u16> {
    let mut calls = JoinSet::new();
    for _ in 0..count {
        let server = server.clone();
        calls.spawn(async move { slow(&server).await.status });
    }
    calls
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_at_once_and_says_when_to_come_back() {
    let mut config = config(&["slow"]);
    config.limits.queue_capacity = 3;
    config.batcher.max_batch_size = 1;
    let server = server(&config);
    // Far more at once than one worker and three places take, however late the worker is on a busy machine.
    let mut calls = JoinSet::new();
    for _ in 0..40 {
        let server = server.clone();
        calls.spawn(async move {
            let answer = slow(&server).await;
            if answer.status == 429 {
                assert_eq!(answer.error(), "the queue of model \"slow\" is full (3 requests wait)");
                assert!(answer.headers["retry-after"].to_str().unwrap().parse::<u32>().unwrap() >= 1);
            }
            answer.status
        });
    }
    let statuses = calls.join_all().await;
    let count = |status: u16| statuses.iter().filter(|s| **s == status).count();
    let (served, refused) = (count(200), count(429));
    assert!(served >= 3 && refused >= 1, "{statuses:?}");
    assert_eq!(served + refused, 40, "{statuses:?}");
    assert!((outcome(&server, "rejected") - refused as f64).abs() < f64::EPSILON);
    assert!((outcome(&server, "success") - served as f64).abs() < f64::EPSILON);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_the_concurrency_429() {
    let mut config = config(&["slow"]);
    config.limits.max_concurrency = 2;
    let server = server(&config);
    let under_way = [(); 2].map(|()| server.app.pipeline.enter().unwrap());
    let refused = slow(&server).await;
    assert_eq!(
        (refused.status, refused.error().as_str()),
        (429, "2 requests are under way, the limit")
    );
    drop(under_way);
    assert_eq!(slow(&server).await.status, 200, "places come back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_cannot_be_served_before_the_deadline_is_told_so_and_takes_no_place() {
    let mut config = config(&["slow"]);
    config.limits.timeout_seconds = 1;
    config.batcher.max_batch_size = 1;
    let server = server(&config);
    // More work than one second holds: it waits in vain, or is refused at once as soon as it is known what a run takes.
    let statuses = calls(&server, 200).join_all().await;
    let count = |wanted: u16| statuses.iter().filter(|status| **status == wanted).count();
    let (served, late, refused) = (count(200), count(504), count(429));
    assert_eq!(served + late + refused, 200);
    assert!(
        served >= 1 && late + refused >= 50,
        "{served} served, {late} late, {refused} refused"
    );
    let runs = server.metric("ml_batch_size_count{model=\"slow\",model_version=\"1\"}");
    // Some run when their deadline passes: it passes later for those who came later, by the milliseconds that sixty arrivals take.
    assert!(
        runs <= served as f64 + 3.0,
        "nobody late was computed: {runs} runs for {served} answers"
    );
    assert!((outcome(&server, "timeout") - late as f64).abs() < f64::EPSILON);
    assert!((outcome(&server, "rejected") - refused as f64).abs() < f64::EPSILON);
    server.metric_becomes("ml_queue_depth{queue=\"batch\"}", 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_those_before_leave_no_time_for_is_refused_at_once() {
    let mut config = config(&["slow"]);
    config.limits.timeout_seconds = 1;
    config.batcher.max_batch_size = 1;
    let server = server(&config);
    assert_eq!(slow(&server).await.status, 200, "now it is known what one takes");
    let mut calls = JoinSet::new();
    for _ in 0..200 {
        let server = server.clone();
        calls.spawn(async move { slow(&server).await });
    }
    let answers = calls.join_all().await;
    let refused: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 429).collect();
    // Sixteen runs take a second; on a fast machine a few times as many.
    assert!(refused.len() >= 50, "{} of 200", refused.len());
    for answer in refused {
        assert!(answer.error().ends_with("longer than it may take"), "{}", answer.text);
    }
    assert!(answers.iter().any(|answer| answer.status == 200));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_an_objective_who_would_wait_longer_is_refused_at_once_and_who_is_accepted_is_answered() {
    let mut config = config(&["slow"]);
    config.limits.latency_objective_millis = 400;
    config.batcher.max_batch_size = 1;
    let server = server(&config);
    assert_eq!(slow(&server).await.status, 200, "now it is known what one takes");
    // Nobody says how long he waits, and the server's own deadline is a minute away. Some six runs fit; on a fast machine a few times as many.
    let statuses = calls(&server, 200).join_all().await;
    let count = |wanted: u16| statuses.iter().filter(|status| **status == wanted).count();
    let (served, refused) = (count(200), count(429));
    assert_eq!(served + refused, 200, "{statuses:?}");
    assert!(served >= 2 && refused >= 100, "{served} served, {refused} refused");
    assert_eq!(slow(&server).await.status, 200, "it is not over for good");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_is_refused_when_his_time_for_the_objective_is_over_and_not_when_a_worker_comes() {
    let mut config = config(&["slow"]);
    config.limits.latency_objective_millis = 300;
    let server = server(&config);
    assert_eq!(slow(&server).await.status, 200, "now it is known what one takes");
    // A run of a second or two, which no objective cuts short.
    let long = tokio::spawn({
        let server = server.clone();
        async move {
            server
                .post("/v2/models/slow/infer", infer([32, 1], &json!({})))
                .await
                .status
        }
    });
    server.sum_becomes(&ACCEPTED, 2.0).await;
    // Nobody waits before him, so that he may wait; but the run does not end in time.
    server.metric_becomes("ml_queue_depth{queue=\"batch\"}", 0.0).await;
    let refused = slow(&server).await;
    assert!(!long.is_finished(), "told while the run goes on");
    assert_eq!(
        (refused.status, refused.error().as_str()),
        (429, "model \"slow\" has more to do than can be answered in time")
    );
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(long.await.unwrap(), 200);
    assert!((outcome(&server, "rejected") - 1.0).abs() < f64::EPSILON);
    assert!(
        (server.metric("ml_batch_size_sum{model=\"slow\",model_version=\"1\"}") - 33.0).abs() < f64::EPSILON,
        "who was refused was not computed"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_objective_that_a_request_cannot_keep_by_itself_does_not_refuse_it_where_nobody_waits() {
    let mut config = config(&["slow"]);
    config.limits.latency_objective_millis = 1;
    let server = server(&config);
    // Seven of eight would be given up if their own run made them late.
    for turn in 0..10 {
        let answer = slow(&server).await;
        assert_eq!(answer.status, 200, "{turn}: {}", answer.text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_leaves_gives_up_his_place_and_is_counted() {
    let (server, first) = busy().await;
    let mut leavers = calls(&server, 5);
    server.sum_becomes(&ACCEPTED, 25.0).await;
    leavers.shutdown().await;
    assert!(server.metric("ml_requests_in_flight") <= 20.0, "at once");
    assert!((outcome(&server, "cancelled") - 5.0).abs() < f64::EPSILON);
    assert!(
        (server.metric("http_requests_total{route=\"/api/v1/predict\",method=\"POST\",code=\"499\"}") - 5.0).abs()
            < f64::EPSILON
    );
    assert_eq!(first.join_all().await, [200; 20]);
    assert!(
        (server.metric("ml_batch_size_sum{model=\"slow\",model_version=\"1\"}") - 20.0).abs() < f64::EPSILON,
        "only those who stayed were computed"
    );
    assert!(server.metric("ml_requests_in_flight").abs() < f64::EPSILON);
}

#[tokio::test]
async fn arrivals_count_what_is_refused_too() {
    let server = server(&config(&["affine"]));
    for body in [r#"{"features":[1,2,3,4]}"#, "nonsense"] {
        server.post("/api/v1/predict", body).await;
    }
    assert!((server.metric("http_requests_received_total{route=\"/api/v1/predict\"}") - 2.0).abs() < f64::EPSILON);
    assert!(
        (server.metric("http_requests_total{route=\"/api/v1/predict\",method=\"POST\",code=\"200\"}") - 1.0).abs()
            < f64::EPSILON
    );
    assert!(
        (server.metric("http_requests_total{route=\"/api/v1/predict\",method=\"POST\",code=\"400\"}") - 1.0).abs()
            < f64::EPSILON
    );
    for phase in ["preprocess", "queue", "inference", "postprocess"] {
        let series = format!(
            "ml_inference_phase_duration_seconds_count{{model=\"affine\",model_version=\"1\",phase=\"{phase}\"}}"
        );
        assert!((server.metric(&series) - 1.0).abs() < f64::EPSILON, "{phase}");
    }
}

/// Items for a model of one input, with parameters.
pub fn infer(shape: [usize; 2], parameters: &Value) -> String {
    let input = json!({"name": "x", "shape": shape, "datatype": "FP32", "data": vec![1; shape[0] * shape[1]]});
    json!({"inputs": [input], "parameters": parameters}).to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_with_a_timeout_of_its_own_gets_504_when_that_passes_while_it_waits() {
    // The server itself would wait for a minute. One run of a second or so.
    let server = server(&config(&["slow"]));
    let first = tokio::spawn({
        let server = server.clone();
        async move {
            server
                .post("/v2/models/slow/infer", infer([32, 1], &json!({})))
                .await
                .status
        }
    });
    server.metric_becomes("ml_requests_in_flight", 1.0).await;
    let timeout = |micros: u64| server.post("/v2/models/slow/infer", infer([1, 1], &json!({ "timeout": micros })));
    // While the first waits itself, who comes behind it has no time; once it runs, nobody knows how much of it is left.
    let late = loop {
        let answer = timeout(20_000).await;
        if answer.status != 429 {
            break answer;
        }
    };
    assert!(!first.is_finished(), "told before it would have been its turn");
    assert_eq!(
        (late.status, late.error().as_str()),
        (504, "the deadline of the request passed before it was answered")
    );
    assert!((outcome(&server, "timeout") - 1.0).abs() < f64::EPSILON);
    // None of its own, and more than the server gives.
    for micros in [0, u64::MAX] {
        assert_eq!(timeout(micros).await.status, 200, "{micros}");
    }
    assert_eq!(first.await.unwrap(), 200);
    assert!(
        (server.metric("ml_batch_size_sum{model=\"slow\",model_version=\"1\"}") - 34.0).abs() < f64::EPSILON,
        "who was late was not computed"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_says_that_he_has_less_time_than_those_before_him_take_is_refused_at_once() {
    let (server, first, _) = busy_and_known(2).await;
    // Told by the proxy in front: before the body, which is none, is read.
    let told = Request::post("/v2/models/slow/infer").header("x-envoy-expected-rq-timeout-ms", "20");
    let by_header = server.call(told.body(Full::new("no document".into())).unwrap()).await;
    let parameters = json!({"timeout": 20_000});
    let by_parameter = server.post("/v2/models/slow/infer", infer([1, 1], &parameters)).await;
    for refused in [by_header, by_parameter] {
        assert_eq!(refused.status, 429, "{}", refused.text);
        assert!(refused.error().contains("wait for model \"slow\""), "{}", refused.text);
        assert!(refused.headers.contains_key("retry-after"));
    }
    assert!((outcome(&server, "rejected") - 2.0).abs() < f64::EPSILON);
    assert_eq!(first.join_all().await, [200; 40]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn time_is_reckoned_by_those_who_go_first_where_some_are_more_urgent() {
    let (server, first, alone) = busy_and_known(2).await;
    let micros = alone.as_micros() as u64 * 15;
    let asked = |priority: u8| {
        let parameters = json!({"priority": priority, "timeout": micros});
        server.post("/v2/models/slow/infer", infer([1, 1], &parameters))
    };
    assert_eq!(asked(3).await.status, 429, "behind forty like it");
    let urgent = asked(1).await;
    assert_eq!(urgent.status, 200, "before them: {}", urgent.text);
    assert_eq!(first.join_all().await, [200; 40]);
}

/// A server with forty calls of one priority that knows what a run takes, which is told too.
async fn busy_and_known(priority: u8) -> (Server, JoinSet<u16>, Duration) {
    let mut config = config(&["slow"]);
    config.batcher.max_batch_size = 1;
    let server = server(&config);
    let begun = tokio::time::Instant::now();
    assert_eq!(slow(&server).await.status, 200);
    let alone = begun.elapsed();
    let mut calls = JoinSet::new();
    for _ in 0..40 {
        let server = server.clone();
        let body = infer([1, 1], &json!({ "priority": priority }));
        calls.spawn(async move { server.post("/v2/models/slow/infer", body).await.status });
    }
    server.sum_becomes(&ACCEPTED, 41.0).await;
    (server, calls, alone)
}

#[tokio::test]
async fn a_request_whose_timeout_passes_while_it_is_read_is_not_run_and_a_bad_one_is_refused() {
    let server = server(&config(&["affine"]));
    let timeout =
        |timeout: Value| server.post("/v2/models/affine/infer", infer([1, 4], &json!({ "timeout": timeout })));
    // A microsecond is over before the document has been read.
    assert_eq!(timeout(json!(1)).await.status, 504);
    let runs = "ml_batch_size_count{model=\"affine\",model_version=\"1\"}";
    assert!(server.metric(runs).abs() < f64::EPSILON);
    for bad in [json!(-1), json!(1.5), json!(1e30)] {
        let refused = timeout(bad.clone()).await;
        assert_eq!(
            (refused.status, refused.error().as_str()),
            (
                400,
                "timeout: a whole number of microseconds, 0 for the server's own; there is no other"
            ),
            "{bad}"
        );
    }
    assert_eq!(timeout(json!("soon")).await.status, 400);
    assert_eq!(timeout(json!(10_000_000)).await.status, 200);
}
