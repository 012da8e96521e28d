//! What became of every request: counts, latencies, and both over time.
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::time::Instant;

use super::client::Exchange;

/// How a request ended. Everything but `Ok` is a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Status 200 and the right answer.
    Ok,
    /// Status 200 and a wrong answer: what is wrong.
    Wrong(String),
    /// Another status, with the beginning of the body.
    Status(u16, String),
    /// No connection.
    ConnectFailed(String),
    /// The connection ended before the answer did.
    Reset(String),
    /// No whole answer in time.
    Timeout,
    /// The client's own queue was full.
    NotSent,
}

impl Outcome {
    /// One word for it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Wrong(_) => "wrong",
            Self::Status(..) => "status",
            Self::ConnectFailed(_) => "connect failed",
            Self::Reset(_) => "reset",
            Self::Timeout => "timeout",
            Self::NotSent => "not sent",
        }
    }
}

/// Counts since the start. `due` is the sum of all ends once the load has stopped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    pub due: u64,
    pub ok: u64,
    pub wrong: u64,
    /// Answers with a status other than 200, by status.
    pub status: BTreeMap<u16, u64>,
    pub connect_failed: u64,
    pub reset: u64,
    pub timeout: u64,
    pub not_sent: u64,
    /// Requests sent on another connection, because theirs had closed before a byte of them was written. No failures.
    pub retried: u64,
    /// Attempts to connect that failed and were made again, where the options allow that. No failures.
    pub connect_retried: u64,
    pub connections_opened: u64,
}

impl Totals {
    /// Requests that ended otherwise than with status 200.
    pub fn failed(&self) -> u64 {
        self.status.values().sum::<u64>() + self.connect_failed + self.reset + self.timeout + self.not_sent
    }

    /// Requests that ended.
    pub fn ended(&self) -> u64 {
        self.ok + self.wrong + self.failed()
    }

    /// Answers whose content was compared with what it must be.
    pub fn checked(&self) -> u64 {
        self.ok + self.wrong
    }

    /// Counts those of another load too.
    pub fn add(&mut self, other: &Self) {
        self.due += other.due;
        self.ok += other.ok;
        self.wrong += other.wrong;
        for (status, count) in &other.status {
            *self.status.entry(*status).or_default() += count;
        }
        self.connect_failed += other.connect_failed;
        self.reset += other.reset;
        self.timeout += other.timeout;
        self.not_sent += other.not_sent;
        self.retried += other.retried;
        self.connect_retried += other.connect_retried;
        self.connections_opened += other.connections_opened;
    }

    fn count(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Ok => self.ok += 1,
            Outcome::Wrong(_) => self.wrong += 1,
            Outcome::Status(status, _) => *self.status.entry(*status).or_default() += 1,
            Outcome::ConnectFailed(_) => self.connect_failed += 1,
            Outcome::Reset(_) => self.reset += 1,
            Outcome::Timeout => self.timeout += 1,
            Outcome::NotSent => self.not_sent += 1,
        }
    }
}

/// Latencies in milliseconds, from when a request was due.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Quantiles {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

/// One second of the load.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Second {
    /// Requests that became due in it.
    pub offered: u64,
    /// Right answers that ended in it.
    pub served: u64,
    /// Everything else that ended in it.
    pub failed: u64,
    /// Of what ended in it, in milliseconds; 0 where nothing ended.
    pub p50: f64,
    pub p99: f64,
}

/// Since the last look.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Window {
    pub seconds: f64,
    /// Requests per second that became due.
    pub offered: f64,
    /// Right answers per second.
    pub served: f64,
    /// Everything else, as a count.
    pub failed: u64,
    /// Requests that are due and have not ended.
    pub pending: u64,
    pub latency: Quantiles,
}

/// Everything, at the end.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    pub totals: Totals,
    pub latency: Quantiles,
    /// Right answers that took at most the time of the options.
    pub in_time: u64,
    pub timeline: Vec<Second>,
    /// The first failures, with seconds since the start.
    pub failures: Vec<(f64, String)>,
    /// Most milliseconds by which the generator itself was late.
    pub generator_late_max: f64,
}

const FAILURES_MAX: usize = 20;
/// A day: after it, totals go on and the timeline does not.
const TIMELINE_SECONDS_MAX: usize = 86_400;

/// Collects, for all workers.
#[derive(Debug)]
pub struct Recorder {
    start: Instant,
    in_time: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    totals: Totals,
    in_time: u64,
    all: Histogram<u64>,
    second: Histogram<u32>,
    /// Index of the second that `second` is of.
    second_index: usize,
    window: Histogram<u32>,
    window_start: Instant,
    window_offered: u64,
    window_served: u64,
    window_failed: u64,
    timeline: Vec<Second>,
    failures: Vec<(f64, String)>,
    late_max: Duration,
}

/// Microseconds up to ten minutes, three digits. The bounds are within the library's, so that this cannot fail; if it did, one digit less is no loss.
fn histogram<C: hdrhistogram::Counter>() -> Histogram<C> {
    Histogram::new_with_bounds(1, 600_000_000, 3).unwrap_or_else(|_| unreachable!("constant bounds"))
}

fn quantiles<C: hdrhistogram::Counter>(histogram: &Histogram<C>) -> Quantiles {
    let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1e3;
    if histogram.is_empty() {
        return Quantiles::default();
    }
    Quantiles {
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        max: histogram.max() as f64 / 1e3,
    }
}

impl Recorder {
    pub fn start(in_time: Duration) -> Self {
        let start = Instant::now();
        let state = State {
            totals: Totals::default(),
            in_time: 0,
            all: histogram(),
            second: histogram(),
            second_index: 0,
            window: histogram(),
            window_start: start,
            window_offered: 0,
            window_served: 0,
            window_failed: 0,
            timeline: Vec::new(),
            failures: Vec::new(),
            late_max: Duration::ZERO,
        };
        Self {
            start,
            in_time,
            state: Mutex::new(state),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn index(&self, at: Instant) -> usize {
        at.saturating_duration_since(self.start).as_secs() as usize
    }

    /// A request became due, and was noticed at `noticed`.
    pub fn due(&self, due: Instant, noticed: Instant) {
        let index = self.index(due);
        let mut state = self.lock();
        state.totals.due += 1;
        state.window_offered += 1;
        state.late_max = state.late_max.max(noticed.saturating_duration_since(due));
        if let Some(second) = state.second_at(index) {
            second.offered += 1;
        }
    }

    /// What the client had to do.
    pub fn client(&self, exchange: &Exchange) {
        let mut state = self.lock();
        state.totals.connections_opened += exchange.connections_opened;
        state.totals.retried += exchange.retries;
        state.totals.connect_retried += u64::from(exchange.connect_retries);
    }

    /// A request ended.
    pub fn end(&self, due: Instant, ended: Instant, outcome: &Outcome) {
        let index = self.index(ended);
        let seconds = ended.saturating_duration_since(self.start).as_secs_f64();
        let micros = u64::try_from(ended.saturating_duration_since(due).as_micros())
            .unwrap_or(u64::MAX)
            .max(1);
        let mut state = self.lock();
        if index > state.second_index {
            state.close_second(index);
        }
        state.totals.count(outcome);
        // What could not be sent has no latency.
        if *outcome != Outcome::NotSent {
            state.all.saturating_record(micros);
            state.second.saturating_record(micros);
            state.window.saturating_record(micros);
        }
        let served = *outcome == Outcome::Ok;
        if served {
            state.window_served += 1;
            state.in_time += u64::from(ended.saturating_duration_since(due) <= self.in_time);
        } else {
            state.window_failed += 1;
            if state.failures.len() < FAILURES_MAX {
                state.failures.push((seconds, format!("{outcome:?}")));
            }
        }
        if let Some(second) = state.second_at(index) {
            if served { second.served += 1 } else { second.failed += 1 }
        }
    }

    pub fn totals(&self) -> Totals {
        self.lock().totals.clone()
    }

    pub fn window(&self) -> Window {
        let now = Instant::now();
        let mut state = self.lock();
        let seconds = now.duration_since(state.window_start).as_secs_f64().max(1e-9);
        let window = Window {
            seconds,
            offered: state.window_offered as f64 / seconds,
            served: state.window_served as f64 / seconds,
            failed: state.window_failed,
            pending: state.totals.due.saturating_sub(state.totals.ended()),
            latency: quantiles(&state.window),
        };
        state.window.reset();
        state.window_start = now;
        (state.window_offered, state.window_served, state.window_failed) = (0, 0, 0);
        window
    }

    pub fn report(&self) -> Report {
        let mut state = self.lock();
        let next = state.second_index + 1;
        state.close_second(next);
        Report {
            totals: state.totals.clone(),
            latency: quantiles(&state.all),
            in_time: state.in_time,
            timeline: state.timeline.clone(),
            failures: state.failures.clone(),
            generator_late_max: state.late_max.as_secs_f64() * 1e3,
        }
    }
}

impl State {
    fn second_at(&mut self, index: usize) -> Option<&mut Second> {
        if index >= TIMELINE_SECONDS_MAX {
            return None;
        }
        if self.timeline.len() <= index {
            self.timeline.resize(index + 1, Second::default());
        }
        self.timeline.get_mut(index)
    }

    /// Writes the quantiles of the second under way into the timeline and begins second `next`.
    fn close_second(&mut self, next: usize) {
        let latency = quantiles(&self.second);
        let index = self.second_index;
        if let Some(second) = self.second_at(index) {
            (second.p50, second.p99) = (latency.p50, latency.p99);
        }
        self.second.reset();
        self.second_index = next;
    }
}
