//! How much of the lateness that the objective allows has been used, and what the rest is spent on.
//!
//! An objective of 1 % late is a budget: who leaves it unused pays for replicas that nobody asked for. At every tick it is estimated who will be late
//! (`wait = queued / what is ready`, against what a request of each length may wait). As long as enough is left, first a rise of the rate is believed
//! later, which costs the fewest late requests for a replica, and then fewer replicas are put up against chance. Where more is used than should be, a rise
//! is believed sooner and replicas are kept for longer. In between the numbers are those of [`Tuning`] itself.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::policy::{Policy, Tuning};
use crate::units::Moment;

/// Where the budget should end, as a share of it: what nobody has seen yet counts as this much.
const HOME: f64 = 0.9;
/// Share from which on the numbers are those of an overdrawn budget.
const OVERDRAWN: f64 = 1.2;
/// Share up to which a rise is believed as late as it ever is.
const JUMP_SPARE: f64 = 0.8;
/// Shares between which the rest is spent: none of it at the first, all at the second.
const REST_SPARE: (f64, f64) = (0.6, 0.2);
/// The longest time between two looks that counts, in seconds: what happened in a longer one is not known.
const LOOK_SECONDS_MAX: f64 = 60.0;
/// However much is left, no more than this share is sized for.
const LATE_SHARE_MAX: f64 = 0.5;

/// What was seen of the budget. A request counts half after `budget_memory_seconds`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// The last look.
    at: Option<Moment>,
    /// Seconds that were looked at.
    seconds: f64,
    /// Requests that came in them.
    requests: f64,
    /// Those of them that were late because they waited, in units of the share that may be.
    late: f64,
}

/// What comes at one tick.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Arrivals {
    /// Requests per second.
    pub rate: f64,
    /// Share of them that will be late because they wait, over the share that may be.
    pub late: f64,
}

impl Budget {
    /// Notes what has come since the last look; `None` where that is not known.
    pub(crate) fn learn(&mut self, arrivals: Option<Arrivals>, tuning: &Tuning, now: Moment) {
        let Some(before) = self.at.replace(now) else {
            return;
        };
        let Some(arrivals) = arrivals else {
            return;
        };
        let seconds = now.seconds_since(before).min(LOOK_SECONDS_MAX);
        let kept = libm::exp2(-seconds / tuning.budget_memory_seconds.max(1.0));
        self.seconds = self.seconds * kept + seconds;
        self.requests = self.requests * kept + arrivals.rate * seconds;
        self.late = self.late * kept + arrivals.rate * seconds * arrivals.late;
    }

    /// How much of the budget is used: 1 is all of it. What nobody has seen yet counts for `budget_prior_seconds`.
    pub fn used(&self, tuning: &Tuning) -> f64 {
        let late = if self.requests > 0.0 {
            self.late / self.requests
        } else {
            0.0
        };
        let prior = tuning.budget_prior_seconds.max(1.0);
        (late * self.seconds + HOME * prior) / (self.seconds + prior)
    }

    /// The policy for a budget that is used so far.
    pub(crate) fn spend<'p>(&self, policy: &'p Policy) -> Cow<'p, Policy> {
        let used = self.used(&policy.tuning);
        let (tuning, share) = (&policy.tuning, policy.objective.late_share);
        let part = |none: f64, all: f64| ((used - none) / (all - none)).clamp(0.0, 1.0);
        let (overdrawn, jump, rest) = (
            part(HOME, OVERDRAWN),
            part(HOME, JUMP_SPARE),
            part(REST_SPARE.0, REST_SPARE.1),
        );
        if overdrawn <= 0.0 && jump <= 0.0 {
            return Cow::Borrowed(policy);
        }
        let share_spare = (share * tuning.late_share_spare).min(LATE_SHARE_MAX).max(share);
        let changed = Tuning {
            // One part at most is not 0, so that the order does not matter.
            jump_sigmas: between(
                between(tuning.jump_sigmas, tuning.jump_sigmas_spare, jump),
                tuning.jump_sigmas_overdrawn,
                overdrawn,
            ),
            miss_price: between(tuning.miss_price, tuning.miss_price_overdrawn, overdrawn),
            ..*tuning
        };
        Cow::Owned(policy.with_changes(changed, between(share, share_spare, rest)))
    }
}

/// From the one to the other in equal ratios, `part` of the way; a number of 0 has no ratio to another, and stays.
fn between(from: f64, to: f64, part: f64) -> f64 {
    if from > 0.0 && to > 0.0 {
        from * libm::pow(to / from, part)
    } else {
        from
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{policy, seconds};

    /// So many hours of ten requests per second of which so much of the budget was late.
    fn after_hours(hours: u64, late: f64) -> Budget {
        let mut budget = Budget::default();
        for minute in 0..=60 * hours {
            let arrivals = Arrivals { rate: 10.0, late };
            budget.learn(Some(arrivals), &Tuning::default(), seconds(minute * 60));
        }
        budget
    }

    #[test]
    fn what_nobody_has_seen_changes_nothing() {
        let promised = policy(|_| ());
        assert!(matches!(Budget::default().spend(&promised), Cow::Borrowed(_)));
        let mut unseen = Budget::default();
        for minute in 0..600 {
            unseen.learn(None, &promised.tuning, seconds(minute * 60));
        }
        assert!(matches!(unseen.spend(&promised), Cow::Borrowed(_)));
    }

    #[test]
    fn what_is_left_is_spent_and_what_is_overdrawn_is_saved() {
        let promised = policy(|_| ());
        let at = |late: f64| {
            let spent = after_hours(48, late).spend(&promised).into_owned();
            (
                spent.tuning.jump_sigmas,
                spent.tuning.miss_price,
                spent.objective.late_share,
            )
        };
        let near = |found: (f64, f64, f64), expected: (f64, f64, f64)| {
            let pairs = [(found.0, expected.0), (found.1, expected.1), (found.2, expected.2)];
            assert!(
                pairs.iter().all(|(one, other)| (one / other - 1.0).abs() < 1e-9),
                "{found:?}"
            );
        };
        near(at(0.0), (12.0, 8.0, 0.1));
        near(at(0.7), (12.0, 8.0, 0.01));
        near(at(0.9), (4.0, 8.0, 0.01));
        near(at(2.0), (3.0, 16.0, 0.01));
        let mut before = at(0.0);
        for step in 1..40 {
            let now = at(f64::from(step) * 0.05);
            assert!(now.0 <= before.0 && now.1 >= before.1 && now.2 <= before.2, "{now:?}");
            before = now;
        }
    }

    #[test]
    fn it_counts_requests_and_forgets_them() {
        let tuning = Tuning::default();
        let mut budget = after_hours(48, 0.0);
        let calm = budget.used(&tuning);
        assert!(calm < 0.05, "{calm}");
        let crowd = Arrivals {
            rate: 1000.0,
            late: 50.0,
        };
        for second in 0..120 {
            budget.learn(Some(crowd), &tuning, seconds(48 * 3600 + second));
        }
        // 120,000 late at fifty times what may be, of the 1.3 million of a day and its half: 4 times the budget.
        let burst = budget.used(&tuning);
        assert!((3.0..6.0).contains(&burst), "{burst}");
        let mut silent = budget;
        for minute in 1..=60 * 24 {
            let nobody = Arrivals { rate: 0.0, late: 0.0 };
            silent.learn(Some(nobody), &tuning, seconds(48 * 3600 + 120 + minute * 60));
        }
        let later = silent.used(&tuning);
        assert!(
            (later / burst - 1.0).abs() < 0.05,
            "silence repairs nothing: {later}, {burst}"
        );
        for minute in 1..=60 * 72 {
            let arrivals = Arrivals { rate: 10.0, late: 0.0 };
            silent.learn(Some(arrivals), &tuning, seconds(75 * 3600 + minute * 60));
        }
        assert!(silent.used(&tuning) < 0.5, "{}", silent.used(&tuning));
    }

    #[test]
    fn a_long_gap_counts_as_a_minute() {
        let mut budget = after_hours(1, 0.0);
        let before = budget.seconds;
        let arrivals = Arrivals { rate: 1e6, late: 100.0 };
        budget.learn(Some(arrivals), &Tuning::default(), seconds(1_000_000));
        assert!(budget.seconds <= before + LOOK_SECONDS_MAX, "{}", budget.seconds);
    }
}
