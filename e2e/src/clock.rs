//! The one door to time, and a stopwatch for the figures that are printed.
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result};
use k8s_openapi::jiff::Timestamp;

/// The current instant.
#[allow(clippy::disallowed_methods, reason = "this is the door that the others go through")]
pub fn now() -> Instant {
    Instant::now()
}

/// The time of day, to compare with what a cluster writes into its objects.
#[allow(clippy::disallowed_methods, reason = "this is the door that the others go through")]
pub fn time_of_day() -> Result<Timestamp> {
    Timestamp::try_from(SystemTime::now()).context("the machine's clock")
}

/// Measures how long something took.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    pub fn start() -> Self {
        Self(now())
    }

    pub fn elapsed(&self) -> Duration {
        now().duration_since(self.0)
    }

    /// Elapsed seconds, for people.
    pub fn seconds(&self) -> f64 {
        self.elapsed().as_secs_f64()
    }
}
