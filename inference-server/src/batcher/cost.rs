//! What runs of one model cost on this machine, by the number of items and their size: measured when the model is loaded, refined by every run.
//!
//! Times are kept for batches of 1, 2, 4, … items, for each class of sizes (items of free dimensions differ: a text of 100 tokens is not one of 5).
//! In between they are read off a straight line.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Powers of two up to the largest batch that a config may ask for (4096).
const POWERS: usize = 13;
/// Weight of a new time against what is known.
const WEIGHT: f64 = 1.0 / 8.0;
/// A run that took so many times what was expected, or so little, is counted as this much: the machine had something else to do.
const SURPRISE_MAX: f64 = 4.0;
/// A smaller batch that reaches this share of the best rate is preferred: its requests are answered sooner.
const AS_GOOD: f64 = 0.97;
/// One choice in so many tries the next larger batch, in case it has become worth it.
const PROBE_ONE_IN: u32 = 64;
/// Classes that are kept: sizes from 1 element to 2^31, in half powers of two.
const CLASSES_MAX: usize = 64;

/// The class of sizes of an item with so many elements: half powers of two.
pub fn size_class(elements: usize) -> u8 {
    (2.0 * (elements.max(1) as f64).log2()).round().clamp(0.0, 63.0) as u8
}

/// The smallest size that reaches the best rate, or nearly, of sizes and the seconds of their runs; `None` where there are none.
pub fn best(costs: impl Iterator<Item = (usize, f64)> + Clone) -> Option<usize> {
    let rate = |(size, seconds): (usize, f64)| size as f64 / seconds.max(1e-9);
    let most = costs.clone().map(rate).fold(0.0, f64::max);
    let as_good = costs.filter(|cost| rate(*cost) >= most * AS_GOOD);
    as_good.map(|(size, _)| size).min()
}

/// Times of runs.
#[derive(Debug, Default)]
pub struct CostTable(Mutex<HashMap<u8, Times>>);

/// Seconds for 1, 2, 4, … items; 0 where nothing is known.
#[derive(Debug, Clone, Default)]
struct Times {
    seconds: [f64; POWERS],
    choices: u32,
}

impl CostTable {
    /// Takes in one run.
    pub fn learn(&self, class: u8, items: usize, duration: Duration) {
        let seconds = duration.as_secs_f64();
        if items == 0 || seconds <= 0.0 {
            return;
        }
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if table.len() >= CLASSES_MAX && !table.contains_key(&class) {
            return;
        }
        table.entry(class).or_default().learn(items, seconds);
    }

    /// How long a run of so many items takes; `None` while nothing is known of such items.
    pub fn estimate(&self, class: u8, items: usize) -> Option<Duration> {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = table.get(&class)?.estimate(items)?;
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// How long such a run takes at the least, as far as is known: for judging that somebody is too late. A size that nothing is known of is taken for
    /// its share of a larger one, and none for slower than a larger one.
    pub fn at_least(&self, class: u8, items: usize) -> Option<Duration> {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = table.get(&class)?.at_least(items)?;
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// What so many items take of the engine's time when they share runs as is best; zero while nothing is known of such items.
    pub fn work(&self, class: u8, items: usize) -> Duration {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let per_item = |times: &Times| {
            let rates = times.known().map(|(size, seconds)| seconds / size as f64);
            rates.fold(f64::INFINITY, f64::min)
        };
        let seconds = table.get(&class).map_or(0.0, per_item) * items as f64;
        Duration::try_from_secs_f64(seconds).unwrap_or_default()
    }

    /// How many of `waiting` items to run at once, at most `items_max`, so that they are done within `slack` if that is possible: as many as still
    /// make each cheaper.
    pub fn choose(&self, class: u8, waiting: usize, items_max: usize, slack: Duration) -> usize {
        let most = waiting.min(items_max).max(1);
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match table.get_mut(&class) {
            Some(times) => times.choose(most, items_max, slack.as_secs_f64()),
            None => most,
        }
    }

    /// Whether one more item in the batch saves more of the engine's time than it would idle until that comes: the longest wait that pays. Zero where
    /// nothing is known.
    pub fn wait_that_pays(&self, class: u8, items: usize) -> Duration {
        let saved = || {
            let [alone, now, then] = [1, items, items + 1].map(|items| self.estimate(class, items));
            (alone? + now?).checked_sub(then?)
        };
        saved().unwrap_or_default()
    }
}

impl Times {
    fn learn(&mut self, items: usize, seconds: f64) {
        let Some(expected) = self.estimate(items) else {
            self.set_below(items, seconds);
            return;
        };
        let power = items.ilog2() as usize;
        // A size beyond all known ones, or an exact one that nothing is known of, is taken as it is.
        if self.seconds.get(power).is_none_or(|known| *known <= 0.0) {
            self.set_below(items, seconds);
            return;
        }
        let surprise = (seconds / expected).clamp(1.0 / SURPRISE_MAX, SURPRISE_MAX);
        let change = 1.0 + (surprise - 1.0) * WEIGHT;
        // Between two known sizes both are as wrong.
        let upper = if items.is_power_of_two() { power } else { power + 1 };
        for known in self.seconds.iter_mut().take(upper + 1).skip(power) {
            *known *= change;
        }
    }

    /// Takes it for the time of the power of two below, each item costing the same.
    fn set_below(&mut self, items: usize, seconds: f64) {
        let power = items.ilog2() as usize;
        if let Some(known) = self.seconds.get_mut(power) {
            *known = seconds * (1u64 << power) as f64 / items as f64;
        }
    }

    /// The known sizes: items and seconds.
    fn known(&self) -> impl DoubleEndedIterator<Item = (usize, f64)> + Clone + '_ {
        let all = self.seconds.iter().enumerate();
        all.filter(|(_, seconds)| **seconds > 0.0)
            .map(|(power, seconds)| (1 << power, *seconds))
    }

    fn estimate(&self, items: usize) -> Option<f64> {
        let below = self.known().rfind(|(size, _)| *size <= items);
        let above = self.known().find(|(size, _)| *size >= items);
        match (below, above) {
            (Some((low, from)), Some((high, to))) if high > low => {
                Some(from + (to - from) * (items - low) as f64 / (high - low) as f64)
            }
            // Beyond what is known each item costs what it does there.
            (Some((size, seconds)), None) => Some(seconds * items as f64 / size as f64),
            // Below it a run costs no more.
            (_, Some((_, seconds))) => Some(seconds),
            (None, None) => None,
        }
    }

    fn at_least(&self, items: usize) -> Option<f64> {
        let is_covered = self.known().any(|(size, _)| size <= items);
        let share = |(size, seconds): (usize, f64)| {
            if is_covered {
                seconds
            } else {
                seconds * items as f64 / size as f64
            }
        };
        let larger = self.known().filter(|(size, _)| *size >= items).map(share);
        let least = larger.fold(f64::INFINITY, f64::min);
        self.estimate(items).map(|seconds| seconds.min(least))
    }

    fn choose(&mut self, most: usize, items_max: usize, slack: f64) -> usize {
        self.choices = self.choices.wrapping_add(1);
        let mut size = self.knee(items_max);
        if self.choices.is_multiple_of(PROBE_ONE_IN) {
            size *= 2;
        }
        let mut size = size.min(most);
        while size > 1 && self.estimate(size).is_some_and(|seconds| seconds > slack) {
            size = size.div_ceil(2);
        }
        // In so little time not even one is done: then at least many are, for those behind it.
        if self.estimate(size).is_some_and(|seconds| seconds > slack) {
            size = self.knee(items_max).min(most);
        }
        size
    }

    /// The smallest size that reaches the best rate, or nearly. What is larger than all known sizes may be better: while the largest is the best, the next
    /// is tried.
    fn knee(&self, items_max: usize) -> usize {
        let mut known = self.known().filter(|(size, _)| *size <= items_max);
        let Some(size) = best(known.clone()) else {
            return items_max;
        };
        match known.next_back() {
            Some((largest, _)) if size == largest => (size * 2).min(items_max),
            _ => size,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn table(times: &[(usize, u64)]) -> CostTable {
        let table = CostTable::default();
        for (items, micros) in times {
            table.learn(0, *items, Duration::from_micros(*micros));
        }
        table
    }

    #[test]
    fn the_best_batch_is_the_smallest_that_is_as_fast() {
        let best = |costs: &[(usize, u64)]| best(costs.iter().map(|(size, micros)| (*size, *micros as f64)));
        assert_eq!(best(&[]), None);
        // A model that falls out of the cache beyond 8; one that gains nothing; one that gains all the way.
        assert_eq!(best(&[(1, 100), (8, 400), (32, 3200)]), Some(8));
        assert_eq!(best(&[(1, 100), (2, 199), (4, 397)]), Some(1));
        assert_eq!(best(&[(1, 100), (2, 110), (4, 120)]), Some(4));
    }

    #[test]
    fn a_batch_is_as_large_as_still_makes_each_item_cheaper() {
        // A small network, a model that gains nothing, one that falls out of the processor's cache.
        let gains = table(&[(1, 13), (2, 14), (4, 16), (8, 20), (16, 26), (32, 34)]);
        assert_eq!(gains.choose(0, 100, 32, LONG), 32);
        assert_eq!(gains.choose(0, 5, 32, LONG), 5);
        let flat = table(&[(1, 7000), (2, 13_900), (4, 27_900), (8, 56_000)]);
        assert_eq!(flat.choose(0, 100, 32, LONG), 1);
        let falls = table(&[(1, 1500), (8, 9000), (32, 49_000)]);
        assert_eq!(falls.choose(0, 100, 32, LONG), 8);
        assert_eq!(
            CostTable::default().choose(0, 100, 32, LONG),
            32,
            "nothing known: greedy"
        );
        assert_eq!(gains.choose(9, 100, 32, LONG), 32, "nothing known of such items");
    }

    #[test]
    fn a_deadline_makes_it_smaller_unless_it_is_lost_anyway() {
        let slow = table(&[(1, 10_000), (2, 15_000), (4, 25_000), (8, 45_000)]);
        assert_eq!(slow.choose(0, 8, 8, Duration::from_millis(30)), 4);
        assert_eq!(slow.choose(0, 8, 8, Duration::from_millis(12)), 1);
        assert_eq!(slow.choose(0, 8, 8, Duration::from_millis(5)), 8);
    }

    #[test]
    fn work_is_what_items_cost_in_the_batches_that_pay() {
        let gains = table(&[(1, 10_000), (8, 12_000), (32, 64_000)]);
        assert_eq!(gains.work(0, 16), Duration::from_millis(24));
        assert_eq!(gains.work(0, 1), Duration::from_micros(1500));
        assert_eq!(gains.work(7, 16), Duration::ZERO, "nothing is known of such items");
        assert_eq!(CostTable::default().work(0, 16), Duration::ZERO);
    }

    #[test]
    fn too_late_is_judged_by_the_least_that_a_run_takes() {
        // Only a burst of 32 has been seen: one item takes its share of that, or more.
        let burst = table(&[(32, 2_000_000)]);
        assert_eq!(burst.at_least(0, 1), Some(Duration::from_micros(62_500)));
        // One slow second does not make a single item slower than eight.
        let disturbed = table(&[(1, 900_000), (8, 40_000)]);
        assert_eq!(disturbed.at_least(0, 1), Some(Duration::from_micros(40_000)));
        assert_eq!(
            table(&[(1, 10), (8, 40)]).at_least(0, 1),
            Some(Duration::from_micros(10))
        );
        assert_eq!(CostTable::default().at_least(0, 1), None);
    }

    #[test]
    fn the_next_larger_size_is_tried_now_and_then() {
        let table = table(&[(1, 100), (2, 210), (4, 430)]);
        let chosen: Vec<usize> = (0..PROBE_ONE_IN).map(|_| table.choose(0, 100, 32, LONG)).collect();
        assert_eq!(chosen.iter().filter(|size| **size == 2).count(), 1);
        assert_eq!(chosen.iter().filter(|size| **size == 1).count(), 63);
        // A model that has become another one is noticed.
        for _ in 0..200 {
            table.learn(0, 2, Duration::from_micros(110));
        }
        assert!(table.choose(0, 100, 32, LONG) > 1);
    }

    #[test]
    fn waiting_pays_for_no_longer_than_the_time_that_it_saves() {
        let gains = table(&[(1, 1000), (2, 1100), (4, 1300)]);
        assert_eq!(gains.wait_that_pays(0, 1), Duration::from_micros(900));
        assert_eq!(table(&[(1, 1000), (2, 2000)]).wait_that_pays(0, 1), Duration::ZERO);
        assert_eq!(CostTable::default().wait_that_pays(0, 1), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn no_size_is_clearly_faster_than_the_best(times in proptest::collection::vec(1u64..1_000_000, 1..12)) {
            let costs = times.iter().enumerate().map(|(index, micros)| (1usize << index, *micros as f64 * 1e-6));
            let rate = |size: usize| costs.clone().find(|cost| cost.0 == size).map(|(size, seconds)| size as f64 / seconds);
            let chosen = best(costs.clone()).unwrap();
            for (other, _) in costs.clone() {
                prop_assert!(rate(other).unwrap() * AS_GOOD <= rate(chosen).unwrap() * (1.0 + 1e-9));
                if other < chosen {
                    prop_assert!(rate(other).unwrap() < rate(chosen).unwrap());
                }
            }
        }

        #[test]
        fn whatever_is_learned_choices_stay_within_bounds_and_estimates_finite(
            runs in proptest::collection::vec((0u8..3, 1usize..200, 1u64..1_000_000), 0..60),
            waiting in 1usize..500,
            items_max in 1usize..200,
            slack in 0u64..1_000_000,
        ) {
            let table = CostTable::default();
            for (class, items, micros) in runs {
                table.learn(class, items, Duration::from_micros(micros));
                let estimate = table.estimate(class, items).unwrap();
                prop_assert!(estimate > Duration::ZERO && estimate < Duration::from_secs(1000));
            }
            for class in 0..3 {
                let size = table.choose(class, waiting, items_max, Duration::from_micros(slack));
                prop_assert!((1..=waiting.min(items_max)).contains(&size), "{size}");
            }
        }

        #[test]
        fn what_is_always_the_same_is_learned(items in 1usize..64, micros in 1u64..1_000_000) {
            let table = CostTable::default();
            table.learn(0, items, Duration::from_micros(micros * 3));
            for _ in 0..100 {
                table.learn(0, items, Duration::from_micros(micros));
            }
            let ratio = table.estimate(0, items).unwrap().as_secs_f64() / (micros as f64 * 1e-6);
            prop_assert!((0.95..1.05).contains(&ratio), "{ratio}");
        }
    }
}
