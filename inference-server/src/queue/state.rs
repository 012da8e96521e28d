//! The waiting line as plain data: push, cancel, next batch. It knows no thread, no clock and no tensor.
//!
//! Entries of one group (same inner shapes) may share a batch. Across groups the oldest entry goes first; within a group order is kept.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Instant;

use crate::batcher::policy::{Close, Policy};

/// What is known about an entry; `payload` is the caller's business.
#[derive(Debug)]
pub struct Entry<T> {
    /// Position in the order of arrival; unique.
    pub sequence: u64,
    /// Entries with equal groups fit into one batch.
    pub group: u64,
    /// Items the entry adds to a batch.
    pub items: usize,
    pub arrived: Instant,
    /// After this the entry is answered with "too late" and takes no place.
    pub deadline: Instant,
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
    groups: HashMap<u64, VecDeque<Entry<T>>>,
    /// First entry of each group by its sequence: the smallest key is the oldest entry of all.
    heads: BTreeMap<u64, u64>,
    /// No entry has an earlier deadline (it may have left since): before it nobody can be late.
    deadline_min: Option<Instant>,
}

impl<T> State<T> {
    /// An empty line for at most `capacity` entries.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            next_sequence: 0,
            length: 0,
            groups: HashMap::new(),
            heads: BTreeMap::new(),
            deadline_min: None,
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

    /// Whether `count` more entries fit.
    pub fn has_room(&self, count: usize) -> bool {
        count <= self.capacity - self.length
    }

    /// Adds an entry at the end and answers its sequence; gives the payload back when the line is full.
    pub fn push(
        &mut self,
        group: u64,
        items: usize,
        arrived: Instant,
        deadline: Instant,
        payload: T,
    ) -> Result<u64, T> {
        if !self.has_room(1) {
            return Err(payload);
        }
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.length += 1;
        self.deadline_min = Some(self.deadline_min.map_or(deadline, |least| least.min(deadline)));
        let line = self.groups.entry(group).or_default();
        if line.is_empty() {
            self.heads.insert(sequence, group);
        }
        line.push_back(Entry {
            sequence,
            group,
            items,
            arrived,
            deadline,
            payload,
        });
        Ok(sequence)
    }

    /// Takes an entry out because its caller left; `None` when it does not wait any more.
    pub fn cancel(&mut self, group: u64, sequence: u64) -> Option<Entry<T>> {
        let line = self.groups.get_mut(&group)?;
        let position = line.binary_search_by_key(&sequence, |entry| entry.sequence).ok()?;
        let entry = line.remove(position)?;
        self.length -= 1;
        if position == 0 {
            self.heads.remove(&sequence);
            self.settle_head(group);
        }
        Some(entry)
    }

    /// The next batch by the policy. Entries that are too late are moved to `late` and take no place in it.
    pub fn next(&mut self, now: Instant, policy: &Policy, late: &mut Vec<Entry<T>>) -> Next<T> {
        self.drop_late(now, late);
        let Some((_, &group)) = self.heads.first_key_value() else {
            return Next::Empty;
        };
        let Some((line, first)) = self.groups.get(&group).and_then(|line| Some((line, line.front()?))) else {
            return Next::Empty;
        };
        let (count, items, deadline) = prefix(line, policy.items_max);
        // A batch that the next entry would overfill is as full as it gets.
        let full = line.len() > count || items >= policy.items_max;
        let close = if full {
            Close::Now
        } else {
            policy.close(now, items, first.arrived, deadline.unwrap_or(first.deadline))
        };
        match close {
            Close::Now => Next::Batch(self.take(group, count)),
            Close::At(instant) => match self.other_group_that_is_full(policy) {
                Some((group, count)) => Next::Batch(self.take(group, count)),
                None => Next::Wait(instant),
            },
        }
    }

    /// While the oldest group still waits for company, a full batch of another group need not.
    fn other_group_that_is_full(&self, policy: &Policy) -> Option<(u64, usize)> {
        self.heads.values().find_map(|group| {
            let line = self.groups.get(group)?;
            let (count, items, _) = prefix(line, policy.items_max);
            (line.len() > count || items >= policy.items_max).then_some((*group, count))
        })
    }

    fn take(&mut self, group: u64, count: usize) -> Vec<Entry<T>> {
        let Some(line) = self.groups.get_mut(&group) else {
            return Vec::new();
        };
        let batch: Vec<Entry<T>> = line.drain(..count).collect();
        self.length -= batch.len();
        if let Some(first) = batch.first() {
            self.heads.remove(&first.sequence);
        }
        self.settle_head(group);
        batch
    }

    /// Moves the late entries of all groups out, wherever they stand: deadlines need not be in the order of arrival.
    fn drop_late(&mut self, now: Instant, late: &mut Vec<Entry<T>>) {
        if self.deadline_min.is_none_or(|deadline| deadline > now) {
            return;
        }
        self.deadline_min = None;
        for line in self.groups.values_mut() {
            for entry in std::mem::take(line) {
                if entry.deadline > now {
                    self.deadline_min = Some(
                        self.deadline_min
                            .map_or(entry.deadline, |least| least.min(entry.deadline)),
                    );
                    line.push_back(entry);
                } else {
                    late.push(entry);
                }
            }
        }
        self.groups.retain(|_, line| !line.is_empty());
        self.length = self.groups.values().map(VecDeque::len).sum();
        self.heads = self
            .groups
            .iter()
            .filter_map(|(group, line)| Some((line.front()?.sequence, *group)))
            .collect();
    }

    /// Registers the group's new first entry, or forgets the group when it is empty.
    fn settle_head(&mut self, group: u64) {
        match self
            .groups
            .get(&group)
            .map(|line| line.front().map(|entry| entry.sequence))
        {
            Some(Some(sequence)) => {
                self.heads.insert(sequence, group);
            }
            Some(None) => {
                self.groups.remove(&group);
            }
            None => {}
        }
    }
}

/// The longest run of entries from the front that fits: how many, with how many items, and the earliest deadline among them. At least one entry:
/// an entry larger than the limit was split before it came here, or is a model's fixed size.
fn prefix<T>(line: &VecDeque<Entry<T>>, items_max: usize) -> (usize, usize, Option<Instant>) {
    let mut count = 0;
    let mut items = 0usize;
    let mut deadline: Option<Instant> = None;
    for entry in line {
        if count > 0 && items.saturating_add(entry.items) > items_max {
            break;
        }
        count += 1;
        items = items.saturating_add(entry.items);
        deadline = Some(deadline.map_or(entry.deadline, |earliest| earliest.min(entry.deadline)));
    }
    (count, items, deadline)
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
