//! One scrape target and what Prometheus has stored of it.

use std::collections::VecDeque;

use super::rate::{self, Point};

/// Values that a target shows; each target has the same columns.
pub const COLUMNS: usize = 3;

/// Samples are kept for longer than the longest window and the look-back together.
const RETENTION_MS: i64 = 20 * 60 * 1_000;
/// `--query.lookback-delta`: an instant query takes the newest sample that is not older.
const LOOKBACK_MS: i64 = 5 * 60 * 1_000;

/// What one scrape stored.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Scrape {
    at_ms: i64,
    /// `None`: it failed, `up` is 0 and the series carry a staleness marker.
    values: Option<[f64; COLUMNS]>,
}

#[derive(Debug, Default)]
pub struct Target {
    scrapes: VecDeque<Scrape>,
    /// When something was stored for the first time, however long ago.
    first_ms: Option<i64>,
    /// No longer scraped: its series, `up` included, ended with a marker.
    gone: bool,
}

impl Target {
    pub fn store(&mut self, at_ms: i64, values: Option<[f64; COLUMNS]>) {
        self.first_ms = self.first_ms.or(values.map(|_| at_ms));
        self.scrapes.push_back(Scrape { at_ms, values });
        while self
            .scrapes
            .front()
            .is_some_and(|first| first.at_ms <= at_ms - RETENTION_MS)
        {
            self.scrapes.pop_front();
        }
    }

    /// Service discovery dropped it.
    pub fn retire(&mut self) {
        self.gone = true;
    }

    /// Whether nothing of it can be in any answer any more.
    pub fn is_forgotten(&self, now_ms: i64) -> bool {
        self.gone
            && self
                .scrapes
                .back()
                .is_none_or(|last| last.at_ms <= now_ms - RETENTION_MS)
    }

    /// A query may ask for a time a little before now.
    fn newest(&self, now_ms: i64) -> Option<&Scrape> {
        let mut back = self.scrapes.iter().rev();
        back.find(|scrape| scrape.at_ms <= now_ms)
            .filter(|scrape| !self.gone && scrape.at_ms > now_ms - LOOKBACK_MS)
    }

    /// The `up` of this target, absent before its first scrape and after its last.
    pub fn up(&self, now_ms: i64) -> Option<bool> {
        self.newest(now_ms).map(|scrape| scrape.values.is_some())
    }

    /// Instant value of a column with its timestamp. Absent after a failed scrape; without any scrape it lives on for the look-back.
    pub fn instant(&self, column: usize, now_ms: i64) -> Option<Point> {
        let scrape = self.newest(now_ms)?;
        scrape.values.map(|values| Point {
            at_ms: scrape.at_ms,
            value: values[column],
        })
    }

    /// Whether a rate over `range_ms` says the whole truth: scraped in the first 1.1 intervals of the window, the most that `rate()` extrapolates over;
    /// or, where just that scrape was lost, shortly before and shortly after them. What appeared within the window has counted from zero.
    pub fn is_covered(&self, now_ms: i64, range_ms: i64, interval_ms: i64) -> bool {
        let start_ms = now_ms - range_ms;
        let edge_ms = start_ms + interval_ms * 11 / 10;
        let seen = |after_ms: i64, until_ms: i64| {
            let first = self.scrapes.partition_point(|scrape| scrape.at_ms <= after_ms);
            let mut within = self
                .scrapes
                .range(first..)
                .take_while(|scrape| scrape.at_ms <= until_ms);
            within.any(|scrape| scrape.values.is_some())
        };
        self.first_ms.is_some_and(|first| first > start_ms)
            || seen(start_ms, edge_ms)
            || (seen(start_ms - interval_ms, start_ms) && seen(edge_ms, edge_ms + interval_ms))
    }

    /// `rate()` of a column. Staleness markers are no samples of a range: a target that is gone counts until it has left the window.
    pub fn rate(&self, column: usize, now_ms: i64, range_ms: i64) -> Option<f64> {
        let first = self.scrapes.partition_point(|scrape| scrape.at_ms <= now_ms - range_ms);
        let points = self.scrapes.range(first..).filter_map(|scrape| {
            scrape.values.map(|values| Point {
                at_ms: scrape.at_ms,
                value: values[column],
            })
        });
        rate::rate(points, now_ms, range_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scraped(from: i64, to: i64) -> Target {
        let mut target = Target::default();
        for second in (from..=to).step_by(15) {
            target.store(second * 1_000, Some([second as f64, 1.0, 0.0]));
        }
        target
    }

    #[test]
    fn an_instant_value_lives_for_five_minutes_without_a_marker() {
        let target = scraped(0, 600);
        let at = |second: i64| target.instant(0, second * 1_000).map(|point| point.value);
        assert_eq!(at(600), Some(600.0));
        assert_eq!(at(899), Some(600.0));
        assert_eq!(at(900), None, "the look-back is left-open too");
    }

    #[test]
    fn a_failed_scrape_ends_instant_values_at_once_but_not_rates() {
        let mut target = scraped(0, 600);
        target.store(615_000, None);
        assert_eq!(target.instant(0, 616_000), None);
        assert_eq!(target.up(616_000), Some(false));
        let rate = target.rate(0, 616_000, 60_000).unwrap();
        assert!((rate - 1.0).abs() < 0.2, "{rate}");
        target.store(630_000, Some([630.0, 1.0, 0.0]));
        assert_eq!(target.instant(0, 630_000).map(|point| point.at_ms), Some(630_000));
    }

    #[test]
    fn a_window_is_filled_from_its_beginning() {
        let covered = |target: &Target, second: i64| target.is_covered(second * 1_000, 60_000, 15_000);
        let mut target = scraped(0, 600);
        assert!(covered(&target, 600) && covered(&target, 607));
        assert!(covered(&scraped(580, 600), 601), "it has counted from zero");
        // Away for ten minutes: scraped again at 1200, filled a minute later.
        for second in (1_200..=1_275_i64).step_by(15) {
            target.store(second * 1_000, Some([second as f64, 1.0, 0.0]));
            let low = target.rate(0, second * 1_000, 60_000);
            assert_eq!(covered(&target, second), second >= 1_245, "{second}: {low:?}");
        }
        // Away for so long that nothing of before is kept: it is still not new.
        target.store(9_000_000, Some([9_000.0, 1.0, 0.0]));
        assert!(!covered(&target, 9_001));
        // A single scrape that failed leaves no hole; two do.
        for (failed, expected) in [(555..556, true), (540..556, false)] {
            let mut target = Target::default();
            for second in (0..=600_i64).step_by(15) {
                let values = (!failed.contains(&second)).then_some([second as f64, 1.0, 0.0]);
                target.store(second * 1_000, values);
            }
            assert_eq!(covered(&target, 600), expected, "{failed:?}");
        }
    }

    #[test]
    fn a_dead_pod_keeps_its_rate_for_the_window() {
        let mut target = scraped(0, 600);
        target.retire();
        assert_eq!((target.instant(0, 601_000), target.up(601_000)), (None, None));
        assert!(target.rate(0, 630_000, 60_000).is_some());
        assert_eq!(target.rate(0, 650_000, 60_000), None, "one sample left");
        assert!(!target.is_forgotten(601_000));
        assert!(target.is_forgotten(600_000 + RETENTION_MS));
    }
}
