//! The same queries against a real Prometheus that scrapes real targets every second (the binary `prometheus` must be installed).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidewright_contract::metrics::{HTTP_REQUESTS_RECEIVED, ML_MODEL_INFO, ML_QUEUE_DEPTH, ML_REQUESTS_IN_FLIGHT};
use tidewright_contract::routes;
use tidewright_operator::clock::{Clock, SystemClock};
use tidewright_operator::domain::published::{Published, Reading, Reason, ServiceKey, Signal};
use tidewright_operator::domain::subscriptions::{ExternalQuery, PoolExpectation, Subscription, Subscriptions};
use tidewright_operator::sources::{self, Counters, Settings};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Requests per second of each exporter's predict route; its probes are ten times as many.
const RATE: f64 = 10.0;

fn digest() -> String {
    format!("sha256:{}", "0a".repeat(32))
}

/// A pod as Prometheus sees it.
#[derive(Debug)]
struct Exporter {
    address: SocketAddr,
    up: Arc<AtomicBool>,
}

impl Exporter {
    async fn start(queue: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let up = Arc::new(AtomicBool::new(true));
        let alive = Arc::clone(&up);
        let born = Instant::now();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                if !alive.load(Ordering::Relaxed) {
                    continue;
                }
                let seconds = born.elapsed().as_secs_f64();
                let (received, depth) = (HTTP_REQUESTS_RECEIVED.name, ML_QUEUE_DEPTH.name);
                let (in_flight, in_work) = (ML_REQUESTS_IN_FLIGHT.name, queue + 2);
                let (info, digest) = (ML_MODEL_INFO.name, digest());
                let body = format!(
                    "# TYPE {received} counter\n{received}{{route=\"{}\"}} {}\n{received}{{route=\"{}\"}} {}\n\
                     # TYPE {depth} gauge\n{depth}{{queue=\"batch\"}} {queue}\n\
                     # TYPE {in_flight} gauge\n{in_flight} {in_work}\n\
                     # TYPE {info} gauge\n{info}{{model=\"digits\",digest=\"{digest}\"}} 1\n",
                    routes::PREDICT,
                    seconds * RATE,
                    routes::HEALTH,
                    seconds * RATE * 10.0,
                );
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                tokio::spawn(async move {
                    let mut head = [0; 4096];
                    let _ = stream.read(&mut head).await;
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        Self { address, up }
    }
}

/// A real Prometheus in a folder of its own; ends with the test.
#[derive(Debug)]
struct RealPrometheus {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Drop for RealPrometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl RealPrometheus {
    async fn start(targets: &[(&str, &str, &str, &str, SocketAddr)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let mut config = String::from(
            "global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n- job_name: pods\n  static_configs:\n",
        );
        for (namespace, service, pool, pod, address) in targets {
            writeln!(
                config,
                "  - targets: ['{address}']\n    labels: {{namespace: '{namespace}', inferenceservice: '{service}', pool: '{pool}', pod: '{pod}'}}"
            )
            .unwrap();
        }
        std::fs::write(folder.path().join("prometheus.yml"), config).unwrap();
        Self {
            child: Self::spawn(&folder, port),
            port,
            folder,
        }
    }

    fn spawn(folder: &tempfile::TempDir, port: u16) -> Child {
        Command::new("prometheus")
            .arg(format!("--config.file={}/prometheus.yml", folder.path().display()))
            .arg(format!("--storage.tsdb.path={}/data", folder.path().display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary prometheus is needed: apt-get install prometheus")
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn restart(&mut self) {
        self.child = Self::spawn(&self.folder, self.port);
    }
}

#[derive(Debug)]
struct Watched {
    published: Arc<Published>,
    subscriptions: Arc<Subscriptions>,
}

impl Watched {
    /// A metrics source that reads this Prometheus; it ends with the guard.
    fn start(prometheus: &RealPrometheus) -> (Self, DropGuard) {
        let mut settings = Settings::new(Some(format!("http://127.0.0.1:{}", prometheus.port)))
            .with_scrape_interval(Duration::from_secs(1));
        settings.tick = Duration::from_millis(200);
        settings.timeout = Duration::from_secs(2);
        settings.external_max_sample_age = Duration::from_secs(3);
        let watched = Self {
            published: Arc::new(Published::default()),
            subscriptions: Arc::new(Subscriptions::default()),
        };
        let stop = CancellationToken::new();
        let ending = stop.clone().drop_guard();
        tokio::spawn(sources::run(
            settings,
            Arc::clone(&watched.subscriptions),
            Arc::clone(&watched.published),
            Arc::new(Counters::default()),
            Arc::new(SystemClock),
            stop,
        ));
        (watched, ending)
    }

    fn read(&self, namespace: &str, signal: &Signal) -> Reading {
        let key = ServiceKey::new(namespace, "digits");
        self.published.reading(&key, None, signal, SystemClock.now())
    }

    fn subscribe(&self, namespace: &str, ready: u32) {
        let external = |name: &str, query: &str| ExternalQuery {
            name: name.to_owned(),
            query: query.to_owned(),
            server_address: None,
        };
        self.subscriptions.set(
            ServiceKey::new(namespace, "digits"),
            Subscription {
                pools: BTreeMap::from([(
                    "cpu".to_owned(),
                    PoolExpectation {
                        ready_pods: Some(ready),
                    },
                )]),
                external: vec![
                    external("depth", &format!("sum({}) or vector(0)", ML_QUEUE_DEPTH.name)),
                    external("nothing", "sum(no_such_metric) or vector(0)"),
                    external("elsewhere", &format!("sum({}{{namespace=\"b\"}})", ML_QUEUE_DEPTH.name)),
                    external("several", ML_QUEUE_DEPTH.name),
                    external("range", &format!("{}[1m]", ML_QUEUE_DEPTH.name)),
                    external("scalar", &format!("scalar(sum({}))", ML_QUEUE_DEPTH.name)),
                ],
            },
        );
    }

    async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(40);
        while !condition(self) {
            assert!(
                Instant::now() < deadline,
                "{what} did not happen: {:?} {:?}",
                self.read("a", &Signal::RequestRate),
                self.read("a", &Signal::QueueDepth)
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn reason(reading: Reading) -> Option<Reason> {
    reading.err().map(|trouble| trouble.reason)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queries_read_what_a_real_prometheus_scrapes() {
    let (one, two, other) = (
        Exporter::start(3).await,
        Exporter::start(4).await,
        Exporter::start(1000).await,
    );
    let mut prometheus = RealPrometheus::start(&[
        ("a", "digits", "cpu", "digits-1", one.address),
        ("a", "digits", "cpu", "digits-2", two.address),
        ("b", "digits", "cpu", "digits-1", other.address),
    ])
    .await;
    let (watched, _ending) = Watched::start(&prometheus);
    watched.subscribe("a", 2);
    watched.subscribe("b", 1);
    let rate = |watched: &Watched, namespace: &str| watched.read(namespace, &Signal::RequestRate).map(|s| s.value);
    let external =
        |watched: &Watched, namespace: &str, name: &str| watched.read(namespace, &Signal::External(name.to_owned()));

    watched
        .until("two pods' requests, without their probes", |w| {
            rate(w, "a").is_ok_and(|rate| (rate - 2.0 * RATE).abs() < 1.0)
                && rate(w, "b").is_ok_and(|rate| (rate - RATE).abs() < 1.0)
        })
        .await;
    let depth = |namespace| watched.read(namespace, &Signal::QueueDepth).map(|s| s.value);
    assert_eq!((depth("a"), depth("b")), (Ok(7.0), Ok(1000.0)));
    let in_work = |namespace| watched.read(namespace, &Signal::Concurrency).map(|s| s.value);
    assert_eq!((in_work("a"), in_work("b")), (Ok(11.0), Ok(1002.0)));
    let sample = watched.read("a", &Signal::QueueDepth).unwrap();
    assert!(
        SystemClock.now().duration_since(sample.at).as_secs_f64() < 3.0,
        "{sample:?}"
    );

    let key = ServiceKey::new("a", "digits");
    let readings = watched.published.service(&key, SystemClock.now()).unwrap();
    assert_eq!(readings.digests.iter().collect::<Vec<_>>(), [&digest()]);

    // Each namespace sees its own series, whatever it asks for.
    assert_eq!(external(&watched, "a", "depth").map(|s| s.value), Ok(7.0));
    assert_eq!(external(&watched, "b", "depth").map(|s| s.value), Ok(1000.0));
    assert_eq!(external(&watched, "a", "scalar").map(|s| s.value), Ok(7.0));
    assert_eq!(reason(external(&watched, "a", "elsewhere")), Some(Reason::QueryRefused));
    assert_eq!(external(&watched, "b", "elsewhere").map(|s| s.value), Ok(1000.0));
    assert_eq!(
        reason(external(&watched, "a", "nothing")),
        Some(Reason::NoSamples),
        "zero made of nothing"
    );
    assert_eq!(reason(external(&watched, "a", "several")), Some(Reason::Ambiguous));
    assert_eq!(reason(external(&watched, "a", "range")), Some(Reason::AnswerMalformed));

    // A pod that is ready and not scraped: half of the load is unknown, so all of it is.
    two.up.store(false, Ordering::Relaxed);
    watched
        .until("a lost target is noticed", |w| {
            reason(w.read("a", &Signal::RequestRate)) == Some(Reason::PartialTargets)
        })
        .await;
    assert_eq!(
        reason(watched.read("a", &Signal::QueueDepth)),
        Some(Reason::PartialTargets)
    );
    assert!(rate(&watched, "b").is_ok(), "the neighbour is not concerned");
    // Once it is not ready any more it is not expected either.
    watched.subscribe("a", 1);
    watched
        .until("one pod of one", |w| {
            rate(w, "a").is_ok_and(|rate| (rate - RATE).abs() < 1.0)
        })
        .await;
    assert_eq!(depth("a"), Ok(3.0));

    // A service that nobody scrapes, and one without pods.
    watched.subscribe("c", 1);
    watched
        .until("a service that is not scraped", |w| {
            reason(w.read("c", &Signal::RequestRate)) == Some(Reason::WarmingUp)
        })
        .await;
    watched
        .until("a service that is still not scraped", |w| {
            reason(w.read("c", &Signal::RequestRate)) == Some(Reason::NoTargets)
        })
        .await;
    watched.subscribe("c", 0);
    watched
        .until("a service without pods", |w| {
            reason(w.read("c", &Signal::RequestRate)) == Some(Reason::NoReadyPods)
        })
        .await;

    prometheus.kill();
    watched
        .until("Prometheus is gone", |w| {
            reason(w.read("a", &Signal::RequestRate)) == Some(Reason::PrometheusUnreachable)
        })
        .await;
    assert!(reason(external(&watched, "a", "depth")).is_some());
    // While it is away every pod dies. What it looks back at is old; it must not be taken for the present.
    for exporter in [&one, &two, &other] {
        exporter.up.store(false, Ordering::Relaxed);
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    prometheus.restart();
    watched
        .until("Prometheus is back", |w| {
            let reason = reason(w.read("b", &Signal::QueueDepth));
            assert!(reason.is_some(), "an old sample was believed");
            reason.is_some_and(|reason| reason == Reason::PartialTargets)
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_after_an_outage_is_the_truth_or_none() {
    let exporter = Exporter::start(0).await;
    let mut prometheus = RealPrometheus::start(&[("a", "digits", "cpu", "digits-1", exporter.address)]).await;
    let (watched, _ending) = Watched::start(&prometheus);
    watched.subscribe("a", 1);
    let rate = |w: &Watched| w.read("a", &Signal::RequestRate).map(|sample| sample.value);
    let is_true = |rate: f64| (rate - RATE).abs() < 0.15 * RATE;
    watched
        .until("the rate before the outage", |w| rate(w).is_ok_and(is_true))
        .await;
    prometheus.kill();
    let killed = Instant::now();
    watched
        .until("Prometheus is gone", |w| {
            reason(w.read("a", &Signal::RequestRate)) == Some(Reason::PrometheusUnreachable)
        })
        .await;
    watched
        .until("nothing of before is left in the window of six scrapes", |_| {
            killed.elapsed() > Duration::from_secs(7)
        })
        .await;
    prometheus.restart();
    // The load has gone on all the time: any other number would scale down.
    watched
        .until("the rate after the outage", |w| {
            let rate = rate(w);
            if let Ok(rate) = rate {
                assert!(is_true(rate), "{rate}");
            }
            rate.is_ok()
        })
        .await;
}
