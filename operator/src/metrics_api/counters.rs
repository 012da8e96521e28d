//! How requests went, for the operator's own metrics.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Requests by status code. The codes are those of [`crate::metrics_api::refusal::Refusal`] and 200, hence few.
#[derive(Debug, Default)]
pub struct Counters(Mutex<BTreeMap<u16, u64>>);

impl Counters {
    /// Notes an answer.
    pub fn note(&self, code: u16) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(code).or_default() += 1;
    }

    /// Answers so far, by code.
    pub fn snapshot(&self) -> Vec<(u16, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(code, count)| (*code, *count)).collect()
    }
}
