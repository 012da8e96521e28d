//! From what each pod said, round after round, to what a pool does: rates over a window, the mean queue, service times. Pure.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tidewright_contract::signals::Signals;

/// What is kept of a pod: the longest window, at a round a second, and some more.
const POINTS_MAX: usize = 72;
/// A pod that is first heard within this time of its becoming ready has been counting since then, and not longer.
const NEW_MAX: SignedDuration = SignedDuration::from_secs(10);
/// Of a process that is older when its pod is first seen ready, somebody else may have seen it ready before.
const PROCESS_AGE_MAX: SignedDuration = SignedDuration::from_secs(60);
/// Share of a window that may be missing: rounds are not exact.
const SLOP: f64 = 0.1;

/// What the pods of a pool came to in a round.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    /// When the first of them was heard.
    pub at: Option<Timestamp>,
    /// Arrivals per second of those that answered.
    pub rate: f64,
    /// Requests that waited at those that answered, on the average of the window.
    pub queued: f64,
    /// Requests that those that answered had accepted and not answered, on the average of the window.
    pub concurrency: f64,
    /// Pods that answered.
    pub up: u32,
    /// Pods that were asked.
    pub all: u32,
    /// Of those, pods that cannot be asked: their servers are of an earlier version, by the last that they said.
    pub older: u32,
    /// Pods that answered, and have been heard over the whole window or since they became ready.
    pub covered: u32,
    /// Requests that were completed since the round before.
    pub completions: u64,
    /// Seconds of work on requests since the round before.
    pub service_seconds: f64,
    /// Requests in each pod that answered, by its UID.
    pub in_flight: BTreeMap<String, u32>,
}

/// One answer, with counters that never begin anew.
#[derive(Debug, Clone, Copy, Default)]
struct Point {
    at: Timestamp,
    arrivals: u64,
    completions: u64,
    service_seconds: f64,
    queued: u64,
    in_flight: u64,
}

/// What one pod said.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Oldest first.
    points: VecDeque<Point>,
    /// The last answer as it was.
    last: Option<Signals>,
    round: u64,
    is_older: bool,
    was_ready: bool,
    /// When it became ready for the first time that we know of.
    first_ready_at: Option<Timestamp>,
}

impl History {
    /// Notes that the pod is ready, since `ready_at`. The first time alone may be when it began to count: one that turns ready again has counted before.
    pub(super) fn note_ready(&mut self, ready_at: Option<Timestamp>) {
        if !std::mem::replace(&mut self.was_ready, true) {
            self.first_ready_at = ready_at;
        }
    }

    /// Notes that the server knows no such question. A server that is silent afterwards knows it no better.
    pub(super) fn note_older(&mut self) {
        self.is_older = true;
    }

    /// Whether it is known that the server cannot be asked.
    pub(super) fn is_older(&self) -> bool {
        self.is_older
    }

    /// When it began to count, if that was just now.
    fn born_at(&self, said: &Signals, at: Timestamp) -> Option<Timestamp> {
        let started_at = Timestamp::from_millisecond(i64::try_from(said.process).ok()?).ok()?;
        self.first_ready_at.filter(|ready_at| {
            *ready_at < at
                && at.duration_since(*ready_at) <= NEW_MAX
                && ready_at.duration_since(started_at) <= PROCESS_AGE_MAX
        })
    }

    /// Takes in an answer.
    pub(super) fn note(&mut self, said: &Signals, at: Timestamp, round: u64) {
        self.round = round;
        self.is_older = false;
        let before = match self.points.back() {
            // A clock that jumped back leaves no way to tell how long ago anything was.
            Some(before) if before.at < at => *before,
            Some(_) => {
                *self = Self {
                    round,
                    was_ready: self.was_ready,
                    first_ready_at: self.first_ready_at,
                    ..Self::default()
                };
                Point::default()
            }
            None => {
                if let Some(born_at) = self.born_at(said, at) {
                    self.points.push_back(Point {
                        at: born_at,
                        ..Point::default()
                    });
                }
                Point::default()
            }
        };
        let last = self.last.filter(|last| {
            last.process == said.process && last.arrivals <= said.arrivals && last.completions <= said.completions
        });
        // Counters that have begun anew count from zero.
        let (arrivals, completions, seconds) = last.map_or((0, 0, 0.0), |last| {
            (last.arrivals, last.completions, last.service_seconds)
        });
        self.points.push_back(Point {
            at,
            arrivals: before.arrivals.saturating_add(said.arrivals - arrivals),
            completions: before.completions.saturating_add(said.completions - completions),
            service_seconds: before.service_seconds + (said.service_seconds - seconds).max(0.0),
            queued: said.queued,
            in_flight: said.in_flight,
        });
        if self.points.len() > POINTS_MAX {
            self.points.pop_front();
        }
        self.last = Some(*said);
    }

    /// Whether it was heard in this round.
    pub(super) fn is_of(&self, round: u64) -> bool {
        self.round == round
    }

    /// Arrivals per second over the window, and whether it was heard for so long. If not, the truth is at least that.
    fn rate(&self, window_seconds: f64) -> (f64, bool) {
        let Some(now) = self.points.back() else {
            return (0.0, false);
        };
        let age = |point: &Point| now.at.duration_since(point.at).as_secs_f64();
        let since = |point: &Point| now.arrivals.saturating_sub(point.arrivals) as f64;
        let filled = self
            .points
            .iter()
            .rev()
            .find(|point| age(point) >= window_seconds * (1.0 - SLOP));
        if let Some(base) = filled {
            return (since(base) / age(base), true);
        }
        let all = self.points.front().map_or(0.0, since);
        // Of one that has just become ready, all that there was is known.
        let is_new = self
            .points
            .front()
            .is_some_and(|first| first.at != now.at && first.is_birth());
        (all / window_seconds, is_new)
    }

    /// The mean of a number over the window.
    fn mean(&self, window_seconds: f64, number: impl Fn(&Point) -> u64) -> f64 {
        let Some(now) = self.points.back() else { return 0.0 };
        let recent = self.points.iter().filter(|point| {
            !point.is_birth() && now.at.duration_since(point.at).as_secs_f64() < window_seconds * (1.0 - SLOP)
        });
        let (sum, count) = recent.fold((0.0, 0.0), |(sum, count), point| {
            (sum + number(point) as f64, count + 1.0)
        });
        if count > 0.0 { sum / count } else { 0.0 }
    }
}

impl Point {
    /// Whether nothing had been counted yet.
    fn is_birth(&self) -> bool {
        self.arrivals == 0 && self.completions == 0 && self.queued == 0 && self.in_flight == 0
    }
}

/// Adds up the pods of a pool: each with its UID, and with what it said if it answered in this round.
pub(super) fn figures<'a>(pods: impl Iterator<Item = (&'a str, Option<&'a History>)>, window: Duration) -> Figures {
    let window_seconds = window.as_secs_f64().max(f64::MIN_POSITIVE);
    let mut all = Figures::default();
    for (uid, history) in pods {
        all.all += 1;
        let Some((history, now)) = history.and_then(|history| Some((history, history.points.back()?))) else {
            continue;
        };
        let (rate, is_covered) = history.rate(window_seconds);
        all.up += 1;
        all.covered += u32::from(is_covered);
        all.at = Some(all.at.map_or(now.at, |at| at.min(now.at)));
        all.rate += rate;
        all.queued += history.mean(window_seconds, |point| point.queued);
        all.concurrency += history.mean(window_seconds, |point| point.in_flight);
        if let Some(before) = history.points.iter().rev().nth(1) {
            all.completions = all.completions.saturating_add(now.completions - before.completions);
            all.service_seconds += now.service_seconds - before.service_seconds;
        }
        all.in_flight
            .insert(uid.to_owned(), u32::try_from(now.in_flight).unwrap_or(u32::MAX));
    }
    all
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
