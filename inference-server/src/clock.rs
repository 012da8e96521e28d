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

/// The time of day in milliseconds since 1970.
pub fn wall_millis() -> u64 {
    let since = wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
