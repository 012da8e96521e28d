//! Recorded decisions, told again. Pure.

use jiff::Timestamp;
use serde::Serialize;
use tidewright_scaling::decision::Decision;
use tidewright_scaling::observation::{Floor, Phase, Reading, Sample};
use tidewright_scaling::policy::SignalKind;
use tidewright_scaling::record::{Record, Replay, Replayed, differences};
use tidewright_scaling::units::{Moment, Raw};
use tidewright_scaling::{Observations, Policy, State, decide};

use crate::autoscaler::{floors, timestamp};
use crate::domain::calendar::{self, Schedule, Window};

/// For how long a `what-if` goes on: rates are averages, and need it to be believed.
const WHAT_IF_SECONDS: u32 = 120;

/// Reads JSON lines.
///
/// # Errors
/// The line that is none, and why.
pub fn parse(text: &str) -> Result<Vec<Record>, String> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let records = lines.map(|(index, line)| {
        serde_json::from_str(line).map_err(|problem| format!("line {} is no recorded decision: {problem}", index + 1))
    });
    let records: Vec<Record> = records.collect::<Result<_, _>>()?;
    if records.is_empty() {
        return Err("there is no recorded decision".to_owned());
    }
    Ok(records)
}

/// A decision that was executed again.
#[derive(Debug, Clone, Serialize)]
pub struct Explained {
    /// The decision, as it was recorded.
    pub decision: Decision,
    /// What it was made of.
    pub seen: Observations,
    /// Whether it came out the same, bit for bit.
    pub is_same: bool,
    /// What differs, if anything.
    pub differences: Vec<String>,
}

/// Executes the last decision at or before `at` again, with everything that leads to it.
///
/// # Errors
/// There is none, or nothing to begin the replay with.
pub fn explain(records: &[Record], at: Moment) -> Result<Explained, String> {
    let end = records.iter().rposition(|record| record.at <= at);
    let Some(record) = end.and_then(|end| records.get(end)) else {
        let first = records
            .first()
            .map_or_else(String::new, |record| record.at.time_of_day());
        return Err(format!(
            "the first decision that is kept is of {first}: nothing is known of an earlier one"
        ));
    };
    let mut replay = Replay::default();
    let mut last = Replayed::Skipped;
    for record in records.iter().take(end.map_or(0, |end| end + 1)) {
        last = replay.next(record);
    }
    let differences = match &last {
        Replayed::Equal => Vec::new(),
        Replayed::Different(other) => differences(&record.decision, other),
        Replayed::Skipped => return Err("what was remembered before this decision is not recorded".to_owned()),
    };
    Ok(Explained {
        decision: record.decision.clone(),
        seen: record.seen.clone(),
        is_same: last == Replayed::Equal,
        differences,
    })
}

/// Policy and memory after the last record.
///
/// # Errors
/// The records do not say with what they begin.
pub fn present(records: &[Record]) -> Result<(Policy, State, &Record), String> {
    match (remembered(records), records.last()) {
        (Some((policy, state)), Some(last)) => Ok((policy.clone(), state, last)),
        _ => Err("the records do not say with what they begin".to_owned()),
    }
}

/// Policy and memory after these records.
fn remembered(records: &[Record]) -> Option<(&Policy, State)> {
    let mut policy = None;
    let mut state = None;
    for record in records {
        policy = record.policy.as_ref().or(policy);
        if let Some(recorded) = &record.state {
            state = Some(recorded.clone());
        }
        if let (Some(policy), Some(before)) = (policy, state.take()) {
            state = Some(decide(policy, &record.seen, before, record.at).1);
        }
    }
    policy.zip(state)
}

/// What would be decided from other numbers.
#[derive(Debug, Clone, Serialize)]
pub struct WhatIf {
    /// At once.
    pub now: Decision,
    /// When they have stayed so for two minutes, and what was decided meanwhile was done.
    pub later: Decision,
}

/// Numbers of a whole service that are asked about.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Given {
    /// Requests per second.
    pub rate: Option<f64>,
    /// Waiting requests.
    pub queue: Option<f64>,
    /// Requests in work or waiting.
    pub concurrency: Option<f64>,
}

/// Decides about the present with other numbers.
///
/// # Errors
/// The service is not scaled by what was given, or the records do not say with what they begin.
pub fn what_if(records: &[Record], given: Given) -> Result<WhatIf, String> {
    let (policy, mut state, last) = present(records)?;
    let mut seen = last.seen.clone();
    for (given, what, is_it) in [
        (given.rate, "request rate", is_rate as fn(&SignalKind, &str) -> bool),
        (given.queue, "queue", is_queue),
        (given.concurrency, "concurrency", is_concurrency),
    ] {
        if let Some(value) = given
            && !set(&policy, &mut seen, value, is_it)
        {
            return Err(format!("this service is not scaled by its {what}"));
        }
    }
    let mut at = last.at;
    let mut decisions = Vec::new();
    for _ in 0..WHAT_IF_SECONDS {
        at = at.plus_seconds(1.0);
        for sample in seen.signals.iter_mut().flatten() {
            sample.at = at;
        }
        let (decision, next) = decide(&policy, &seen, std::mem::take(&mut state), at);
        state = next;
        for (view, pool) in seen.pools.iter_mut().zip(&decision.pools) {
            view.replicas = pool.to;
        }
        decisions.push(decision);
    }
    match (decisions.first(), decisions.last()) {
        (Some(now), Some(later)) => Ok(WhatIf {
            now: now.clone(),
            later: later.clone(),
        }),
        _ => Err("nothing was decided".to_owned()),
    }
}

fn is_rate(kind: &SignalKind, name: &str) -> bool {
    matches!(kind, SignalKind::ArrivalRate | SignalKind::ArrivalsPerReplica { .. }) || name.starts_with("request_rate")
}

fn is_queue(kind: &SignalKind, name: &str) -> bool {
    matches!(kind, SignalKind::Queued) || name.starts_with("queue_depth")
}

fn is_concurrency(_: &SignalKind, name: &str) -> bool {
    name.starts_with("concurrency")
}

/// Sets every signal of a kind to a number of the whole service; whether there is one. A signal of one pool gets its part.
fn set(policy: &Policy, seen: &mut Observations, whole: f64, is_it: fn(&SignalKind, &str) -> bool) -> bool {
    let mut found = false;
    let before = seen.clone();
    for (index, (signal, reading)) in policy.signals.iter().zip(&mut seen.signals).enumerate() {
        if !is_it(&signal.kind, &signal.name) {
            continue;
        }
        found = true;
        let value = whole * part(policy, &before, index);
        let sample: Reading = Ok(match reading {
            Ok(sample) => Sample {
                value: Raw(value),
                ..*sample
            },
            Err(_) => Sample {
                value: Raw(value),
                at: Moment::default(),
                window_seconds: 0.0,
                targets_up: 1,
                targets_all: 1,
                targets_covered: None,
            },
        });
        *reading = sample;
    }
    found
}

/// The part of the whole that a signal has: as measured over all pools; where it is not, as the ready replicas share it.
fn part(policy: &Policy, seen: &Observations, index: usize) -> f64 {
    let pool_of = |index: usize| match policy.signals.get(index)?.kind {
        SignalKind::PerReplica { pool, .. } | SignalKind::ArrivalsPerReplica { pool, .. } => Some(pool),
        _ => None,
    };
    let Some(own) = pool_of(index) else { return 1.0 };
    // `request_rate/a` and `request_rate/b` are one number, pool by pool.
    let source = |index: usize| policy.signals.get(index)?.name.split('/').next();
    let pools: Vec<(usize, usize)> = (0..policy.signals.len())
        .filter(|other| source(*other) == source(index))
        .filter_map(|other| Some((other, pool_of(other)?)))
        .collect();
    let measured = |signal: usize| Some(seen.signals.get(signal)?.as_ref().ok()?.value.0);
    let ready = |pool: usize| {
        let pods = seen.pools.get(pool).map_or(&[][..], |view| &view.pods);
        pods.iter().filter(|pod| pod.phase == Phase::Ready).count() as f64
    };
    let all: Option<f64> = pools.iter().map(|(signal, _)| measured(*signal)).sum();
    let shares = [
        (measured(index), all),
        (Some(ready(own)), Some(pools.iter().map(|(_, pool)| ready(*pool)).sum())),
    ];
    let known = shares.into_iter().find_map(|(own, all)| {
        let share = own? / all.filter(|all| *all > 0.0)?;
        share.is_finite().then_some(share)
    });
    known.unwrap_or(1.0 / pools.len().max(1) as f64)
}

/// Another spec, as far as it decides.
#[derive(Debug)]
pub struct Other {
    policy: Policy,
    schedules: Vec<Schedule>,
    /// Their times, those that are and those that come next.
    windows: Vec<Window>,
    /// Until when no other times begin or end.
    until: Option<Timestamp>,
}

impl Other {
    /// Its policy and its schedules.
    pub fn new(policy: Policy, schedules: Vec<Schedule>) -> Self {
        Self {
            policy,
            schedules,
            windows: Vec::new(),
            until: None,
        }
    }

    /// What its schedules ask for at a time.
    fn floors(&mut self, at: Moment) -> Vec<Option<Floor>> {
        let Some(now) = timestamp(at) else {
            return Vec::new();
        };
        if self.until.is_none_or(|until| now >= until) {
            self.windows = self
                .schedules
                .iter()
                .flat_map(|schedule| schedule.windows(now))
                .collect();
            self.until = calendar::edge(&self.windows, now);
        }
        floors(&self.policy, &self.windows, now)
    }
}

/// What a policy came to over some time.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Course {
    /// From the first decision to the last.
    pub seconds: f64,
    /// Sum over the replicas of the time that each was asked for.
    pub replica_seconds: f64,
    /// Seconds with fewer replicas than the signals asked for, by the recorded policy.
    pub short_seconds: f64,
    /// Changes of the number.
    pub changes: u32,
    /// Changes against the direction of the one before.
    pub reversals: u32,
    /// Replicas of all pools, at each decision.
    pub replicas: Vec<u32>,
}

/// A recorded course, and that of another policy over the same observations.
#[derive(Debug, Clone, Serialize)]
pub struct Compared {
    /// What was decided.
    pub recorded: Course,
    /// What would have been.
    pub other: Course,
}

/// Lets another spec decide from what was seen and by its own schedules, with what was remembered at the time. The pods are those that there were: with other
/// numbers of them the load of each would have been another, which no record knows.
///
/// # Errors
/// The other spec looks at other signals or pools.
pub fn compare(records: &[Record], from: Moment, to: Moment, mut other: Other) -> Result<Compared, String> {
    let (recorded_policy, ..) = present(records)?;
    let names = |policy: &Policy| -> Vec<String> {
        let signals = policy.signals.iter().map(|signal| format!("signal {}", signal.name));
        signals
            .chain(policy.pools.iter().map(|pool| format!("pool {}", pool.name)))
            .collect()
    };
    let (of_recorded, of_other) = (names(&recorded_policy), names(&other.policy));
    if of_recorded != of_other {
        return Err(format!(
            "the other spec decides from {}, and recorded is {}",
            of_other.join(", "),
            of_recorded.join(", ")
        ));
    }
    let begin = records.partition_point(|record| record.at < from);
    let (before, records) = records.split_at(begin);
    let mut state = remembered(before).map(|(_, state)| state);
    let mut replicas: Option<Vec<u32>> = None;
    let (mut was, mut would) = (Vec::new(), Vec::new());
    for record in records.iter().take_while(|record| record.at <= to) {
        let mut seen = Observations {
            floors: other.floors(record.at),
            ..record.seen.clone()
        };
        let before = replicas.get_or_insert_with(|| seen.pools.iter().map(|view| view.replicas).collect());
        for (view, replicas) in seen.pools.iter_mut().zip(before.iter()) {
            view.replicas = *replicas;
        }
        let memory = state.take().or_else(|| record.state.clone()).unwrap_or_default();
        let (decision, next) = decide(&other.policy, &seen, memory, record.at);
        state = Some(next);
        replicas = Some(decision.pools.iter().map(|pool| pool.to).collect());
        let asked: u32 = record.decision.pools.iter().map(asked).sum();
        let total = |decision: &Decision| decision.pools.iter().map(|pool| pool.to).sum::<u32>();
        was.push((record.at, total(&record.decision), asked));
        would.push((record.at, total(&decision), asked));
    }
    if was.is_empty() {
        return Err("no decision of that time is recorded".to_owned());
    }
    Ok(Compared {
        recorded: course(&was),
        other: course(&would),
    })
}

fn asked(pool: &tidewright_scaling::decision::PoolDecision) -> u32 {
    pool.winner().map_or(0, |winner| winner.replicas)
}

/// (when, replicas, replicas that were asked for)
fn course(points: &[(Moment, u32, u32)]) -> Course {
    let mut course = Course::default();
    let mut direction = 0;
    for pair in points.windows(2) {
        let [(at, replicas, asked), (next_at, next, _)] = pair else {
            continue;
        };
        let seconds = next_at.seconds_since(*at);
        course.seconds += seconds;
        course.replica_seconds += seconds * f64::from(*replicas);
        if replicas < asked {
            course.short_seconds += seconds;
        }
        let change = i64::from(*next).cmp(&i64::from(*replicas)) as i32;
        if change != 0 {
            course.changes += 1;
            course.reversals += u32::from(direction * change < 0);
            direction = change;
        }
    }
    course.replicas = points.iter().map(|(_, replicas, _)| *replicas).collect();
    course
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
