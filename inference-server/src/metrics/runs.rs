//! Runs of a model by their size, and when the last one ended: what the statistics extension asks for and the histograms do not say.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::summed::Sum;

/// Runs until now. Sizes end at the largest batch, so that few are kept.
#[derive(Debug, Clone, Default)]
pub struct Runs(Arc<Mutex<Seen>>);

/// What has been seen.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Milliseconds since 1970; 0: there was none yet.
    pub last_millis: u64,
    /// By number of items.
    pub by_size: BTreeMap<usize, Sum>,
}

impl Runs {
    /// Adds one of so many items that ended at this time of day, in milliseconds since 1970.
    pub fn add(&self, items: usize, duration: Duration, at_millis: u64) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Several threads run one model, and who ended later may come here sooner.
        seen.last_millis = seen.last_millis.max(at_millis);
        let sum = seen.by_size.entry(items).or_default();
        sum.count += 1;
        sum.nanos += u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    }

    /// What has been added until now.
    pub fn get(&self) -> Seen {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
