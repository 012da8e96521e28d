//! The one place that asks for the time. Everything that decides takes an [`Instant`] as an argument, so that tests can set it.

pub use std::time::{Duration, Instant, SystemTime};

/// The monotonic time now.
#[allow(clippy::disallowed_methods)]
pub fn now() -> Instant {
    Instant::now()
}

/// The time of day, for comparing with the times of files.
#[allow(clippy::disallowed_methods)]
pub fn wall() -> SystemTime {
    SystemTime::now()
}
