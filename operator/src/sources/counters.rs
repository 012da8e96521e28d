//! How the queries went, for the operator's own metrics.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use crate::domain::published::Unavailable;

/// The outcome of a query that was answered well.
pub const OK: &str = "ok";

/// Queries by outcome. The outcomes are [`OK`] and the words of [`crate::domain::published::Reason`], hence few.
#[derive(Debug, Default)]
pub struct Counters(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    queries: BTreeMap<&'static str, u64>,
    last_success: Option<Timestamp>,
}

impl Counters {
    /// Notes how a query went.
    pub fn note<T>(&self, outcome: &Result<T, Unavailable>, now: Timestamp) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let word = match outcome {
            Ok(_) => {
                counts.last_success = Some(now);
                OK
            }
            Err(trouble) => trouble.reason.as_str(),
        };
        *counts.queries.entry(word).or_default() += 1;
    }

    /// Queries so far, by outcome.
    pub fn snapshot(&self) -> Vec<(&'static str, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.queries.iter().map(|(word, count)| (*word, *count)).collect()
    }

    /// When a query last succeeded.
    pub fn last_success(&self) -> Option<Timestamp> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).last_success
    }
}
