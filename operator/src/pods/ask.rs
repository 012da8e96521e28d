//! One question to each pod: bounded in time, in bytes and in number. Plain HTTP to an address that the cluster gave: no name is looked up, no
//! redirect followed, no proxy used, and nothing secret sent.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use jiff::Timestamp;
use tidewright_contract::routes;
use tidewright_contract::signals::{Signals, VERSION};

use super::target::Target;
use super::turns;
use crate::clock::SharedClock;
use crate::domain::published::ServiceKey;

/// Questions under way at once, of all services together.
const AT_ONCE: usize = 128;
/// From the first byte sent to the last one read.
const ANSWER_MAX: Duration = Duration::from_millis(300);
/// Longest time of a round: whoever has not answered by then is not waited for.
pub(super) const ROUND_MAX: Duration = Duration::from_millis(500);
/// Bytes of an answer; one of today has 150.
const BYTES_MAX: usize = 4096;
/// By so much another comes first in each round: a prime number, so that each comes first in its turn, however many there are.
const STRIDE: usize = 1_000_003;
/// A connection is kept from one round to the next, and not for long after the last.
const IDLE_MAX: Duration = Duration::from_secs(90);

/// What came of a question. Closed, so that it can be a metric's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// An answer that can be used.
    Ok,
    /// No connection.
    Unreachable,
    /// No complete answer in time.
    Timeout,
    /// A server of an earlier version: it cannot be asked.
    NotFound,
    /// Another status than 200 or 404.
    Refused,
    /// Too long, no answer of this shape, or of another version of it.
    Malformed,
}

impl Outcome {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unreachable => "Unreachable",
            Self::Timeout => "Timeout",
            Self::NotFound => "NotFound",
            Self::Refused => "Refused",
            Self::Malformed => "Malformed",
        }
    }
}

/// What a pod says, and when it was heard; or why there is nothing.
type Heard = Result<(Signals, Timestamp), Outcome>;

/// Asks.
#[derive(Debug)]
pub(super) struct Asker {
    client: Client<HttpConnector, Empty<Bytes>>,
    turn: usize,
}

impl Default for Asker {
    fn default() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(ANSWER_MAX));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(1)
            .build(connector);
        Self { client, turn: 0 }
    }
}

impl Asker {
    /// Asks all pods of all services once. Who comes first changes from round to round, so that not always the same ones are cut off.
    pub(super) async fn round(
        &mut self,
        mut services: Vec<(&ServiceKey, Vec<Target>)>,
        clock: &SharedClock,
    ) -> Vec<(Target, Heard)> {
        self.turn = self.turn.wrapping_add(STRIDE);
        for (_, targets) in &mut services {
            rotate(targets, self.turn);
        }
        rotate(&mut services, self.turn);
        let client = &self.client;
        let round_end = tokio::time::Instant::now() + ROUND_MAX;
        turns::ask_all(services, AT_ONCE, |target| async move {
            let now = tokio::time::Instant::now();
            if now >= round_end {
                // It would be given up at once, for the price of a connection.
                return (target, Err(Outcome::Timeout));
            }
            let end = round_end.min(now + ANSWER_MAX);
            let heard = tokio::time::timeout_at(end, ask(client, &target));
            let heard = heard.await.unwrap_or(Err(Outcome::Timeout));
            (target, heard.map(|said| (said, clock.now())))
        })
        .await
    }
}

fn rotate<T>(all: &mut [T], by: usize) {
    let first = by.checked_rem(all.len()).unwrap_or(0);
    all.rotate_left(first);
}

async fn ask(client: &Client<HttpConnector, Empty<Bytes>>, target: &Target) -> Result<Signals, Outcome> {
    let address = target.address.ok_or(Outcome::Unreachable)?;
    let request = Request::get(format!("http://{address}{}", routes::SIGNALS))
        .header(header::ACCEPT, "application/json")
        .body(Empty::new())
        .map_err(|_| Outcome::Unreachable)?;
    let response = client.request(request).await.map_err(|_| Outcome::Unreachable)?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => return Err(Outcome::NotFound),
        _ => return Err(Outcome::Refused),
    }
    let body = Limited::new(response.into_body(), BYTES_MAX).collect().await;
    decode(&body.map_err(|_| Outcome::Malformed)?.to_bytes()).ok_or(Outcome::Malformed)
}

/// An answer, if it is one.
fn decode(bytes: &[u8]) -> Option<Signals> {
    let said: Signals = serde_json::from_slice(bytes).ok()?;
    let is_meant = said.version == VERSION && said.service_seconds.is_finite() && said.service_seconds >= 0.0;
    is_meant.then_some(said)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::clock::SystemClock;

    const GOOD: &str =
        r#"{"version":1,"process":7,"arrivals":9,"completions":7,"serviceSeconds":0.5,"queued":1,"inFlight":2}"#;

    /// A pod that answers each question with these bytes; none: it never answers.
    async fn pod(answer: Option<String>) -> Target {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let answer = answer.clone();
                tokio::spawn(async move {
                    let mut head = [0; 4096];
                    let _ = stream.read(&mut head).await;
                    match answer {
                        Some(answer) => drop(stream.write_all(answer.as_bytes()).await),
                        None => std::future::pending().await,
                    }
                });
            }
        });
        at(Some(address))
    }

    fn at(address: Option<SocketAddr>) -> Target {
        Target {
            uid: format!("{address:?}"),
            address,
            is_ready: true,
            ready_at: None,
        }
    }

    fn http(head: &str, body: &str) -> String {
        format!(
            "HTTP/1.1 {head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
    }

    #[tokio::test]
    async fn each_answer_is_what_it_is_and_none_is_waited_for_too_long() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let nobody = free.local_addr().unwrap();
        drop(free);
        let elsewhere = pod(Some(http("200 OK", GOOD))).await.address.unwrap();
        let lying = GOOD.replace("0.5", "-0.5");
        let later = GOOD.replace("\"version\":1", "\"version\":2");
        let endless = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: 9999999\r\n\r\n{}",
            " ".repeat(100_000)
        );
        let cases = [
            (pod(Some(http("200 OK", GOOD))).await, Outcome::Ok),
            (at(Some(nobody)), Outcome::Unreachable),
            (at(None), Outcome::Unreachable),
            (pod(None).await, Outcome::Timeout),
            (pod(Some(http("404 Not Found", GOOD))).await, Outcome::NotFound),
            (pod(Some(http("403 Forbidden", GOOD))).await, Outcome::Refused),
            (
                pod(Some(http(
                    &format!("307 Temporary Redirect\r\nlocation: http://{elsewhere}/signals"),
                    "",
                )))
                .await,
                Outcome::Refused,
            ),
            (pod(Some(http("200 OK", "{}"))).await, Outcome::Malformed),
            (pod(Some(http("200 OK", &lying))).await, Outcome::Malformed),
            (pod(Some(http("200 OK", &later))).await, Outcome::Malformed),
            (pod(Some(endless)).await, Outcome::Malformed),
        ];
        let (clock, key): (SharedClock, _) = (Arc::new(SystemClock), ServiceKey::new("demo", "digits"));
        let begun = tokio::time::Instant::now();
        let targets: Vec<Target> = cases.iter().map(|(target, _)| target.clone()).collect();
        let heard = Asker::default().round(vec![(&key, targets)], &clock).await;
        assert!(begun.elapsed() < ROUND_MAX + ANSWER_MAX, "{:?}", begun.elapsed());
        assert_eq!(heard.len(), cases.len());
        for (target, expected) in &cases {
            let (_, heard) = heard.iter().find(|(other, _)| other == target).unwrap();
            let outcome = heard.as_ref().map_or_else(|outcome| *outcome, |_| Outcome::Ok);
            assert_eq!(outcome, *expected, "{target:?}");
        }
    }

    #[tokio::test]
    async fn many_that_do_not_answer_end_with_the_round() {
        let silent = pod(None).await;
        // One after the other they would take twelve seconds.
        let targets = vec![silent; AT_ONCE * 40];
        let (clock, key): (SharedClock, _) = (Arc::new(SystemClock), ServiceKey::new("demo", "digits"));
        let begun = tokio::time::Instant::now();
        let heard = Asker::default().round(vec![(&key, targets)], &clock).await;
        assert!(begun.elapsed() < ROUND_MAX * 10, "{:?}", begun.elapsed());
        assert!(heard.iter().all(|(_, heard)| *heard == Err(Outcome::Timeout)));
    }
}
