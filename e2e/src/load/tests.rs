//! The load generator against real servers that misbehave in known ways.
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};

use http::StatusCode;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::sleep;

use super::*;

fn requests(check: impl Fn(&[u8]) -> Result<(), String> + Send + Sync + 'static) -> Arc<[Request]> {
    let request = Request {
        method: Method::POST,
        path: "/".to_owned(),
        body: Bytes::from_static(b"{}"),
        headers: Vec::new(),
        check: Arc::new(check),
    };
    Arc::from([request])
}

fn anything() -> Arc<[Request]> {
    requests(|_| Ok(()))
}

/// A server whose every answer is what `answer` makes of the request's number.
async fn server<F>(answer: impl Fn(u64) -> F + Clone + Send + Sync + 'static) -> SocketAddr
where
    F: Future<Output = http::Response<Full<Bytes>>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let number = Arc::new(AtomicU64::new(0));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (answer, number) = (answer.clone(), number.clone());
            let service = service_fn(move |_request| {
                let answer = answer(number.fetch_add(1, Ordering::SeqCst));
                async move { Ok::<_, Infallible>(answer.await) }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

fn ok(text: &'static str) -> http::Response<Full<Bytes>> {
    http::Response::new(Full::new(Bytes::from_static(text.as_bytes())))
}

async fn run(options: LoadOptions, rate: f64, requests: Arc<[Request]>, seconds: f64) -> Report {
    let load = Load::start(options, Profile { rate, requests });
    sleep(Duration::from_secs_f64(seconds)).await;
    load.stop().await
}

#[tokio::test]
async fn every_request_is_accounted_for_at_the_offered_rate() {
    let address = server(|_| async { ok("yes") }).await;
    let report = run(
        LoadOptions::to(address),
        400.0,
        requests(|body| (body == b"yes").then_some(()).ok_or_else(String::new)),
        2.0,
    )
    .await;
    let totals = &report.totals;
    assert_eq!(totals.due, totals.ok, "{totals:?} {:?}", report.failures);
    // 800 arrivals, standard deviation 28; more if the machine is busy and sleeps longer.
    assert!(totals.due >= 680, "{}", totals.due);
    assert_eq!(
        report.timeline.iter().map(|second| second.offered).sum::<u64>(),
        totals.due
    );
    assert_eq!(
        report.timeline.iter().map(|second| second.served).sum::<u64>(),
        totals.ok
    );
    assert!(
        totals.connections_opened >= 8,
        "connections are replaced: {}",
        totals.connections_opened
    );
}

/// One connection, and a server that stalls once for 600 ms. A closed loop would see one slow request; the truth is that everything due meanwhile was late.
#[tokio::test]
async fn a_stall_is_charged_to_everything_that_was_due_meanwhile() {
    let address = server(|number| async move {
        if number == 50 {
            sleep(Duration::from_millis(600)).await;
        }
        ok("")
    })
    .await;
    let mut options = LoadOptions::to(address);
    (options.connections_max, options.arrivals) = (1, Arrivals::Constant);
    let report = run(options, 100.0, anything(), 2.0).await;
    assert_eq!(report.totals.failed(), 0, "{:?}", report.failures);
    // 60 of 200 requests were due during the stall and waited 300 ms on average.
    assert!(report.latency.max >= 550.0, "{:?}", report.latency);
    assert!(report.latency.p90 > 150.0, "{:?}", report.latency);
}

#[tokio::test]
async fn wrong_answers_and_other_statuses_are_told_apart() {
    let address = server(|number| async move {
        let mut response = ok("no");
        if number % 2 == 0 {
            *response.status_mut() = http::StatusCode::TOO_MANY_REQUESTS;
        }
        response
    })
    .await;
    let mut options = LoadOptions::to(address);
    options.arrivals = Arrivals::Constant;
    let report = run(options, 100.0, requests(|_| Err("not what was asked".to_owned())), 0.5).await;
    let totals = &report.totals;
    let refused = totals.status.get(&429).copied().unwrap_or_default();
    assert_eq!(totals.due, totals.wrong + refused, "{totals:?}");
    assert!(totals.wrong > 10 && refused > 10, "{totals:?}");
    assert_eq!((totals.failed(), totals.checked()), (refused, totals.wrong));
    assert!(
        report
            .failures
            .iter()
            .any(|(_, text)| text.contains("not what was asked")),
        "{:?}",
        report.failures
    );
}

#[tokio::test]
async fn nobody_listening_is_a_connect_error() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let report = run(LoadOptions::to(address), 100.0, anything(), 0.3).await;
    assert!(report.totals.due > 5);
    assert_eq!(report.totals.connect_failed, report.totals.due);
}

#[tokio::test]
async fn connecting_is_tried_again_as_often_as_allowed_and_counted() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut options = LoadOptions::to(listener.local_addr().unwrap());
    options.connect_retries = 3;
    drop(listener);
    let totals = Load::once(&options, &anything()).await.totals;
    assert_eq!((totals.connect_failed, totals.connect_retried, totals.due), (1, 3, 1));
}

#[tokio::test]
async fn a_server_that_never_answers_is_a_timeout_and_what_cannot_wait_is_not_sent() {
    let address = server(|_| std::future::pending()).await;
    let mut options = LoadOptions::to(address);
    (options.timeout, options.connections_max, options.waiting_max) = (Duration::from_millis(300), 1, 2);
    let report = run(options, 200.0, anything(), 0.5).await;
    let totals = &report.totals;
    assert_eq!(totals.due, totals.timeout + totals.not_sent, "{totals:?}");
    assert!(totals.timeout >= 3 && totals.not_sent > 10, "{totals:?}");
}

/// Reads one request, however it is cut.
async fn read_request(stream: &mut tokio::net::TcpStream) -> bool {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n{}") {
        let mut byte = [0];
        if stream.read_exact(&mut byte).await.is_err() {
            return false;
        }
        read.extend(byte);
    }
    true
}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Answers one request per connection, reads a second one and closes without a byte; or, as `cut` says, in the middle of the second answer.
async fn closing_server(answers: usize, cut: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                for _ in 0..answers {
                    if !read_request(&mut stream).await || stream.write_all(ANSWER).await.is_err() {
                        return;
                    }
                }
                read_request(&mut stream).await;
                let _ = stream.write_all(cut).await;
            });
        }
    });
    address
}

fn one_connection(address: SocketAddr) -> LoadOptions {
    let mut options = LoadOptions::to(address);
    (options.connections_max, options.arrivals) = (1, Arrivals::Constant);
    options
}

#[tokio::test]
async fn right_answers_in_time_are_counted_apart_from_late_ones() {
    // Every second answer is late.
    let address = server(|number| async move {
        if number % 2 == 1 {
            sleep(Duration::from_millis(300)).await;
        }
        ok("")
    })
    .await;
    let mut options = LoadOptions::to(address);
    (options.arrivals, options.in_time) = (Arrivals::Constant, Duration::from_millis(150));
    let report = run(options, 40.0, anything(), 1.0).await;
    assert_eq!(report.totals.ok, report.totals.due, "{:?}", report.totals);
    let late = report.totals.ok - report.in_time;
    // A busy machine makes more of them late, and none of the late ones early.
    assert!(late >= report.totals.ok / 2 && report.in_time > 0, "{report:?}");
}

#[tokio::test]
async fn a_reused_connection_that_takes_a_request_and_closes_without_a_byte_has_lost_it() {
    let address = closing_server(1, b"").await;
    let report = run(one_connection(address), 50.0, anything(), 0.5).await;
    let totals = &report.totals;
    // Each connection serves its first request and takes its second: the server may have begun with it.
    assert!(totals.reset > 5 && totals.ok > 5, "{totals:?}");
    assert_eq!(
        (totals.ok + totals.reset, totals.retried),
        (totals.due, 0),
        "{totals:?}"
    );
}

#[tokio::test]
async fn a_fresh_connection_that_closes_without_a_byte_is_a_failure() {
    let address = closing_server(0, b"").await;
    let report = run(one_connection(address), 50.0, anything(), 0.5).await;
    assert_eq!(
        (report.totals.reset, report.totals.retried),
        (report.totals.due, 0),
        "{:?}",
        report.totals
    );
}

#[tokio::test]
async fn an_answer_that_has_begun_is_never_asked_for_again() {
    for cut in [
        &b"HTTP/1.1 200 OK\r\ncont"[..],
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no",
    ] {
        let address = closing_server(1, cut).await;
        let report = run(one_connection(address), 50.0, anything(), 0.5).await;
        let totals = &report.totals;
        assert!(totals.reset > 5 && totals.ok > 5, "{totals:?}");
        assert_eq!(
            (totals.ok + totals.reset, totals.retried),
            (totals.due, 0),
            "{totals:?}"
        );
    }
}

#[tokio::test]
async fn the_rate_and_the_requests_change_while_it_runs() {
    let address = server(|_| async { ok("") }).await;
    let mut options = LoadOptions::to(address);
    options.arrivals = Arrivals::Constant;
    let load = Load::start(
        options,
        Profile {
            rate: 0.0,
            requests: anything(),
        },
    );
    sleep(Duration::from_millis(200)).await;
    assert_eq!(load.totals().due, 0);
    // By the clock, because a busy machine sleeps longer than it was told.
    let begun = Instant::now();
    load.set_rate(100.0);
    sleep(Duration::from_millis(500)).await;
    let (slow, expected) = (load.totals().due as f64, begun.elapsed().as_secs_f64() * 100.0);
    assert!((slow - expected).abs() <= 5.0 + expected * 0.2, "{slow}, {expected}");
    let _ = load.window();
    load.set(Profile {
        rate: 400.0,
        requests: requests(|_| Err("now checked".to_owned())),
    });
    sleep(Duration::from_millis(500)).await;
    let window = load.window();
    assert!((300.0..=440.0).contains(&window.offered), "{window:?}");
    assert!(window.failed > 50, "{window:?}");
    let report = load.stop().await;
    assert_eq!(report.totals.due, report.totals.ended());
}

#[tokio::test]
async fn a_burst_is_due_at_once_whatever_the_rate() {
    let address = server(|_| async { ok("{}") }).await;
    let profile = Profile {
        rate: 0.0,
        requests: anything(),
    };
    let load = Load::start(LoadOptions::to(address), profile);
    load.burst(20);
    load.burst(3);
    let before = Instant::now();
    while load.totals().ok < 23 {
        assert!(before.elapsed() < Duration::from_secs(20), "{:?}", load.totals());
        tokio::task::yield_now().await;
    }
    let totals = load.stop().await.totals;
    assert_eq!((totals.due, totals.ok), (23, 23), "{totals:?}");
}

#[tokio::test]
async fn a_replay_waits_for_no_answer_and_leaves_a_sample_of_each_request() {
    let second = Arc::new(tokio::sync::Notify::new());
    // The first answer comes after the second request, the third is an error.
    let address = server({
        let second = Arc::clone(&second);
        move |number| {
            let second = Arc::clone(&second);
            async move {
                match number {
                    0 => second.notified().await,
                    1 => second.notify_one(),
                    _ => {
                        let mut busy = ok("{}");
                        *busy.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                        return busy;
                    }
                }
                ok("{}")
            }
        }
    })
    .await;
    let times = [0, 10, 500].map(Duration::from_millis);
    let (samples, late) = replay(&LoadOptions::to(address), Instant::now(), &times, &anything()).await;
    let seen: Vec<(f64, &str)> = samples.iter().map(|sample| (sample.due, sample.outcome)).collect();
    assert_eq!(seen, [(0.0, "ok"), (0.01, "ok"), (0.5, "status")]);
    // Latency counts from when a request was due, and so holds what the generator was late.
    assert!(
        samples[0].is_ok() && !samples[2].is_ok() && samples[0].latency_ms >= 10.0,
        "{samples:?}"
    );
    assert!(late < Duration::from_secs(10));
    let one_by_one = one_by_one(&LoadOptions::to(address), 2, &anything()).await;
    assert!(
        one_by_one[1].due >= one_by_one[0].due + one_by_one[0].latency_ms / 1e3,
        "{one_by_one:?}"
    );
}
