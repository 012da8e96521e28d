//! When to try again. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// The first wait after a failure.
const WAIT_MIN: Duration = Duration::from_secs(1);
/// The longest wait after many failures that may pass by themselves.
const WAIT_MAX: Duration = Duration::from_secs(300);
/// What does not pass by itself is looked at this rarely; a change of the object is looked at at once.
const WAIT_PERMANENT: Duration = Duration::from_secs(300);
/// Failures that have lasted for less than this may be a hiccup. The first five waits last for as long.
pub const BRIEF_MAX: SignedDuration = SignedDuration::from_secs(30);
/// Everything is looked at again after this time: the queue column moves without any object changing.
pub const LOOK_AGAIN: Duration = Duration::from_secs(15);
/// So long after something ended by itself it is looked at: timers may be early.
const AFTER_EDGE: Duration = Duration::from_millis(50);

/// How long to wait after `failures` failures in a row; `jitter` is between 0 and 1 and spreads objects that failed together.
pub fn after_failure(failures: u32, is_transient: bool, is_conflict: bool, jitter: f64) -> Duration {
    if is_conflict && failures <= 1 {
        return Duration::ZERO;
    }
    let wait = if is_transient {
        WAIT_MIN
            .saturating_mul(
                1_u32
                    .checked_shl(failures.saturating_sub(1).min(20))
                    .unwrap_or(u32::MAX),
            )
            .min(WAIT_MAX)
    } else {
        WAIT_PERMANENT
    };
    wait.mul_f64(1.0 - 0.3 * jitter.clamp(0.0, 1.0))
}

/// How long to wait where nothing failed: until something begins or ends by itself at `edge`, or until the next look.
pub fn look_again(edge: Option<Timestamp>, now: Timestamp) -> Duration {
    let left = edge.and_then(|edge| Duration::try_from(edge.duration_since(now)).ok());
    // A moment after it, so that it is over then.
    left.map_or(LOOK_AGAIN, |left| (left + AFTER_EDGE).min(LOOK_AGAIN))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::{AFTER_EDGE, LOOK_AGAIN, after_failure, look_again};

    #[test]
    fn what_ends_by_itself_is_looked_at_when_it_has_ended() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        assert_eq!(look_again(None, at(0)), LOOK_AGAIN);
        assert_eq!(look_again(Some(at(4)), at(0)), Duration::from_secs(4) + AFTER_EDGE);
        assert_eq!(look_again(Some(at(900)), at(0)), LOOK_AGAIN);
        assert_eq!(look_again(Some(at(0)), at(9)), LOOK_AGAIN, "it is over");
    }

    #[test]
    fn waits_double_up_to_a_limit() {
        let waits: Vec<u64> = [1, 2, 3, 8, 9, 10, 1000]
            .iter()
            .map(|n| after_failure(*n, true, false, 0.0).as_secs())
            .collect();
        assert_eq!(waits, [1, 2, 4, 128, 256, 300, 300]);
    }

    #[test]
    fn a_first_conflict_is_tried_again_at_once_and_what_cannot_pass_rarely() {
        assert_eq!(after_failure(1, true, true, 0.0), Duration::ZERO);
        assert_eq!(after_failure(2, true, true, 0.0), Duration::from_secs(2));
        assert_eq!(after_failure(1, false, false, 0.0), Duration::from_secs(300));
    }

    #[test]
    fn jitter_only_shortens() {
        assert_eq!(after_failure(3, true, false, 1.0), Duration::from_millis(2800));
    }
}
