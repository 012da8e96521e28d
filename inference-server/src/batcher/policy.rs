//! When a batch is closed: at once by default, or when it is full or its oldest item has waited long enough.

use std::time::{Duration, Instant};

/// The two numbers of the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Most items in one batch.
    pub items_max: usize,
    /// Longest time the oldest item may be held back for a fuller batch; zero: greedy.
    pub latency_max: Duration,
}

/// What to do with the batch that could be formed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    Now,
    /// Not before this instant, unless more arrives.
    At(Instant),
}

impl Policy {
    /// Decides for a batch of `items` whose oldest item arrived at `oldest` and whose earliest deadline is `deadline`.
    pub fn close(&self, now: Instant, items: usize, oldest: Instant, deadline: Instant) -> Close {
        if self.latency_max.is_zero() || items >= self.items_max {
            return Close::Now;
        }
        // Waiting up to the deadline would leave no time for the run: half of what is left may be spent.
        let limit = (oldest + self.latency_max).min(now + deadline.saturating_duration_since(now) / 2);
        if limit <= now || oldest + self.latency_max <= now {
            Close::Now
        } else {
            Close::At(limit)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cell_of_the_rule() {
        let start = crate::clock::now();
        let at = |millis| start + Duration::from_millis(millis);
        let greedy = Policy {
            items_max: 4,
            latency_max: Duration::ZERO,
        };
        assert_eq!(greedy.close(start, 1, start, at(1000)), Close::Now);
        let patient = Policy {
            items_max: 4,
            latency_max: Duration::from_millis(10),
        };
        assert_eq!(patient.close(start, 1, start, at(1000)), Close::At(at(10)));
        assert_eq!(patient.close(start, 4, start, at(1000)), Close::Now);
        assert_eq!(patient.close(at(10), 1, start, at(1000)), Close::Now);
        assert_eq!(patient.close(start, 1, start, at(6)), Close::At(at(3)));
    }
}
