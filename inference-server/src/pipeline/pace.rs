//! How long those who wait will have to: for when to come back, and for who need not wait at all.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Time per item of late, for `Retry-After`.
#[derive(Debug, Default)]
pub struct Pace(AtomicU64);

impl Pace {
    /// Learns from one run; a moving average over about eight runs.
    pub fn learn(&self, duration: Duration, items: usize) {
        let sample = duration.as_secs_f64() / items.max(1) as f64;
        let before = f64::from_bits(self.0.load(Ordering::Relaxed));
        let after = if before == 0.0 {
            sample
        } else {
            before + (sample - before) / 8.0
        };
        self.0.store(after.to_bits(), Ordering::Relaxed);
    }

    /// When `waiting` items will have been served by `workers`, as far as is known, for `Retry-After`: whole seconds, 1 to 30.
    pub fn retry_after(&self, waiting: usize, workers: usize) -> Duration {
        let seconds = f64::from_bits(self.0.load(Ordering::Relaxed)) * waiting as f64 / workers.max(1) as f64;
        Duration::from_secs(seconds.ceil().clamp(1.0, 30.0) as u64)
    }
}

/// When a run will have ended where nobody else has one: after the work ahead, shared by the workers, and itself.
pub fn alone(ahead: Duration, own: Duration, workers: usize) -> Duration {
    let share = ahead / u32::try_from(workers.max(1)).unwrap_or(u32::MAX);
    share.saturating_add(own)
}

/// When a run that is asked for now will have ended: half a run like it, that a worker is at, later than alone.
pub fn done(ahead: Duration, own: Duration, workers: usize) -> Duration {
    alone(ahead, own, workers).saturating_add(own / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_follows_the_pace() {
        let pace = Pace::default();
        assert_eq!(pace.retry_after(1000, 1), Duration::from_secs(1));
        pace.learn(Duration::from_millis(100), 1);
        assert_eq!(pace.retry_after(100, 2), Duration::from_secs(5));
        assert_eq!(pace.retry_after(100_000, 1), Duration::from_secs(30));
    }

    #[test]
    fn a_run_ends_after_what_is_ahead_of_it() {
        let millis = Duration::from_millis;
        assert_eq!(done(millis(400), millis(100), 2), millis(350));
        assert_eq!(done(millis(400), Duration::ZERO, 1), millis(400));
        // No engine works: as if one did.
        assert_eq!(done(millis(400), millis(100), 0), millis(550));
    }
}
