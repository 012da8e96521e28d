//! The waiting line as plain data: push, cancel, next batch. It knows no thread, no clock and no tensor.
//!
//! Entries of one group (same inner shapes) may share a batch. The more urgent go first, and among them the oldest, whatever its group; within a line
//! order is kept. Nobody starves: who has waited for half of his time goes before the more urgent.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::batcher::policy::{Close, Policy, Waiting};
use crate::request::Priority;

/// What decides with whom and when an entry is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    pub priority: Priority,
    /// Entries with equal groups fit into one batch.
    pub group: u64,
    /// Items the entry adds to a batch.
    pub items: usize,
    /// How large each of them is.
    pub size_class: u8,
    /// Its part of the runs that it will share, as far as is known.
    pub work: Duration,
}

/// A line: entries of one priority and one group.
type Line = (Priority, u64);

impl Kind {
    /// Where the entry stands.
    pub fn line(&self) -> Line {
        (self.priority, self.group)
    }
}

/// Of entries that cannot be done in time, one in so many is run all the same: what a run takes is learned from runs.
const DOOMED_RUN_ONE_IN: u32 = 8;
/// Weight of a new time between arrivals against those before.
const INTERVAL_WEIGHT: f64 = 1.0 / 16.0;

/// When an entry is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    /// After this it takes no place; never after the deadline.
    pub due: Instant,
    /// After this its caller waits no longer.
    pub deadline: Instant,
}

impl From<Instant> for Term {
    /// It is of use for as long as its caller waits.
    fn from(deadline: Instant) -> Self {
        Self {
            due: deadline,
            deadline,
        }
    }
}

/// What is known about an entry; `payload` is the caller's business.
#[derive(Debug)]
pub struct Entry<T> {
    /// Position in the order of arrival; unique.
    pub sequence: u64,
    pub kind: Kind,
    pub arrived: Instant,
    /// After its end the entry is answered with "too late" and takes no place.
    pub term: Term,
    pub payload: T,
}

/// What a free worker gets.
#[derive(Debug)]
pub enum Next<T> {
    /// Entries to run now, in order of arrival, all of one group.
    Batch(Vec<Entry<T>>),
    /// Nothing before this instant, unless something arrives.
    Wait(Instant),
    /// Nothing waits.
    Empty,
}

/// The waiting line.
#[derive(Debug)]
pub struct State<T> {
    capacity: usize,
    next_sequence: u64,
    length: usize,
    lines: HashMap<Line, VecDeque<Entry<T>>>,
    /// The group of each line's first entry: the smallest key is the oldest of the most urgent.
    heads: BTreeMap<(Priority, u64), u64>,
    /// No entry is due earlier (it may have left since): before it nobody can be late.
    due_min: Option<Instant>,
    arrived_last: Option<Instant>,
    /// Time between arrivals of late, in seconds.
    interval: Option<f64>,
    doomed: u32,
    /// Work of the entries that wait, by priority.
    work: [Duration; 3],
}

impl<T> State<T> {
    /// An empty line for at most `capacity` entries.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            next_sequence: 0,
            length: 0,
            lines: HashMap::new(),
            heads: BTreeMap::new(),
            due_min: None,
            arrived_last: None,
            interval: None,
            doomed: 0,
            work: [Duration::ZERO; 3],
        }
    }

    /// Entries that wait.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Work of the entries that wait, by priority, the most urgent first.
    pub fn work(&self) -> [Duration; 3] {
        self.work
    }

    fn change_work(&mut self, kind: Kind, change: impl Fn(Duration, Duration) -> Duration) {
        if let Some(work) = self.work.get_mut(kind.priority as usize) {
            *work = change(*work, kind.work);
        }
    }

    /// Whether `count` more entries fit.
    pub fn has_room(&self, count: usize) -> bool {
        count <= self.capacity - self.length
    }

    /// Adds an entry at the end and answers its sequence; gives the payload back when the line is full.
    pub fn push(&mut self, kind: Kind, arrived: Instant, term: impl Into<Term>, payload: T) -> Result<u64, T> {
        let term = term.into();
        if !self.has_room(1) {
            return Err(payload);
        }
        if let Some(before) = self.arrived_last.replace(arrived) {
            let sample = arrived.saturating_duration_since(before).as_secs_f64();
            let known = self.interval.unwrap_or(sample);
            self.interval = Some(known + (sample - known) * INTERVAL_WEIGHT);
        }
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.length += 1;
        self.change_work(kind, Duration::saturating_add);
        self.due_min = Some(self.due_min.map_or(term.due, |least| least.min(term.due)));
        let line = self.lines.entry(kind.line()).or_default();
        if line.is_empty() {
            self.heads.insert((kind.priority, sequence), kind.group);
        }
        line.push_back(Entry {
            sequence,
            kind,
            arrived,
            term,
            payload,
        });
        Ok(sequence)
    }

    /// Takes an entry out because its caller left; `None` when it does not wait any more.
    pub fn cancel(&mut self, line: Line, sequence: u64) -> Option<Entry<T>> {
        let entries = self.lines.get_mut(&line)?;
        let position = entries.binary_search_by_key(&sequence, |entry| entry.sequence).ok()?;
        let entry = entries.remove(position)?;
        self.length -= 1;
        self.change_work(entry.kind, Duration::saturating_sub);
        if position == 0 {
            self.heads.remove(&(line.0, sequence));
            self.settle_head(line);
        }
        Some(entry)
    }

    /// The next batch by the policy. Entries that are too late, or cannot be done in time, are moved to `late` and take no place in it.
    pub fn next(&mut self, now: Instant, policy: &Policy, late: &mut Vec<Entry<T>>) -> Next<T> {
        self.drop_late(now, late);
        let line = loop {
            let Some(line) = self.first_line(now) else {
                return Next::Empty;
            };
            match self.take_doomed(line, now, policy) {
                Some(entry) => late.push(entry),
                None => break line,
            }
        };
        let Some(offer) = self.offer(line, policy) else {
            return Next::Empty;
        };
        match policy.close(now, offer) {
            Close::Now(items) => Next::Batch(self.take(line, items)),
            Close::At(instant) => match self.other_line_that_is_full(policy) {
                Some(line) => Next::Batch(self.take(line, policy.items_max)),
                None => Next::Wait(instant),
            },
        }
    }

    /// The line whose turn it is: of those who have waited for half of their time the oldest, else the oldest of the most urgent.
    fn first_line(&self, now: Instant) -> Option<Line> {
        let (&(priority, _), &group) = self.heads.first_key_value()?;
        let urgent = (priority, group);
        let mut impatient: Option<(u64, Line)> = None;
        for priority in Priority::ALL {
            let Some((&(_, sequence), &group)) = self.heads.range((priority, 0)..=(priority, u64::MAX)).next() else {
                continue;
            };
            let line = (priority, group);
            let Some(entry) = self.lines.get(&line).and_then(VecDeque::front) else {
                continue;
            };
            let half = entry.term.deadline.saturating_duration_since(entry.arrived) / 2;
            if now >= entry.arrived + half && impatient.is_none_or(|(oldest, _)| sequence < oldest) {
                impatient = Some((sequence, line));
            }
        }
        Some(impatient.map_or(urgent, |(_, line)| line))
    }

    /// The first entry of the line, if its run would end too late even alone.
    fn take_doomed(&mut self, line: Line, now: Instant, policy: &Policy) -> Option<Entry<T>> {
        let first = self.lines.get(&line)?.front()?;
        let Kind { size_class, items, .. } = first.kind;
        if !policy.is_doomed(now, size_class, items, first.term.due) {
            return None;
        }
        self.doomed = self.doomed.wrapping_add(1);
        if self.doomed.is_multiple_of(DOOMED_RUN_ONE_IN) {
            return None;
        }
        let sequence = first.sequence;
        self.cancel(line, sequence)
    }

    /// What waits in the line, and behind it of the same group.
    fn offer(&self, line: Line, policy: &Policy) -> Option<Waiting> {
        let first = self.lines.get(&line)?.front()?;
        let mut waiting = Waiting {
            size_class: first.kind.size_class,
            items: 0,
            oldest: first.arrived,
            deadline: first.term.due,
            interval: self.interval.map(Duration::from_secs_f64),
        };
        for (position, line) in self.lines_of_group(line).enumerate() {
            let prefix = prefix(line, policy.items_max, waiting.items, position == 0);
            waiting.items += prefix.items;
            if let Some(deadline) = prefix.deadline {
                waiting.deadline = waiting.deadline.min(deadline);
            }
            // A batch that the next entry would overfill is as full as it gets.
            if line.len() > prefix.count {
                waiting.items = waiting.items.max(policy.items_max);
                break;
            }
        }
        Some(waiting)
    }

    /// The line itself, and then those of its group that are less urgent.
    fn lines_of_group(&self, (priority, group): Line) -> impl Iterator<Item = &VecDeque<Entry<T>>> {
        let others = Priority::ALL.into_iter().filter(move |other| *other > priority);
        std::iter::once(priority)
            .chain(others)
            .filter_map(move |priority| self.lines.get(&(priority, group)))
    }

    /// While the first line still waits for company, a full batch of another one need not.
    fn other_line_that_is_full(&self, policy: &Policy) -> Option<Line> {
        self.heads.iter().find_map(|(&(priority, _), &group)| {
            let line = (priority, group);
            let waiting = self.offer(line, policy)?;
            (waiting.items >= policy.items_max).then_some(line)
        })
    }

    /// At most so many items (but one entry in any case) from the line, and what room is left from the less urgent of its group.
    fn take(&mut self, line: Line, items_max: usize) -> Vec<Entry<T>> {
        let mut batch: Vec<Entry<T>> = Vec::new();
        let mut items = 0;
        let (first, group) = line;
        for priority in Priority::ALL.into_iter().filter(|priority| *priority >= first) {
            let line = (priority, group);
            let Some(entries) = self.lines.get_mut(&line) else {
                continue;
            };
            let prefix = prefix(entries, items_max, items, batch.is_empty());
            if prefix.count == 0 {
                continue;
            }
            if let Some(head) = entries.front() {
                self.heads.remove(&(priority, head.sequence));
            }
            items += prefix.items;
            batch.extend(entries.drain(..prefix.count));
            self.settle_head(line);
        }
        self.length -= batch.len();
        for entry in &batch {
            self.change_work(entry.kind, Duration::saturating_sub);
        }
        batch
    }

    /// Moves the late entries of all groups out, wherever they stand: they need not be due in the order of arrival.
    fn drop_late(&mut self, now: Instant, late: &mut Vec<Entry<T>>) {
        if self.due_min.is_none_or(|due| due > now) {
            return;
        }
        self.due_min = None;
        let before = late.len();
        for line in self.lines.values_mut() {
            for entry in std::mem::take(line) {
                if entry.term.due > now {
                    self.due_min = Some(self.due_min.map_or(entry.term.due, |least| least.min(entry.term.due)));
                    line.push_back(entry);
                } else {
                    late.push(entry);
                }
            }
        }
        self.lines.retain(|_, line| !line.is_empty());
        self.length = self.lines.values().map(VecDeque::len).sum();
        for entry in late.iter().skip(before) {
            self.change_work(entry.kind, Duration::saturating_sub);
        }
        self.heads = self
            .lines
            .iter()
            .filter_map(|((priority, group), line)| Some(((*priority, line.front()?.sequence), *group)))
            .collect();
    }

    /// Registers the line's new first entry, or forgets the line when it is empty.
    fn settle_head(&mut self, line: Line) {
        let Some(entries) = self.lines.get(&line) else { return };
        match entries.front() {
            Some(entry) => {
                self.heads.insert((line.0, entry.sequence), line.1);
            }
            None => {
                self.lines.remove(&line);
            }
        }
    }
}

/// Entries from the front of a line that fit into a batch.
struct Prefix {
    count: usize,
    items: usize,
    /// The earliest of them.
    deadline: Option<Instant>,
}

/// As many entries as fit beside `taken` items; one in any case where `always` holds: an entry larger than the limit was split before it came here,
/// or is a model's fixed size.
fn prefix<T>(line: &VecDeque<Entry<T>>, items_max: usize, taken: usize, always: bool) -> Prefix {
    let mut prefix = Prefix {
        count: 0,
        items: 0,
        deadline: None,
    };
    for entry in line {
        let items = prefix.items.saturating_add(entry.kind.items);
        let is_first = always && prefix.count == 0;
        if !is_first && taken.saturating_add(items) > items_max {
            break;
        }
        prefix.count += 1;
        prefix.items = items;
        let earliest = prefix.deadline.unwrap_or(entry.term.due);
        prefix.deadline = Some(earliest.min(entry.term.due));
    }
    prefix
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
