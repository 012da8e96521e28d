//! What a run was worth: lateness, cost, movement, losses.

use std::collections::VecDeque;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::plant::{Loss, Outcomes, Totals};
use crate::time::{MINUTE, Nanos, SECOND, to_seconds};

/// The first part of a run is not scored, where nothing else is said: nobody knows anything yet.
pub const WARM_UP: Nanos = 300 * SECOND;
/// A change of direction within this time is a reversal.
const REVERSAL_WINDOW: Nanos = 5 * MINUTE;
/// Recovery is judged over this many seconds.
const RECOVERY_SECONDS: u64 = 60;

/// What scores are measured against.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Terms {
    pub slo: Nanos,
    /// Share of the requests that may be late.
    pub epsilon: f64,
    /// Requests that arrive in `[from, to)` count, and pods as far as they exist in it.
    pub from: Nanos,
    pub to: Nanos,
    /// Things that one pod serves at a time.
    pub slots: u32,
}

/// The scores of one run. Counts and sums concern the scored part, unless said otherwise.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Score {
    pub requests: u64,
    /// Share of the requests that were late or not served.
    pub violations: f64,
    /// Latency of the served requests, from arrival to answer.
    pub mean_ms: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    /// From creation to deletion.
    pub pod_seconds: f64,
    /// `pod_seconds` over those that the same work needs at full utilisation.
    pub cost: f64,
    /// Changes of the desired replicas.
    pub actions: u64,
    pub actions_per_day: f64,
    /// Changes against the direction of a change less than 5 minutes before.
    pub reversals: u64,
    /// Pods created.
    pub cold_starts: u64,
    /// Requests that were not served: refused, held for too long, or killed with their pod.
    pub lost: u64,
    pub refused: u64,
    pub expired: u64,
    pub killed: u64,
    /// The longest time for which the violations of a minute stayed at or above the allowed share.
    pub recovery_s: f64,
    /// Decisions for fewer replicas while a fault made metrics missing or wrong, and, not long after it, for fewer than were there when it began.
    pub blind_scale_downs: u64,
    /// Largest number of replicas asked for.
    pub max_desired: u32,
    /// Of the whole run, the unscored parts included: every request is in one of the last three.
    pub arrived_all: u64,
    pub served_all: u64,
    pub lost_all: u64,
    pub unfinished_all: u64,
}

/// Collects while a run goes on.
#[derive(Debug)]
pub struct Scorer {
    terms: Terms,
    latency_us: Histogram<u64>,
    latency_sum: u128,
    requests: u64,
    late: u64,
    lost: [u64; 3],
    work: u128,
    lived: u128,
    actions: u64,
    reversals: u64,
    /// When and in which direction the last change was.
    last_change: Option<(Nanos, bool)>,
    cold_starts: u64,
    blind_scale_downs: u64,
    max_desired: u32,
    recovery: Recovery,
}

/// Violations per second of the last minute, by the time of the outcome.
#[derive(Debug, Default)]
struct Recovery {
    /// (second, outcomes, violations)
    seconds: VecDeque<(u64, u64, u64)>,
    outcomes: u64,
    violations: u64,
    bad_since: Option<u64>,
    longest: u64,
}

impl Recovery {
    #[inline]
    fn count(&mut self, now: Nanos, violated: bool, epsilon: f64) {
        let second = now / SECOND;
        if self.seconds.back().is_none_or(|last| last.0 != second) {
            self.turn(second, epsilon);
            self.seconds.push_back((second, 0, 0));
        }
        if let Some(last) = self.seconds.back_mut() {
            last.1 += 1;
            last.2 += u64::from(violated);
        }
        self.outcomes += 1;
        self.violations += u64::from(violated);
    }

    /// Judges the minute that ended before `second`, and those after it in which nothing happened.
    fn turn(&mut self, second: u64, epsilon: f64) {
        let Some(last) = self.seconds.back().map(|last| last.0) else {
            return;
        };
        for end in (last + 1)..=second {
            while let Some(first) = self.seconds.front().filter(|first| first.0 + RECOVERY_SECONDS < end) {
                self.outcomes -= first.1;
                self.violations -= first.2;
                self.seconds.pop_front();
            }
            let bad = self.violations > 0 && self.violations as f64 >= epsilon * self.outcomes as f64;
            match (bad, self.bad_since) {
                (true, None) => self.bad_since = Some(end),
                (false, Some(since)) => {
                    self.longest = self.longest.max(end - since);
                    self.bad_since = None;
                }
                _ => {}
            }
            if self.seconds.is_empty() {
                break;
            }
        }
    }
}

impl Scorer {
    /// `None` where the histogram cannot be made, which its fixed bounds exclude. `desired`: replicas at the beginning.
    pub fn new(terms: Terms, desired: u32) -> Option<Self> {
        // Microseconds up to a day, three digits.
        let latency_us = Histogram::new_with_bounds(1, 86_400_000_000, 3).ok()?;
        Some(Self {
            terms,
            latency_us,
            latency_sum: 0,
            requests: 0,
            late: 0,
            lost: [0; 3],
            work: 0,
            lived: 0,
            actions: 0,
            reversals: 0,
            last_change: None,
            cold_starts: 0,
            blind_scale_downs: 0,
            max_desired: desired,
            recovery: Recovery::default(),
        })
    }

    fn is_scored(&self, at: Nanos) -> bool {
        at >= self.terms.from && at < self.terms.to
    }

    /// A request arrived, whose service takes `service` slot-nanoseconds of a pod at full utilisation.
    #[inline]
    pub fn arrived(&mut self, now: Nanos, service: Nanos) {
        if self.is_scored(now) {
            self.requests += 1;
            self.work += u128::from(service);
        }
    }

    /// The desired replicas changed.
    pub fn changed(&mut self, now: Nanos, from: u32, to: u32, blind: bool) {
        let up = to > from;
        let reversal = self
            .last_change
            .is_some_and(|(at, was_up)| was_up != up && now - at < REVERSAL_WINDOW);
        self.last_change = Some((now, up));
        if self.is_scored(now) {
            self.actions += 1;
            self.reversals += u64::from(reversal);
            self.blind_scale_downs += u64::from(blind && !up);
        }
        self.max_desired = self.max_desired.max(to);
    }

    pub fn created(&mut self, now: Nanos, pods: u32) {
        if self.is_scored(now) {
            self.cold_starts += u64::from(pods);
        }
    }

    /// The run ended at `end`; `unfinished` are the arrivals of the requests still in the system.
    pub fn finish(mut self, end: Nanos, totals: Totals, unfinished: impl Iterator<Item = Nanos>) -> Score {
        let mut unfinished_all = 0;
        for arrived in unfinished {
            unfinished_all += 1;
            // Scored ones arrived two objectives before the end: they are late already.
            if self.is_scored(arrived) {
                self.late += u64::from(end - arrived > self.terms.slo);
                self.latency(arrived, end);
            }
        }
        self.recovery.turn(end / SECOND + 1, self.terms.epsilon);
        if let Some(since) = self.recovery.bad_since {
            self.recovery.longest = self.recovery.longest.max(end / SECOND - since.min(end / SECOND));
        }
        let quantile = |p: f64| self.latency_us.value_at_quantile(p) as f64 / 1_000.0;
        let ratio = |above: f64, below: f64| if below > 0.0 { above / below } else { 0.0 };
        let lost: u64 = self.lost.iter().sum();
        let days = to_seconds(self.terms.to.saturating_sub(self.terms.from)) / 86_400.0;
        let needed = self.work as f64 / f64::from(self.terms.slots);
        Score {
            requests: self.requests,
            violations: ratio((self.late + lost) as f64, self.requests as f64),
            mean_ms: ratio(self.latency_sum as f64 / 1e6, self.latency_us.len() as f64),
            p50_ms: quantile(0.5),
            p99_ms: quantile(0.99),
            p999_ms: quantile(0.999),
            pod_seconds: self.lived as f64 / 1e9,
            cost: ratio(self.lived as f64, needed),
            actions: self.actions,
            actions_per_day: ratio(self.actions as f64, days),
            reversals: self.reversals,
            cold_starts: self.cold_starts,
            lost,
            refused: self.lost[0],
            expired: self.lost[1],
            killed: self.lost[2],
            recovery_s: self.recovery.longest as f64,
            blind_scale_downs: self.blind_scale_downs,
            max_desired: self.max_desired,
            arrived_all: totals.arrived,
            served_all: totals.served,
            lost_all: totals.lost,
            unfinished_all,
        }
    }

    #[inline]
    fn latency(&mut self, arrived: Nanos, now: Nanos) {
        self.latency_us.saturating_record((now - arrived) / 1_000);
        self.latency_sum += u128::from(now - arrived);
    }
}

impl Outcomes for Scorer {
    #[inline]
    fn served(&mut self, arrived: Nanos, now: Nanos) {
        if self.is_scored(arrived) {
            let late = now - arrived > self.terms.slo;
            self.late += u64::from(late);
            self.latency(arrived, now);
            self.recovery.count(now, late, self.terms.epsilon);
        }
    }

    fn lost(&mut self, arrived: Nanos, now: Nanos, why: Loss) {
        if self.is_scored(arrived) {
            self.lost[why as usize] += 1;
            self.recovery.count(now, true, self.terms.epsilon);
        }
    }

    fn pod_lived(&mut self, created: Nanos, gone: Nanos) {
        let span = gone.min(self.terms.to).saturating_sub(created.max(self.terms.from));
        self.lived += u128::from(span);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scorer() -> Scorer {
        let terms = Terms {
            slo: 2 * SECOND,
            epsilon: 0.01,
            from: 300 * SECOND,
            to: 1_000 * SECOND,
            slots: 2,
        };
        Scorer::new(terms, 1).unwrap()
    }

    #[test]
    fn only_the_scored_part_counts() {
        let mut scorer = scorer();
        for (arrived, takes) in [(299, 9), (300, 1), (301, 2), (302, 3), (1_000, 9)] {
            scorer.arrived(arrived * SECOND, SECOND);
            scorer.served(arrived * SECOND, (arrived + takes) * SECOND);
        }
        scorer.arrived(400 * SECOND, SECOND);
        scorer.lost(400 * SECOND, 400 * SECOND, Loss::Refused);
        scorer.pod_lived(0, 302 * SECOND);
        scorer.pod_lived(998 * SECOND, 1_200 * SECOND);
        let score = scorer.finish(
            1_004 * SECOND,
            Totals::default(),
            [600 * SECOND, 1_001 * SECOND].into_iter(),
        );
        assert_eq!((score.requests, score.lost, score.refused), (4, 1, 1));
        // Late: the one of 3 s and the unfinished one; the refused one violates too.
        assert!((score.violations - 0.75).abs() < 1e-12, "{}", score.violations);
        // 4 s of pods; 4 s of work in 2 slots need 2.
        assert!((score.pod_seconds - 4.0).abs() < 1e-9 && (score.cost - 2.0).abs() < 1e-9);
        assert_eq!(score.unfinished_all, 2);
    }

    #[test]
    fn changes_of_direction_within_five_minutes_are_reversals() {
        let mut scorer = scorer();
        let changes = [(200, 1, 2), (310, 2, 5), (320, 5, 4), (500, 4, 6), (900, 6, 1)];
        for (at, from, to) in changes {
            scorer.changed(at * SECOND, from, to, at == 320);
        }
        let score = scorer.finish(1_004 * SECOND, Totals::default(), std::iter::empty());
        // Unscored: the first. 320 and 500 turn within 5 minutes, 900 does not.
        assert_eq!((score.actions, score.reversals, score.blind_scale_downs), (4, 2, 1));
        assert_eq!(score.max_desired, 6);
    }

    #[test]
    fn recovery_is_the_longest_bad_time() {
        let mut scorer = scorer();
        // Ten requests a second, all late from 400 to 430: the minute is clean again 60 s after the last late one.
        for second in 300..900_u64 {
            for _ in 0..10 {
                let late = (400..430).contains(&second);
                let done = second * SECOND;
                scorer.served(done - if late { 3 } else { 1 } * SECOND, done);
            }
        }
        let score = scorer.finish(1_004 * SECOND, Totals::default(), std::iter::empty());
        assert!((score.recovery_s - 89.0).abs() < 1.5, "{}", score.recovery_s);
    }
}
