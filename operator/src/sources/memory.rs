//! What the source remembers between ticks: how many pods were ready lately, and the last good sample. Pure; `now` is given.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::domain::published::{PoolReadings, Reading, ServiceKey, ServiceReadings};

/// A pool that has been small for longer is a small pool: what it gets then is new.
const DIP_MAX: SignedDuration = SignedDuration::from_secs(300);

/// How many pods were ready, since when they have been watched.
#[derive(Debug)]
struct Watched {
    since: Timestamp,
    seen: VecDeque<(Timestamp, u32)>,
    /// While most of the pool is gone, or was within the grace: how many there were before that, and when it began, if that is longer ago.
    fallen_from: Option<(u32, Timestamp)>,
}

/// Pods that had time to be scraped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// How many.
    pub pods: u32,
    /// After most of the pool was gone for a moment: how many were ready before that and are ready again. They may be new, or may be the ones that
    /// were there all the time; a part of them must not be believed to be all.
    pub returned: Option<u32>,
    /// Whether the pool may just have started, so that missing samples are no fault.
    pub starting: bool,
}

/// Ready pods over the last while, per pool.
#[derive(Debug, Default)]
pub struct ReadyPods(HashMap<(ServiceKey, String), Watched>);

impl ReadyPods {
    /// Notes what is ready now and returns how many pods have been ready for at least `grace`: the least number within it. A pod that became ready a
    /// moment ago cannot have been scraped, and its missing share is no reason to distrust the others.
    ///
    /// Of a pool that is seen for the first time nothing is known: all its pods count (a new operator must not believe a part), and it may have
    /// just started.
    pub fn settle(&mut self, service: &ServiceKey, pool: &str, ready: u32, now: Timestamp, grace: Duration) -> Settled {
        let grace = SignedDuration::try_from(grace).unwrap_or(SignedDuration::MAX);
        let watched = self
            .0
            .entry((service.clone(), pool.to_owned()))
            .or_insert_with(|| Watched {
                since: now,
                seen: VecDeque::new(),
                fallen_from: None,
            });
        let Watched { seen, fallen_from, .. } = watched;
        // Equal neighbours say nothing new, and the list stays as short as the changes within the grace.
        if seen.back().is_none_or(|(_, last)| *last != ready) {
            seen.push_back((now, ready));
        }
        // An entry is over when its successor began: keep the one that was true at the beginning of the grace.
        while let Some((at, next)) = seen.get(1).copied()
            && now.duration_since(at) >= grace
            && let Some((_, over)) = seen.pop_front()
        {
            let (peak, since) = fallen_from.filter(|(peak, _)| *peak > over).unwrap_or((over, at));
            let is_falling = next < over;
            *fallen_from = (is_falling || is_most_gone(next, peak)).then_some((peak, since));
        }
        *fallen_from = fallen_from.filter(|(_, since)| now.duration_since(*since) < DIP_MAX);
        let pods = seen.iter().map(|(_, pods)| *pods).min().unwrap_or(0);
        let before_the_least = seen.iter().map(|(_, pods)| *pods).take_while(|n| *n > pods);
        let returned = before_the_least
            .max()
            .unwrap_or(0)
            .max(fallen_from.map_or(0, |(peak, _)| peak))
            .min(ready);
        Settled {
            pods,
            // A pool that is rolled or scaled loses less at once.
            returned: is_most_gone(pods, returned).then_some(returned),
            starting: pods == 0 || now.duration_since(watched.since) < grace,
        }
    }

    /// Forgets pools that are no longer asked for.
    pub fn keep(&mut self, wanted: impl Fn(&ServiceKey, &str) -> bool) {
        self.0.retain(|(service, pool), _| wanted(service, pool));
    }
}

/// Whether so few are left of so many that the pool was neither rolled nor scaled by a step.
fn is_most_gone(left: u32, before: u32) -> bool {
    left.saturating_mul(2) < before
}

/// Puts the last good sample in place of a failure, as long as it is younger than `hold`. It keeps its own time. With `hold` zero nothing is held:
/// the HPA keeps the replicas by itself when it is told that there is no number.
pub fn hold_last_good(
    fresh: &mut BTreeMap<ServiceKey, ServiceReadings>,
    previous: &BTreeMap<ServiceKey, Arc<ServiceReadings>>,
    hold: Duration,
    now: Timestamp,
) {
    if hold.is_zero() {
        return;
    }
    let hold = SignedDuration::try_from(hold).unwrap_or(SignedDuration::MAX);
    let keep = |fresh: &mut Reading, last: Option<&Reading>| {
        if let (Err(_), Some(Ok(last))) = (&*fresh, last)
            && now.duration_since(last.at).abs() <= hold
        {
            *fresh = Ok(*last);
        }
    };
    for (key, readings) in fresh {
        let Some(last) = previous.get(key) else {
            continue;
        };
        for (
            pool,
            PoolReadings {
                request_rate,
                queue_depth,
                concurrency,
            },
        ) in &mut readings.pools
        {
            let last = last.pools.get(pool);
            keep(request_rate, last.map(|last| &last.request_rate));
            keep(queue_depth, last.map(|last| &last.queue_depth));
            keep(concurrency, last.map(|last| &last.concurrency));
        }
        for (name, reading) in &mut readings.external {
            keep(reading, last.external.get(name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::published::{Reason, Sample, Unavailable};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    #[test]
    fn pods_count_once_they_have_been_ready_for_the_grace() {
        let mut memory = ReadyPods::default();
        let key = ServiceKey::new("a", "digits");
        let mut settle = |second, ready| {
            let settled = memory.settle(&key, "cpu", ready, at(second), Duration::from_secs(20));
            (settled.pods, settled.starting)
        };
        assert_eq!(settle(0, 0), (0, true));
        assert_eq!(settle(5, 1), (0, true));
        assert_eq!(settle(20, 1), (0, true));
        assert_eq!(settle(25, 1), (1, false));
        assert_eq!(settle(30, 4), (1, false), "three are new");
        assert_eq!(settle(49, 4), (1, false));
        assert_eq!(settle(50, 4), (4, false));
        assert_eq!(settle(55, 2), (2, false), "a loss counts at once");
        assert_eq!(settle(60, 4), (2, false));
        assert_eq!(settle(80, 4), (4, false));
        memory.keep(|_, _| false);
        assert!(memory.0.is_empty());
    }

    #[test]
    fn a_new_operator_expects_every_ready_pod() {
        let mut memory = ReadyPods::default();
        let key = ServiceKey::new("a", "digits");
        let mut settle = |second| memory.settle(&key, "cpu", 10, at(second), Duration::from_secs(20));
        let strict = |starting| Settled {
            pods: 10,
            returned: None,
            starting,
        };
        assert_eq!(settle(0), strict(true));
        assert_eq!(settle(20), strict(false));
    }

    #[test]
    fn pods_that_come_back_after_most_of_the_pool_was_gone_are_remembered() {
        let returned = |counts: &[u32]| {
            let mut memory = ReadyPods::default();
            let key = ServiceKey::new("a", "digits");
            let looks = counts.iter().zip(0..);
            let settled = looks.map(|(ready, n)| memory.settle(&key, "cpu", *ready, at(n), Duration::from_secs(20)));
            settled.last().unwrap().returned
        };
        assert_eq!(returned(&[10, 0, 10]), Some(10), "the readiness of all flapped");
        assert_eq!(returned(&[10, 0, 3]), Some(3));
        assert_eq!(returned(&[10, 4, 12]), Some(10), "two are new");
        assert_eq!(returned(&[10, 0]), None);
        assert_eq!(returned(&[0, 10]), None, "a pool that starts");
        assert_eq!(returned(&[1, 4]), None, "a pool that grows");
        assert_eq!(returned(&[2, 3, 2, 3, 2]), None, "a pool that is rolled");
        assert_eq!(returned(&[4, 2, 3]), None);
    }

    #[test]
    fn pods_that_come_back_are_remembered_for_the_grace_from_their_return() {
        let mut memory = ReadyPods::default();
        let key = ServiceKey::new("a", "digits");
        let mut settle = |second, ready| {
            let settled = memory.settle(&key, "cpu", ready, at(second), Duration::from_secs(20));
            (settled.pods, settled.returned)
        };
        settle(0, 10);
        settle(100, 6);
        settle(101, 2);
        assert_eq!(settle(118, 2), (2, None), "nobody is back");
        assert_eq!(settle(119, 10), (2, Some(10)));
        // The dip began longer ago than the grace, and has not ended longer ago.
        assert_eq!(settle(130, 10), (2, Some(10)));
        assert_eq!(settle(138, 10), (2, Some(10)));
        assert_eq!(settle(139, 10), (10, None));
        settle(150, 1);
        assert_eq!(settle(180, 1), (1, None), "scaled down for good");
        assert_eq!(settle(181, 1), (1, None));
        assert_eq!(settle(600, 1), (1, None));
        assert_eq!(settle(601, 8), (1, None), "what is added now is new");
    }

    #[test]
    fn the_last_good_sample_is_held_for_its_time_and_no_longer() {
        let key = ServiceKey::new("a", "digits");
        let good = Ok(Sample { value: 5.0, at: at(0) });
        let bad: Reading = Err(Unavailable::new(Reason::StaleSamples, ""));
        let readings = |reading: &Reading| ServiceReadings {
            pools: BTreeMap::from([(
                "cpu".to_owned(),
                PoolReadings {
                    request_rate: reading.clone(),
                    queue_depth: reading.clone(),
                    concurrency: reading.clone(),
                },
            )]),
            external: BTreeMap::from([("lag".to_owned(), reading.clone())]),
            ..ServiceReadings::default()
        };
        let previous = BTreeMap::from([(key.clone(), Arc::new(readings(&good)))]);
        let after = |hold: u64, second| {
            let mut fresh = BTreeMap::from([(key.clone(), readings(&bad))]);
            hold_last_good(&mut fresh, &previous, Duration::from_secs(hold), at(second));
            fresh.remove(&key).unwrap()
        };
        assert_eq!(after(30, 30), readings(&good));
        assert_eq!(after(30, 31), readings(&bad));
        assert_eq!(after(30, -31), readings(&bad), "a clock that went backwards");
        assert_eq!(after(0, 0), readings(&bad), "nothing is held by default");
    }
}
