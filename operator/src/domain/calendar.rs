//! Schedules: when a floor under the replicas begins and ends. Pure: the time is an argument, and the time zones are in the binary.

use croner::Cron;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// A floor that comes again and again.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// Name, for people.
    pub name: String,
    /// When it begins.
    pub begins: Cron,
    /// Time zone of that.
    pub zone: TimeZone,
    /// How long it lasts.
    pub lasts: SignedDuration,
    /// Fewest replicas meanwhile.
    pub replicas: i32,
    /// Pool that it is for; all of them without it.
    pub pool: Option<String>,
}

/// One of its times: from `from` on, until before `until`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Name of the schedule.
    pub name: String,
    /// Pool that it is for; all of them without it.
    pub pool: Option<String>,
    /// Fewest replicas.
    pub replicas: i32,
    /// When it begins.
    pub from: Timestamp,
    /// When it ends.
    pub until: Timestamp,
}

impl Schedule {
    /// The last time that has begun, if it has not ended, and the next one. Where one begins before the last has ended, the later end counts.
    pub fn windows(&self, now: Timestamp) -> impl Iterator<Item = Window> {
        // Whole seconds: so begins what begins now.
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let here = now.to_zoned(self.zone.clone());
        let last = self.begins.find_previous_occurrence(&here, true).ok();
        let next = self.begins.find_next_occurrence(&here, false).ok();
        [last, next].into_iter().flatten().filter_map(move |from| {
            let from = from.timestamp();
            let until = from.checked_add(self.lasts).ok()?;
            (now < until).then(|| Window {
                name: self.name.clone(),
                pool: self.pool.clone(),
                replicas: self.replicas,
                from,
                until,
            })
        })
    }

    /// Whether it ever begins: the 30th of February does not come.
    pub fn comes(&self) -> bool {
        let begin = Timestamp::UNIX_EPOCH.to_zoned(self.zone.clone());
        self.begins.find_next_occurrence(&begin, true).is_ok()
    }
}

/// The highest floor under a pool at a time; of equal ones that which lasts longest.
pub fn floor<'a>(windows: &'a [Window], pool: &str, now: Timestamp) -> Option<&'a Window> {
    let is_open = |window: &&Window| window.from <= now && now < window.until;
    let is_for_it = |window: &&Window| window.pool.as_deref().is_none_or(|of| of == pool);
    let open = windows.iter().filter(is_open).filter(is_for_it);
    open.max_by_key(|window| (window.replicas, window.until))
}

/// When the next of these windows begins or ends.
pub fn edge(windows: &[Window], now: Timestamp) -> Option<Timestamp> {
    let edges = windows.iter().flat_map(|window| [window.from, window.until]);
    edges.filter(|edge| *edge > now).min()
}

#[cfg(test)]
mod tests {
    use std::str::FromStr as _;

    use jiff::tz::TimeZoneDatabase;

    use super::*;

    fn schedule(begins: &str, zone: &str, hours: i64) -> Schedule {
        Schedule {
            name: "day".to_owned(),
            begins: Cron::from_str(begins).unwrap(),
            zone: TimeZoneDatabase::bundled().get(zone).unwrap(),
            lasts: SignedDuration::from_hours(hours),
            replicas: 4,
            pool: None,
        }
    }

    fn at(time: &str) -> Timestamp {
        time.parse().unwrap()
    }

    /// From and until of what is open, if anything is.
    fn open(schedule: &Schedule, time: &str) -> Option<(String, String)> {
        let windows: Vec<Window> = schedule.windows(at(time)).collect();
        floor(&windows, "cpu", at(time)).map(|window| (window.from.to_string(), window.until.to_string()))
    }

    #[test]
    fn it_is_open_from_its_first_moment_until_before_its_last() {
        let workday = schedule("0 8 * * MON-FRI", "UTC", 10);
        let monday = Some(("2026-02-02T08:00:00Z".to_owned(), "2026-02-02T18:00:00Z".to_owned()));
        assert_eq!(open(&workday, "2026-02-02T07:59:59.999Z"), None);
        assert_eq!(open(&workday, "2026-02-02T08:00:00Z"), monday);
        assert_eq!(open(&workday, "2026-02-02T08:00:00.7Z"), monday);
        assert_eq!(open(&workday, "2026-02-02T17:59:59.999Z"), monday);
        assert_eq!(open(&workday, "2026-02-02T18:00:00Z"), None);
        assert_eq!(open(&workday, "2026-02-01T12:00:00Z"), None, "a Sunday");
    }

    #[test]
    fn the_next_change_is_known_before_within_and_after() {
        let workday = schedule("0 8 * * MON-FRI", "UTC", 10);
        let next = |time: &str| {
            let windows: Vec<Window> = workday.windows(at(time)).collect();
            edge(&windows, at(time)).unwrap().to_string()
        };
        assert_eq!(next("2026-02-02T07:00:00Z"), "2026-02-02T08:00:00Z");
        assert_eq!(next("2026-02-02T08:00:00Z"), "2026-02-02T18:00:00Z");
        assert_eq!(next("2026-02-06T18:00:00Z"), "2026-02-09T08:00:00Z", "over the weekend");
    }

    #[test]
    fn a_zone_keeps_its_hour_when_its_clocks_change() {
        let morning = schedule("0 8 * * *", "Europe/Berlin", 1);
        let from = |time: &str| open(&morning, time).map(|(from, _)| from);
        assert_eq!(from("2026-03-28T07:30:00Z").as_deref(), Some("2026-03-28T07:00:00Z"));
        assert_eq!(from("2026-03-29T06:30:00Z").as_deref(), Some("2026-03-29T06:00:00Z"));
        assert_eq!(from("2026-10-25T07:30:00Z").as_deref(), Some("2026-10-25T07:00:00Z"));
        // What begins in the hour that is left out begins after it, once; what begins in the hour that comes twice begins once.
        let night = schedule("30 2 * * *", "Europe/Berlin", 1);
        let starts = |day: &str| -> Vec<String> {
            let minutes = (0..24 * 60).map(|minute| at(day) + SignedDuration::from_mins(minute));
            let mut all: Vec<String> = minutes
                .filter_map(|time| Some(open(&night, &time.to_string())?.0))
                .collect();
            all.dedup();
            all
        };
        assert_eq!(starts("2026-03-29T00:00:00Z").len(), 1);
        assert_eq!(starts("2026-10-25T00:00:00Z").len(), 1);
    }

    #[test]
    fn one_that_begins_again_before_it_ends_stays_open() {
        let always = schedule("0 * * * *", "UTC", 2);
        for minute in 0..240 {
            let now = at("2026-02-02T00:00:00Z") + SignedDuration::from_mins(minute);
            let windows: Vec<Window> = always.windows(now).collect();
            assert!(floor(&windows, "cpu", now).is_some(), "{now}");
        }
    }

    #[test]
    fn of_several_the_highest_counts_and_only_for_its_pool() {
        let mut high = schedule("0 8 * * *", "UTC", 1);
        (high.replicas, high.pool) = (9, Some("gpu".to_owned()));
        let all = [schedule("0 8 * * *", "UTC", 3), schedule("0 8 * * *", "UTC", 2), high];
        let now = at("2026-02-02T08:30:00Z");
        let windows: Vec<Window> = all.iter().flat_map(|schedule| schedule.windows(now)).collect();
        assert_eq!(floor(&windows, "gpu", now).unwrap().replicas, 9);
        let cpu = floor(&windows, "cpu", now).unwrap();
        assert_eq!(
            (cpu.replicas, cpu.until),
            (4, at("2026-02-02T11:00:00Z")),
            "the longer one"
        );
    }

    #[test]
    fn what_never_comes_is_known() {
        assert!(!schedule("0 0 30 2 *", "UTC", 1).comes());
        assert!(schedule("0 0 29 2 *", "UTC", 1).comes());
    }
}
