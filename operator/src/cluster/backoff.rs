//! How long one watch waits after a failure, and for how long it has been failing. Pure; the time is given.

use std::time::Duration;

use tokio::time::Instant;

const WAIT_MIN: Duration = Duration::from_millis(800);
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Grows with each failure. Nothing shrinks it but a watch that works: an answered list does not, for the watch after it may be refused each time.
#[derive(Debug)]
pub(super) struct Backoff {
    wait: Duration,
    failing_since: Option<Instant>,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            wait: WAIT_MIN,
            failing_since: None,
        }
    }
}

impl Backoff {
    /// Counts a failure and says how long to wait now; `jitter`, 0 to 1, shortens the wait by up to a third.
    pub(super) fn failed(&mut self, now: Instant, jitter: f64) -> Duration {
        self.failing_since.get_or_insert(now);
        let wait = self.wait;
        self.wait = (wait * 2).min(WAIT_MAX);
        wait.mul_f64(1.0 - 0.3 * jitter.clamp(0.0, 1.0))
    }

    /// The watch works.
    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// For how long it has been failing; `None` if it is not.
    pub(super) fn failing_for(&self, now: Instant) -> Option<Duration> {
        self.failing_since.map(|since| now.duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_thirty_seconds_until_the_watch_works() {
        let start = tokio::time::Instant::now();
        let mut backoff = Backoff::default();
        assert_eq!(backoff.failing_for(start), None);
        let waits: Vec<u128> = (0..7)
            .map(|n| backoff.failed(start + Duration::from_secs(n), 0.0).as_millis())
            .collect();
        assert_eq!(waits, [800, 1600, 3200, 6400, 12_800, 25_600, 30_000]);
        assert_eq!(
            backoff.failing_for(start + Duration::from_secs(90)),
            Some(Duration::from_secs(90))
        );
        assert_eq!(backoff.failed(start, 1.0), Duration::from_secs(21));
        backoff.succeeded();
        assert_eq!(
            (backoff.failing_for(start), backoff.failed(start, 0.0).as_millis()),
            (None, 800)
        );
    }
}
