//! Who may write: a pure reading of the Lease.
//!
//! Time is measured from when *we* saw the holder renew, not from the time that the holder wrote: clocks of nodes differ, and an hour of skew must
//! not make two leaders (the way of client-go's leader election).

use std::time::Duration;

/// What the Lease says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// Who holds it; empty if it was given back.
    pub holder: String,
    /// Changes at every renewal.
    pub version: String,
    /// How often the holder changed.
    pub transitions: i32,
}

/// What to do about the Lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nobody holds it, or the holder has not renewed it in its time: take it.
    Take,
    /// We hold it: renew.
    Renew,
    /// Somebody else holds it.
    Wait,
}

/// `unchanged_for` is how long we have seen `record` in just this version; `None` if it is new to us.
pub fn step(record: &Record, me: &str, unchanged_for: Duration, lasts: Duration) -> Step {
    if record.holder == me {
        Step::Renew
    } else if record.holder.is_empty() || unchanged_for >= lasts {
        Step::Take
    } else {
        Step::Wait
    }
}

/// Whether we may still write: the last renewal that the API server confirmed is younger than the Lease's time less a margin, which
/// leaves a call that has begun the time to end before another may lead.
pub fn may_write(since_renewal: Duration, lasts: Duration) -> bool {
    since_renewal < good_for(lasts)
}

/// How long after a renewal we may write.
pub fn good_for(lasts: Duration) -> Duration {
    lasts.mul_f64(2.0 / 3.0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Record, Step, may_write, step};

    const LASTS: Duration = Duration::from_secs(15);

    fn held_by(holder: &str) -> Record {
        Record {
            holder: holder.to_owned(),
            ..Record::default()
        }
    }

    #[test]
    fn a_lease_is_taken_only_when_free_or_run_out() {
        assert_eq!(step(&held_by("b"), "a", Duration::from_secs(14), LASTS), Step::Wait);
        assert_eq!(step(&held_by("b"), "a", LASTS, LASTS), Step::Take);
        assert_eq!(step(&held_by(""), "a", Duration::ZERO, LASTS), Step::Take);
        assert_eq!(step(&held_by("a"), "a", Duration::ZERO, LASTS), Step::Renew);
    }

    #[test]
    fn we_stop_writing_before_another_may_begin() {
        assert!(may_write(Duration::from_secs(9), LASTS));
        assert!(!may_write(Duration::from_secs(10), LASTS));
    }
}
