//! How requests end, as the metrics count it: the caller's leaving included.

use std::time::Instant;

use crate::clock;
use crate::error::{Category, Error};
use crate::metrics::{ModelMetrics, Status};

/// Counts how a request ended; one that is dropped halfway was left by its caller.
#[derive(Debug)]
pub struct Ending<'m> {
    metrics: &'m ModelMetrics,
    items: usize,
    status: Status,
    began: Instant,
}

impl<'m> Ending<'m> {
    /// For a request with `items` items.
    pub fn new(metrics: &'m ModelMetrics, items: usize) -> Self {
        Self {
            metrics,
            items,
            status: Status::Cancelled,
            began: clock::now(),
        }
    }

    /// The number of items, once it is known.
    pub fn set_items(&mut self, items: usize) {
        self.items = items;
    }

    /// The end.
    pub fn set(&mut self, error: Option<&Error>) {
        self.status = match error.map(Error::category) {
            None => Status::Success,
            Some(Category::Client | Category::Server) => Status::Error,
            Some(Category::Rejected) => Status::Rejected,
            Some(Category::Timeout) => Status::Timeout,
        };
    }
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.metrics.ended(self.status, self.items);
        if self.status != Status::Success {
            let duration = clock::now().saturating_duration_since(self.began);
            self.metrics.failed.add(duration.as_secs_f64());
        }
    }
}
