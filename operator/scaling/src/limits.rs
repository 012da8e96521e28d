//! How fast a pool may grow and shrink: the most permissive limit counts, as in autoscaling/v2.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::policy::StepLimit;
use crate::units::Moment;

/// Changes that are remembered; each is at least one tick apart.
const CHANGES_MAX: usize = 512;

/// What a pool did lately.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Changes {
    /// When, and replicas more or fewer.
    all: VecDeque<(Moment, i64)>,
}

impl Changes {
    /// Notes a change; none is none.
    pub fn note(&mut self, from: u32, to: u32, now: Moment) {
        if from == to {
            return;
        }
        self.all.push_back((now, i64::from(to) - i64::from(from)));
        if self.all.len() > CHANGES_MAX {
            self.all.pop_front();
        }
    }

    /// Replicas at the start of the period: what is there now, without what was added and with what was removed in it.
    fn at_start(&self, replicas: u32, period_seconds: f64, now: Moment) -> (i64, i64) {
        let (mut added, mut removed) = (0, 0);
        for (when, delta) in self.all.iter().rev() {
            if now.seconds_since(*when) >= period_seconds {
                break;
            }
            if *delta > 0 {
                added += delta;
            } else {
                removed -= delta;
            }
        }
        (i64::from(replicas) - added, i64::from(replicas) + removed)
    }

    /// Most replicas that the limits on growth allow; never below what is there.
    pub fn most(&self, replicas: u32, limits: &[StepLimit], now: Moment) -> u32 {
        let allowed = limits.iter().map(|limit| {
            let (start, _) = self.at_start(replicas, limit.period_seconds, now);
            start + step(start, limit)
        });
        to_replicas(allowed.max().unwrap_or(i64::MAX)).max(replicas)
    }

    /// Fewest replicas that the limits on shrinking allow; never above what is there.
    pub fn fewest(&self, replicas: u32, limits: &[StepLimit], now: Moment) -> u32 {
        let allowed = limits.iter().map(|limit| {
            let (_, start) = self.at_start(replicas, limit.period_seconds, now);
            start - step(start, limit)
        });
        to_replicas(allowed.min().unwrap_or(0)).min(replicas)
    }
}

/// Replicas of one step: the larger of the number and the share.
fn step(start: i64, limit: &StepLimit) -> i64 {
    let share = start.max(0).saturating_mul(i64::from(limit.percent)) / 100;
    i64::from(limit.replicas).max(share)
}

fn to_replicas(value: i64) -> u32 {
    u32::try_from(value.max(0)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::default_down_limits;
    use crate::test_support::seconds;

    #[test]
    fn no_limit_is_none() {
        assert_eq!(Changes::default().most(5, &[], seconds(0)), u32::MAX);
        assert_eq!(Changes::default().fewest(5, &[], seconds(0)), 0);
    }

    #[test]
    fn half_of_the_replicas_within_fifteen_seconds() {
        let mut changes = Changes::default();
        let limits = default_down_limits();
        assert_eq!(changes.fewest(9, &limits, seconds(100)), 5);
        changes.note(9, 5, seconds(100));
        assert_eq!(changes.fewest(5, &limits, seconds(105)), 5, "the period has its share");
        assert_eq!(changes.fewest(5, &limits, seconds(115)), 3);
        assert_eq!(changes.fewest(1, &limits, seconds(200)), 0, "one goes at any size");
    }

    #[test]
    fn the_most_permissive_counts() {
        let limit = |replicas, percent| StepLimit {
            replicas,
            percent,
            period_seconds: 15.0,
        };
        let changes = Changes::default();
        assert_eq!(changes.most(10, &[limit(4, 0), limit(0, 100)], seconds(0)), 20);
        assert_eq!(changes.most(1, &[limit(4, 0), limit(0, 100)], seconds(0)), 5);
    }

    #[test]
    fn what_was_removed_does_not_count_as_room_to_grow() {
        let mut changes = Changes::default();
        changes.note(2, 6, seconds(10));
        let limits = [StepLimit {
            replicas: 4,
            percent: 0,
            period_seconds: 15.0,
        }];
        assert_eq!(changes.most(6, &limits, seconds(12)), 6);
        assert_eq!(changes.most(6, &limits, seconds(25)), 10);
    }

    #[test]
    fn memory_is_bounded() {
        let mut changes = Changes::default();
        for tick in 0..10_000_u64 {
            changes.note(1, 2, seconds(tick));
        }
        assert_eq!(changes.all.len(), CHANGES_MAX);
    }
}
