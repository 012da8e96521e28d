//! How long a replica is kept after it was needed: learned per level, as one learns whether to rent or to buy skis.
//!
//! Level k is in use while at least k replicas are needed. When it is not, keeping the replica costs its time; letting it go costs a start, `D`, and the
//! price of being without it for as long, `p D`, when it is needed again. From the gaps `g` seen so far, `h = argmin mean(g <= h ? g : h + D (1 + p))`.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::policy::Tuning;
use crate::units::Moment;

/// Gaps that are kept per level.
const GAPS_MAX: usize = 16;
/// Seconds between two looks at what was learned.
const LEARN_EVERY_SECONDS: f64 = 30.0;
/// Gaps from which on experience counts instead of the prior.
const GAPS_ENOUGH: usize = 6;

/// What is remembered per level.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Levels {
    /// Level k is at index k - 1.
    all: Vec<Level>,
    /// Needed at the last tick.
    needed: u32,
    learn_at: Option<Moment>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Level {
    needed_at: Moment,
    keep_seconds: f64,
    /// When a gap ended, and how long it was.
    gaps: VecDeque<(Moment, f64)>,
}

/// A level that is kept although it is not needed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// Replicas.
    pub replicas: u32,
    /// Until when, if nothing else happens.
    pub until: Moment,
}

impl Levels {
    /// Notes what is needed now.
    pub fn need(&mut self, wanted: u32, now: Moment, tuning: &Tuning) {
        for k in 1..=wanted {
            let index = k as usize - 1;
            match self.all.get_mut(index) {
                Some(level) => {
                    if k > self.needed {
                        level.gaps.push_back((now, now.seconds_since(level.needed_at)));
                        if level.gaps.len() > GAPS_MAX {
                            level.gaps.pop_front();
                        }
                    }
                    level.needed_at = now;
                }
                None => self.all.push(Level {
                    needed_at: now,
                    keep_seconds: tuning.keep_seconds_prior,
                    gaps: VecDeque::new(),
                }),
            }
        }
        self.needed = wanted;
    }

    /// The highest level that is still kept, if it is above `wanted`.
    pub fn kept(&self, wanted: u32, now: Moment) -> Option<Kept> {
        self.all
            .iter()
            .enumerate()
            .skip(wanted as usize)
            .rev()
            // As long as the longest gap worth it, to the end: it is when it ends that the replica is needed.
            .find(|(_, level)| now.seconds_since(level.needed_at) <= level.keep_seconds)
            .map(|(index, level)| Kept {
                replicas: index as u32 + 1,
                until: level.needed_at.plus_seconds(level.keep_seconds),
            })
    }

    /// The highest level that was needed within the last `seconds`; 0 if none was.
    pub fn needed_within(&self, seconds: f64, now: Moment) -> u32 {
        let is_recent = |level: &Level| now.seconds_since(level.needed_at) <= seconds;
        self.all.iter().rposition(is_recent).map_or(0, |index| index as u32 + 1)
    }

    /// When the level `replicas` may go.
    pub fn free_at(&self, replicas: u32) -> Option<Moment> {
        let level = self.all.get((replicas as usize).checked_sub(1)?)?;
        Some(level.needed_at.plus_seconds(level.keep_seconds))
    }

    /// From time to time, finds anew how long to keep each level. `start_seconds` is `D`.
    pub fn learn(&mut self, start_seconds: f64, tuning: &Tuning, now: Moment) {
        if self.learn_at.is_some_and(|at| now < at) {
            return;
        }
        self.learn_at = Some(now.plus_seconds(LEARN_EVERY_SECONDS));
        for level in &mut self.all {
            while level
                .gaps
                .front()
                .is_some_and(|(when, _)| now.seconds_since(*when) > tuning.keep_memory_seconds)
            {
                level.gaps.pop_front();
            }
        }
        let mut gaps = Vec::new();
        let keeps: Vec<f64> = (0..self.all.len())
            .map(|index| {
                // Neighbours have much in common: a level learns from those within an eighth of it.
                let reach = 1 + index / 8;
                gaps.clear();
                for level in self.all.iter().skip(index.saturating_sub(reach)).take(2 * reach + 1) {
                    gaps.extend(level.gaps.iter().map(|(_, gap)| *gap));
                }
                keep_seconds(&mut gaps, start_seconds, tuning)
            })
            .collect();
        for (level, keep) in self.all.iter_mut().zip(keeps) {
            level.keep_seconds = keep;
        }
    }
}

/// The best time to keep, from the gaps seen.
fn keep_seconds(gaps: &mut [f64], start_seconds: f64, tuning: &Tuning) -> f64 {
    let clamp = |seconds: f64| seconds.clamp(tuning.keep_seconds_min, tuning.keep_seconds_max);
    if gaps.len() < GAPS_ENOUGH {
        return clamp(tuning.keep_seconds_prior);
    }
    gaps.sort_by(f64::total_cmp);
    let lost = start_seconds * (1.0 + tuning.miss_price);
    let count = gaps.len() as f64;
    // Keeping not at all, or exactly as long as one of the gaps: between two gaps the cost only grows.
    let mut best = (count * lost, 0.0);
    let mut shorter = 0.0;
    for (index, gap) in gaps.iter().enumerate() {
        shorter += gap;
        let longer = count - index as f64 - 1.0;
        let cost = shorter + longer * (gap + lost);
        if cost < best.0 {
            best = (cost, *gap);
        }
    }
    clamp(best.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::seconds;

    fn tuning() -> Tuning {
        Tuning {
            keep_seconds_min: 0.0,
            ..Tuning::default()
        }
    }

    /// By trying every second, instead of only the gaps.
    fn exhaustive(gaps: &[f64], start_seconds: f64) -> f64 {
        let lost = start_seconds * (1.0 + tuning().miss_price);
        (0..=3600_u32)
            .map(f64::from)
            .map(|h| {
                let cost: f64 = gaps.iter().map(|g| if *g <= h { *g } else { h + lost }).sum();
                (cost, h)
            })
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .unwrap()
            .1
    }

    #[test]
    fn the_best_time_is_the_best_of_all() {
        for gaps in [
            vec![10.0; 8],
            vec![5.0, 10.0, 20.0, 900.0, 1000.0, 2000.0],
            vec![60.0, 61.0, 62.0, 3000.0, 3000.0, 3000.0, 3000.0],
            vec![2000.0, 2100.0, 2200.0, 3000.0, 3500.0, 3600.0],
            vec![149.0, 149.0, 151.0, 152.0, 10.0, 300.0, 20.0],
        ] {
            let mut sorted = gaps.clone();
            let found = keep_seconds(&mut sorted, 30.0, &tuning());
            assert!((found - exhaustive(&gaps, 30.0)).abs() < 1e-9, "{gaps:?}: {found}");
        }
    }

    #[test]
    fn little_experience_is_none() {
        let found = keep_seconds(&mut [1.0; GAPS_ENOUGH - 1], 30.0, &tuning());
        assert!((found - tuning().keep_seconds_prior).abs() < 1e-9);
    }

    #[test]
    fn a_level_that_comes_back_soon_is_kept_and_one_that_does_not_goes() {
        let tuning = tuning();
        let mut levels = Levels::default();
        // Level 3 is needed for 10 s every 60 s; levels 1 and 2 always.
        for tick in 0..360_u64 {
            let wanted = if tick * 5 % 60 < 10 { 3 } else { 2 };
            levels.need(wanted, seconds(tick * 5), &tuning);
            levels.learn(30.0, &tuning, seconds(tick * 5));
        }
        let kept = levels.kept(2, seconds(1800)).unwrap();
        assert_eq!(kept.replicas, 3);
        // Once every half hour: not worth half an hour.
        let mut levels = Levels::default();
        for tick in 0..7200_u64 {
            let wanted = if tick % 360 == 0 { 3 } else { 2 };
            levels.need(wanted, seconds(tick * 5), &tuning);
            levels.learn(
                30.0,
                &Tuning {
                    keep_memory_seconds: 1e9,
                    ..tuning
                },
                seconds(tick * 5),
            );
        }
        assert!(levels.all[2].keep_seconds < 1.0, "{:?}", levels.all[2]);
        assert_eq!(levels.kept(2, seconds(36_000)), None);
    }

    #[test]
    fn memory_is_bounded() {
        let mut levels = Levels::default();
        for tick in 0..10_000_u64 {
            levels.need(if tick % 2 == 0 { 5 } else { 0 }, seconds(tick), &tuning());
        }
        assert!(levels.all.iter().all(|level| level.gaps.len() == GAPS_MAX));
    }
}
