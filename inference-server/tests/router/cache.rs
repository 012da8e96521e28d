//! The result cache with a real Redis: levels, single flight, and a Redis that comes and goes.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tidewright_contract::config::{MemoryCacheConfig, RedisCacheConfig, ServeConfig};
use tokio::task::JoinSet;

use crate::support::{Server, config, server};

const BODY: &str = r#"{"features":[1]}"#;

fn cached(memory: bool, redis: Option<u16>) -> ServeConfig {
    let mut config = config(&["slow"]);
    config.cache.memory = memory.then(MemoryCacheConfig::default);
    config.cache.redis = redis.map(|port| {
        let mut redis = RedisCacheConfig::with_url(format!("redis://127.0.0.1:{port}"));
        // Long enough for a busy machine: what is tested is what happens, not how fast.
        redis.timeout_millis = 5000;
        redis
    });
    config
}

fn runs(server: &Server) -> f64 {
    server.metric("ml_batch_size_sum{model=\"slow\",model_version=\"1\"}")
}

fn tier(server: &Server, tier: &str, outcome: &str) -> f64 {
    server.metric(&format!(
        "ml_cache_requests_total{{cache=\"result\",tier=\"{tier}\",outcome=\"{outcome}\"}}"
    ))
}

async fn ask(server: &Server) {
    let answer = server.post("/api/v1/predict", BODY).await;
    assert_eq!(answer.json()["prediction"], serde_json::json!([2.0]), "{}", answer.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn identical_requests_run_once_together_and_not_at_all_later() {
    let server = server(&cached(true, None));
    let mut calls = JoinSet::new();
    for _ in 0..100 {
        let server = server.clone();
        calls.spawn(async move { ask(&server).await });
    }
    calls.join_all().await;
    assert!(
        (runs(&server) - 1.0).abs() < f64::EPSILON,
        "one run for a hundred callers"
    );
    ask(&server).await;
    // The same values through another protocol are the same request.
    let body = r#"{"inputs":[{"name":"x","shape":[1,1],"datatype":"FP32","data":[1.0]}]}"#;
    assert_eq!(
        server.post("/v2/models/slow/infer", body).await.json()["outputs"][0]["data"],
        serde_json::json!([2.0])
    );
    assert!((runs(&server) - 1.0).abs() < f64::EPSILON);
    assert!(tier(&server, "memory", "hit") >= 2.0);
    assert!((tier(&server, "memory", "shared") + tier(&server, "memory", "hit") - 101.0).abs() < f64::EPSILON);
    server.post("/api/v1/predict", r#"{"features":[1.5]}"#).await;
    assert!(
        (runs(&server) - 2.0).abs() < f64::EPSILON,
        "other values are another request"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_there_is_answered_while_there_is_no_room_for_more() {
    let mut config = cached(true, None);
    config.batcher.max_batch_size = 1;
    config.limits.queue_capacity = 20;
    let server = server(&config);
    ask(&server).await;
    let refused = Arc::new(AtomicUsize::new(0));
    let mut others = JoinSet::new();
    // Each is another request, and one takes the worker some 60 ms: right after one was refused there is no room for the next.
    for number in 0..1000 {
        if refused.load(Ordering::Relaxed) > 0 {
            break;
        }
        let (server, refused) = (server.clone(), Arc::clone(&refused));
        others.spawn(async move {
            let body = format!("{{\"features\":[{}]}}", number + 2);
            let status = server.post("/api/v1/predict", body).await.status;
            refused.fetch_add(usize::from(status == 429), Ordering::Relaxed);
            status
        });
        tokio::task::yield_now().await;
    }
    ask(&server).await;
    let statuses = others.join_all().await;
    assert!(statuses.contains(&429), "{statuses:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_who_leaves_does_not_take_the_others_along() {
    let server = server(&cached(true, None));
    let first = server.clone();
    let leader = tokio::spawn(async move { ask(&first).await });
    server.metric_becomes("ml_requests_in_flight", 1.0).await;
    let second = server.clone();
    let follower = tokio::spawn(async move { ask(&second).await });
    server.metric_becomes("ml_requests_in_flight", 2.0).await;
    leader.abort();
    follower.await.unwrap();
}

/// A Redis of our own on a free port; ends with the test.
struct RedisServer(Child);

impl RedisServer {
    /// `None`, with a line that says so, when Redis is not installed.
    fn start(port: u16, folder: &Path) -> Option<Self> {
        let child = Command::new("redis-server")
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
                "--dir",
            ])
            .arg(folder)
            .stdout(Stdio::null())
            .spawn();
        match child {
            Ok(child) => {
                let redis = Self(child);
                for _ in 0..500 {
                    if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                        return Some(redis);
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
                panic!("redis-server does not answer on port {port}");
            }
            Err(error) => {
                println!("skipped: redis-server cannot be started ({error}); Debian: apt-get install redis-server");
                None
            }
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_shared_between_servers_and_fills_memory() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let Some(_redis) = RedisServer::start(port, folder.path()) else {
        return;
    };
    let first = server(&cached(true, Some(port)));
    ask(&first).await;
    assert!((tier(&first, "redis", "miss") - 1.0).abs() < f64::EPSILON);
    // The write is in the background: another server finds it soon.
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut keys: Vec<String> = Vec::new();
    for _ in 0..500 {
        keys = redis::cmd("KEYS")
            .arg("tidewright:result:*")
            .query_async(&mut connection)
            .await
            .unwrap();
        if !keys.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(keys.len(), 1);
    let ttl: i64 = redis::cmd("TTL")
        .arg(&keys[0])
        .query_async(&mut connection)
        .await
        .unwrap();
    assert!((1..=300).contains(&ttl), "{ttl}");

    let second = server(&cached(true, Some(port)));
    ask(&second).await;
    assert!(
        runs(&second).abs() < f64::EPSILON,
        "the second server never ran the model"
    );
    assert!((tier(&second, "redis", "hit") - 1.0).abs() < f64::EPSILON);
    ask(&second).await;
    assert!(
        (tier(&second, "memory", "hit") - 1.0).abs() < f64::EPSILON,
        "the hit in Redis filled memory"
    );

    // What does not decode is computed anew and replaced.
    let _: () = redis::cmd("SET")
        .arg(&keys[0])
        .arg("garbage")
        .query_async(&mut connection)
        .await
        .unwrap();
    let third = server(&cached(false, Some(port)));
    ask(&third).await;
    assert!((runs(&third) - 1.0).abs() < f64::EPSILON);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_down_is_skipped_counted_and_used_again_when_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let server = server(&cached(false, Some(port)));
    for _ in 0..3 {
        let started = tokio::time::Instant::now();
        ask(&server).await;
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    }
    assert!(tier(&server, "redis", "error") + tier(&server, "redis", "skipped") >= 3.0);
    assert!(
        (runs(&server) - 3.0).abs() < f64::EPSILON,
        "each request was served by the model"
    );
    let Some(redis) = RedisServer::start(port, folder.path()) else {
        return;
    };
    let back = async {
        loop {
            ask(&server).await;
            if tier(&server, "redis", "hit") >= 1.0 {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), back)
        .await
        .expect("Redis is used again");
    drop(redis);
    for _ in 0..5 {
        ask(&server).await;
    }
}
