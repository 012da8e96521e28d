//! Every decision of the operator's own autoscaler with everything that it was made of: bounded, compressed, in memory, and gone with the process.
//!
//! The records of a service are kept in segments. Each begins with the policy and with what was remembered, so that a replay can begin there; when
//! there is no room, the oldest segment of all services goes. No I/O and no clock; the one lock guards the segments.

mod segment;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tidewright_scaling::record::Record;
use tidewright_scaling::units::Moment;

use crate::domain::published::ServiceKey;
use segment::Book;
pub use segment::Kept;

/// Bytes after which a segment is closed and compressed: what a replay has to go through at least, and what is not compressed yet.
const SEGMENT_BYTES_MIN: usize = 16 << 10;
const SEGMENT_BYTES_MAX: usize = 256 << 10;

/// What is kept of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Of the InferenceService.
    pub namespace: String,
    /// Of the InferenceService.
    pub name: String,
    /// Time of the first decision that is kept.
    pub from: Moment,
    /// Time of the last.
    pub to: Moment,
    /// Decisions.
    pub records: u64,
    /// Memory that they take.
    pub bytes: usize,
}

/// All of it. Writers and readers wait for each other for the compression of one segment at most.
#[derive(Debug)]
pub struct Ledger {
    bytes_max: usize,
    books: Mutex<Books>,
}

/// Those of all services, and the memory that they take: counted as it changes, for there is a record a second of every service.
#[derive(Debug, Default)]
struct Books {
    by_service: BTreeMap<ServiceKey, Book>,
    bytes: usize,
}

impl Ledger {
    /// Keeps so much; nothing with 0.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            books: Mutex::default(),
        }
    }

    /// Whether the next record of a service has to begin a segment: with its policy, and with what was remembered before it.
    pub fn wants_start(&self, key: &ServiceKey) -> bool {
        if self.bytes_max == 0 {
            return false;
        }
        let books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = (self.bytes_max / 4 / books.by_service.len().max(1)).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
        books.by_service.get(key).is_none_or(|book| book.is_full(limit))
    }

    /// Keeps a record. One that carries what was remembered begins a segment.
    pub fn note(&self, key: &ServiceKey, record: &Record) {
        if self.bytes_max == 0 {
            return;
        }
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = books.note(key, record) {
            tracing::warn!(service = %key, %error, "a decision could not be kept");
        }
        books.evict(self.bytes_max);
    }

    /// The segments that touch this span, oldest first, and the last decision before it: the one that counts at its beginning.
    pub fn read(&self, key: &ServiceKey, from: Moment, to: Moment) -> Vec<Kept> {
        let books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        let book = books.by_service.get(key);
        book.map(|book| book.read(from, to)).unwrap_or_default()
    }

    /// What is kept of which services.
    pub fn summaries(&self) -> Vec<Summary> {
        let books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        let all = books.by_service.iter().filter_map(|(key, book)| {
            let (from, to) = book.span()?;
            Some(Summary {
                namespace: key.namespace.clone(),
                name: key.name.clone(),
                from,
                to,
                records: book.records(),
                bytes: book.bytes(),
            })
        });
        all.collect()
    }
}

impl Books {
    fn note(&mut self, key: &ServiceKey, record: &Record) -> io::Result<()> {
        let book = self.by_service.entry(key.clone()).or_default();
        let before = book.bytes();
        let noted = book.note(record);
        self.bytes = (self.bytes + book.bytes()).saturating_sub(before);
        noted
    }

    /// Lets the oldest segments go until the rest fits.
    fn evict(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max {
            let books = self.by_service.iter();
            let oldest = books.filter_map(|(key, book)| Some((book.oldest_end()?, key)));
            let Some((_, key)) = oldest.min() else { return };
            let key = key.clone();
            let Some(book) = self.by_service.get_mut(&key) else {
                return;
            };
            self.bytes = self.bytes.saturating_sub(book.drop_oldest());
            if book.records() == 0 {
                self.by_service.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tidewright_scaling::observation::{PoolView, Sample};
    use tidewright_scaling::policy::{Balancing, Draft, Fallback, Objective, Pool, Signal, SignalKind, Tuning};
    use tidewright_scaling::record::{Replay, Replayed};
    use tidewright_scaling::units::Raw;
    use tidewright_scaling::{Observations, Policy, State, decide};

    use super::*;

    fn policy() -> Policy {
        let pool = Pool {
            name: "cpu".to_owned(),
            replicas_min: 1,
            replicas_max: 20,
            slots: 1,
            cost: 1.0,
            service_seconds_prior: 0.02,
            start_seconds_prior: 10.0,
        };
        let signal = Signal {
            name: "rate".to_owned(),
            kind: SignalKind::ArrivalRate,
            stale_after_seconds: 30.0,
        };
        let draft = Draft {
            pools: vec![pool],
            signals: vec![signal],
            objective: Objective {
                latency_seconds: 0.2,
                late_share: 0.05,
            },
            balancing: Balancing::Random,
            fallback: Fallback::default(),
            up_limits: Vec::new(),
            down_limits: Vec::new(),
            tuning: Tuning::default(),
        };
        draft.check().unwrap()
    }

    fn at(second: u64) -> Moment {
        Moment::from_millis(1_800_000_000_000 + second * 1000)
    }

    /// Decides each second about a load that moves, as the autoscaler does.
    fn run(ledger: &Ledger, key: &ServiceKey, seconds: std::ops::Range<u64>) {
        let policy = policy();
        let (mut state, mut replicas) = (State::default(), 1);
        for second in seconds {
            let sample = Sample {
                value: Raw(50.0 + (second * 37 % 101) as f64 / 3.0),
                at: at(second),
                window_seconds: 30.0,
                targets_up: 1,
                targets_all: 1,
                targets_covered: Some(1),
            };
            let seen = Observations {
                signals: vec![Ok(sample)],
                pools: vec![PoolView {
                    replicas,
                    ..PoolView::default()
                }],
                ..Observations::default()
            };
            let is_start = ledger.wants_start(key);
            let before = is_start.then(|| state.clone());
            let (decision, next) = decide(&policy, &seen, std::mem::take(&mut state), at(second));
            state = next;
            replicas = decision.pools[0].to;
            let record = Record {
                at: at(second),
                seen,
                decision,
                policy: is_start.then(|| policy.clone()),
                state: before,
            };
            ledger.note(key, &record);
        }
    }

    fn records(ledger: &Ledger, key: &ServiceKey, from: u64, to: u64) -> Vec<Record> {
        let mut all = Vec::new();
        for kept in ledger.read(key, at(from), at(to)) {
            let lines = kept.lines().unwrap();
            let text = std::str::from_utf8(&lines).unwrap();
            all.extend(text.lines().map(|line| serde_json::from_str::<Record>(line).unwrap()));
        }
        all
    }

    #[test]
    fn what_is_kept_replays_to_the_same_decisions_from_any_segment_on() {
        let ledger = Ledger::new(64 << 20);
        let key = ServiceKey::new("demo", "digits");
        run(&ledger, &key, 0..700);
        let all = records(&ledger, &key, 0, 700);
        assert_eq!(all.len(), 700);
        assert!(ledger.read(&key, at(0), at(700)).len() > 2, "several segments");
        for from in [0, 300, 699, 10_000] {
            let some = records(&ledger, &key, from, 10_000);
            let mut replay = Replay::default();
            assert!(
                some.iter().all(|record| replay.next(record) == Replayed::Equal),
                "from {from}"
            );
            assert_eq!(some.last().unwrap().at, at(699), "the newest is always there");
        }
        // What counts at a time between two segments is the last decision of the first of them.
        let ends = all.iter().skip(1).zip(&all).filter(|(next, _)| next.state.is_some());
        for (next, last) in ends {
            let between = Moment::from_millis(u64::midpoint(last.at.as_millis(), next.at.as_millis()));
            let [kept] = ledger.read(&key, between, between).try_into().unwrap();
            let lines = String::from_utf8(kept.lines().unwrap()).unwrap();
            let newest: Record = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
            assert_eq!(newest.at, last.at, "of one segment, and the right one");
        }
        let long_ago = ledger.read(&key, Moment::default(), Moment::default());
        assert!(long_ago.is_empty(), "nothing is known of that time");
        let [summary] = ledger.summaries().try_into().unwrap();
        assert_eq!((summary.from, summary.to, summary.records), (at(0), at(699), 700));
    }

    #[test]
    fn it_stays_within_its_bounds_and_lets_the_oldest_go() {
        let ledger = Ledger::new(100 << 10);
        let (one, other) = (ServiceKey::new("demo", "a"), ServiceKey::new("demo", "b"));
        run(&ledger, &one, 0..500);
        run(&ledger, &other, 500..2000);
        let summaries = ledger.summaries();
        let bytes: usize = summaries.iter().map(|summary| summary.bytes).sum();
        assert!(bytes <= 100 << 10, "{summaries:?}");
        assert_eq!(ledger.books.lock().unwrap().bytes, bytes, "as it was counted meanwhile");
        let of_other = summaries.iter().find(|summary| summary.name == "b").unwrap();
        assert_eq!(of_other.to, at(1999));
        assert!(of_other.from > at(500) || summaries.len() == 1, "{summaries:?}");
        let mut replay = Replay::default();
        let kept = records(&ledger, &other, 0, 10_000);
        assert!(kept.iter().all(|record| replay.next(record) == Replayed::Equal));
    }

    #[test]
    fn with_no_room_nothing_is_kept() {
        let ledger = Ledger::new(0);
        let key = ServiceKey::new("demo", "digits");
        run(&ledger, &key, 0..10);
        assert!(ledger.summaries().is_empty() && ledger.read(&key, at(0), at(9)).is_empty());
    }
}
