//! Requests share runs, and each still gets its own answer.

use std::time::Duration;

use serde_json::json;
use tidewright_contract::config::{BatchingPolicy, ServeConfig};
use tidewright_server::batcher::cost::size_class;
use tidewright_server::pipeline::express::turn_ends;
use tokio::task::JoinSet;

use crate::support::{config, server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_arrives_during_a_run_shares_the_next_one_and_everyone_gets_his_own_answer() {
    // Items of this model cost the same however many share a run: by cost there would be no reason to put them together.
    let mut config = config(&["slow"]);
    config.batcher.policy = Some(BatchingPolicy::FixedDelay);
    let server = server(&config);
    let mut calls = JoinSet::new();
    for number in 0..40 {
        let server = server.clone();
        calls.spawn(async move {
            let answer = server
                .post("/api/v1/predict", format!("{{\"features\":[{number}]}}"))
                .await;
            assert_eq!(
                answer.json()["prediction"],
                json!([2.0 * f64::from(number)]),
                "{}",
                answer.text
            );
        });
    }
    calls.join_all().await;
    let runs = server.metric("ml_batch_size_count{model=\"slow\",model_version=\"1\"}");
    let items = server.metric("ml_batch_size_sum{model=\"slow\",model_version=\"1\"}");
    assert!((items - 40.0).abs() < f64::EPSILON, "{items}");
    assert!(
        runs <= 10.0,
        "40 requests in {runs} runs: the first alone, then what had come meanwhile"
    );
    assert!((server.metric("ml_queue_depth{queue=\"batch\"}")).abs() < f64::EPSILON);
    assert!((server.metric("ml_requests_in_flight")).abs() < f64::EPSILON);
    assert!(
        (server.metric("ml_predictions_total{model=\"slow\",model_version=\"1\",status=\"success\"}") - 40.0).abs()
            < f64::EPSILON
    );
}

/// Whether eight items in one request share a run, for a model whose shapes leave the question open.
async fn share_a_run(model: &str) -> bool {
    let server = server(&config(&[model]));
    let rows = vec![[1, 0, 0, 0]; 8];
    let answer = server
        .post("/api/v1/predict/batch", json!({ "instances": rows }).to_string())
        .await;
    if answer.status != 200 {
        return false;
    }
    assert_eq!(answer.json()["predictions"].as_array().map(Vec::len), Some(8));
    (server.metric(&format!("ml_batch_size_count{{model=\"{model}\",model_version=\"1\"}}")) - 1.0).abs() < f64::EPSILON
}

#[tokio::test]
async fn an_output_whose_rows_have_a_made_up_name_is_batched_when_runs_show_that_it_can() {
    assert!(share_a_run("exported").await);
    assert!(!share_a_run("first").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_never_exceeds_the_limit_and_a_larger_request_is_run_in_pieces() {
    let mut config = config(&["affine"]);
    config.batcher.max_batch_size = 4;
    let server = server(&config);
    let rows: Vec<[u32; 4]> = (0..11).map(|number| [number, 0, 0, 0]).collect();
    let answer = server
        .post("/api/v1/predict/batch", json!({ "instances": rows }).to_string())
        .await;
    let expected: Vec<_> = (0..11)
        .map(|number| {
            json!([
                f64::from(number),
                f64::from(number) + 1.0,
                f64::from(number) * 10.0 + 2.0
            ])
        })
        .collect();
    assert_eq!(answer.json()["predictions"], json!(expected), "in order");
    let le4 = server.metric("ml_batch_size_bucket{le=\"4.0\",model=\"affine\",model_version=\"1\"}");
    let all = server.metric("ml_batch_size_count{model=\"affine\",model_version=\"1\"}");
    assert!(
        (le4 - all).abs() < f64::EPSILON,
        "{le4} of {all} runs had at most 4 items"
    );
    assert!(
        (server.metric("ml_predictions_total{model=\"affine\",model_version=\"1\",status=\"success\"}") - 11.0).abs()
            < f64::EPSILON
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_for_company_fills_batches_within_the_latency() {
    let mut config = config(&["affine"]);
    config.batcher.max_batch_size = 8;
    config.batcher.max_latency_millis = 3000;
    let server = server(&config);
    let started = tokio::time::Instant::now();
    let mut calls = JoinSet::new();
    for _ in 0..8 {
        let server = server.clone();
        calls.spawn(async move { server.post("/api/v1/predict", r#"{"features":[1,2,3,4]}"#).await.status });
    }
    assert!(calls.join_all().await.iter().all(|status| *status == 200));
    assert!(
        started.elapsed() < Duration::from_millis(2900),
        "a full batch does not wait: {:?}",
        started.elapsed()
    );
    assert!((server.metric("ml_batch_size_count{model=\"affine\",model_version=\"1\"}") - 1.0).abs() < f64::EPSILON);
    let started = tokio::time::Instant::now();
    assert_eq!(
        server.post("/api/v1/predict", r#"{"features":[1,2,3,4]}"#).await.status,
        200
    );
    assert!(
        started.elapsed() >= Duration::from_millis(2900),
        "a lonely request waits for the latency: {:?}",
        started.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shapes_that_differ_do_not_share_a_run_and_a_bad_item_fails_alone() {
    let mut config = config(&["picky", "tokens"]);
    config.batcher.max_latency_millis = 100;
    let server = server(&config);
    let again = server.clone();
    let mut calls = JoinSet::new();
    for number in 0..20u32 {
        let server = server.clone();
        calls.spawn(async move {
            let index = number % 5;
            let answer = server
                .post("/v1/models/picky:predict", format!("{{\"instances\":[[{index}]]}}"))
                .await;
            if index == 4 {
                assert_eq!(answer.status, 400, "{}", answer.text);
                assert!(
                    answer
                        .error()
                        .starts_with("the model refuses the input: indices element out of data bounds"),
                    "{}",
                    answer.text
                );
            } else {
                assert_eq!(answer.json()["predictions"], json!([[0.5 + f64::from(index)]]));
            }
        });
        let length = number as usize % 3 + 1;
        let (ids, mask) = (vec![number; length], vec![1; length]);
        let server = again.clone();
        calls.spawn(async move {
            let body = json!({"instances": [{"ids": ids, "mask": mask}]});
            let answer = server.post("/v1/models/tokens:predict", body.to_string()).await;
            assert_eq!(
                answer.json()["predictions"],
                json!([number as usize * length]),
                "{}",
                answer.text
            );
        });
    }
    calls.join_all().await;
    let runs = server.metric("ml_batch_size_count{model=\"tokens\",model_version=\"1\"}");
    assert!((3.0..=9.0).contains(&runs), "three shapes, each in few runs: {runs}");
}

#[tokio::test]
async fn a_small_run_wakes_no_worker_unless_it_has_company_and_a_fixed_delay_never_does_so() {
    let mut config = config(&["affine"]);
    for (policy, expected) in [(None, 5.0), (Some(BatchingPolicy::FixedDelay), 0.0)] {
        config.batcher.policy = policy;
        let server = server(&config);
        // Five that each find the thread idle, and one more in the turn of the last of them.
        for asked in 1..=6 {
            if asked <= 5 {
                turn_ends();
            }
            let answer = server
                .post("/v1/models/affine:predict", r#"{"instances":[[1,0,3,0]]}"#)
                .await;
            assert_eq!(answer.json()["predictions"], json!([[10.0, 11.0, 102.0]]));
        }
        let of_affine = |name: &str| server.metric(&format!("{name}{{model=\"affine\",model_version=\"1\"}}"));
        let counts = [of_affine("ml_express_runs_total"), of_affine("ml_batch_size_count")];
        assert_eq!(
            counts.map(|count| count as u32),
            [expected as u32, 6],
            "each is a run all the same"
        );
    }
}

#[tokio::test]
async fn what_items_of_a_named_size_cost_is_known_before_the_first_request() {
    let mut config = config(&["tokens"]);
    config.execution.workers = 2;
    // Both inputs of an item have as many elements as the text has tokens.
    let knows = |config: &ServeConfig, tokens: usize| {
        let costs = server(config).app.catalog.serving()[0].costs.clone();
        [1, 2, 32].map(|items| costs.estimate(size_class(2 * tokens), items).is_some())
    };
    assert_eq!(knows(&config, 1), [true; 3], "the size without another is 1");
    assert_eq!(knows(&config, 64), [false; 3]);
    config.models[0].warmup_sizes = vec![64, 16];
    assert_eq!(knows(&config, 64), [true; 3]);
    assert_eq!(knows(&config, 16), [true; 3]);
    assert_eq!(knows(&config, 1), [false; 3], "no other size than those that will come");
}
