//! Load whose every instant is given, and each request of which leaves a sample.
//!
//! Each request has a connection of its own, so that a Service's balancing, which is of connections, is one of requests.
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::client::{Client, Exchange};
use super::{LoadOptions, Outcome, Request};

/// One request.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Sample {
    /// When it was due, in seconds since the start.
    pub due: f64,
    /// From when it was due to its end.
    pub latency_ms: f64,
    /// How it ended: `ok`, or [`Outcome::as_str`] of what went wrong.
    pub outcome: &'static str,
}

impl Sample {
    fn of(start: Instant, due: Instant, exchange: &Exchange) -> Self {
        let ended = exchange.ended.saturating_duration_since(due);
        Self {
            due: due.saturating_duration_since(start).as_secs_f64(),
            latency_ms: ended.as_secs_f64() * 1e3,
            outcome: exchange.outcome.as_str(),
        }
    }

    /// Whether the answer was right.
    pub fn is_ok(&self) -> bool {
        self.outcome == Outcome::Ok.as_str()
    }
}

/// Sends a request at each of these times since `start`, whatever became of those before, and waits for every end. The samples by when they were due,
/// and by how much the generator itself was late at most, which counts as latency.
pub async fn replay(
    options: &LoadOptions,
    start: Instant,
    times: &[Duration],
    requests: &[Request],
) -> (Vec<Sample>, Duration) {
    let client = Arc::new(Client::new(options));
    let mut exchanges = JoinSet::new();
    let mut late_max = Duration::ZERO;
    for (time, request) in times.iter().zip(requests.iter().cycle()) {
        let due = start + *time;
        sleep_until(due).await;
        late_max = late_max.max(due.elapsed());
        let (client, request) = (Arc::clone(&client), request.clone());
        exchanges.spawn(async move { Sample::of(start, due, &client.exchange(&mut None, &request, due).await) });
    }
    let mut samples: Vec<Sample> = exchanges.join_all().await;
    samples.sort_by(|a, b| a.due.total_cmp(&b.due));
    (samples, late_max)
}

/// Sends so many requests, each when the one before has ended.
pub async fn one_by_one(options: &LoadOptions, count: usize, requests: &[Request]) -> Vec<Sample> {
    let client = Client::new(options);
    let start = Instant::now();
    let mut samples = Vec::with_capacity(count);
    for request in requests.iter().cycle().take(count) {
        let due = Instant::now();
        samples.push(Sample::of(start, due, &client.exchange(&mut None, request, due).await));
    }
    samples
}
