//! The thin shell round the waiting line: a lock, a signal for free workers, and a ticket by which a caller who leaves gives up its place.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::state::{Entry, Kind, Next, State, Term};
use crate::batcher::policy::Policy;
use crate::clock;
use crate::request::Priority;

/// For how long a request of another priority than the usual one is remembered.
const RANKED_MILLIS: u64 = 300_000;

/// Told the number of waiting entries whenever it changes.
pub type Depth = Box<dyn Fn(i64) + Send + Sync>;

/// A waiting line shared by callers and workers. The lock is held for the few operations of the state, never during a run.
pub struct Queue<T> {
    inner: Mutex<Inner<T>>,
    arrived: Condvar,
    policy: Policy,
    /// Copy of the length, readable without the lock.
    length: AtomicUsize,
    capacity: usize,
    /// Copy of the work that waits, in nanoseconds by priority.
    work: [AtomicU64; 3],
    /// Until then, in milliseconds of the wall clock, priorities count as being in use.
    ranked_until: AtomicU64,
    depth: Depth,
}

struct Inner<T> {
    state: State<T>,
    closed: bool,
    /// How often all workers were told to look at their engines.
    checks: u64,
    /// Workers that wait for the signal, and how many of them have been given it and not come back yet. The system is asked to wake a thread only where
    /// one sleeps: under load that would be most of what a request costs here.
    asleep: usize,
    woken: usize,
}

impl<T> Inner<T> {
    /// How many sleepers the caller must wake for so many new entries.
    fn wakes(&mut self, entries: usize) -> usize {
        let wakes = entries.min(self.asleep.saturating_sub(self.woken));
        self.woken += wakes;
        wakes
    }

    /// A worker is back from its sleep, for whatever reason.
    fn is_awake(&mut self) {
        self.asleep -= 1;
        self.woken = self.woken.saturating_sub(1).min(self.asleep);
    }
}

/// Why nothing was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    Full,
    Closed,
}

/// What a worker gets: entries to run, and entries that are too late and only want an answer. Both are empty for a worker that is told to look at
/// its engine.
#[derive(Debug)]
pub struct Pulled<T> {
    pub batch: Vec<Entry<T>>,
    pub late: Vec<Entry<T>>,
}

/// One part of a request to be added.
#[derive(Debug)]
pub struct Part<T> {
    pub kind: Kind,
    pub payload: T,
}

/// A place in the line; dropping it gives the place up.
#[must_use = "dropping the ticket gives the place up"]
pub struct Ticket<T> {
    queue: Arc<Queue<T>>,
    kind: Kind,
    sequence: u64,
}

impl<T> Ticket<T> {
    /// Gives the place up; whether it was still waited in.
    pub fn give_up(&self) -> bool {
        // The payload may be large: it is dropped after the lock.
        let entry = self
            .queue
            .lock(|inner| inner.state.cancel(self.kind.line(), self.sequence));
        entry.is_some()
    }
}

impl<T> Drop for Ticket<T> {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl<T> Queue<T> {
    /// An open, empty line. `depth` is told changes of the length relative to before.
    pub fn new(capacity: usize, policy: Policy, depth: Depth) -> Arc<Self> {
        let inner = Inner {
            state: State::new(capacity),
            closed: false,
            checks: 0,
            asleep: 0,
            woken: 0,
        };
        Arc::new(Self {
            inner: Mutex::new(inner),
            arrived: Condvar::new(),
            policy,
            length: AtomicUsize::new(0),
            capacity,
            work: Default::default(),
            ranked_until: AtomicU64::new(0),
            depth,
        })
    }

    /// Runs `change` under the lock and publishes the new length.
    fn lock<R>(&self, change: impl FnOnce(&mut Inner<T>) -> R) -> R {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut inner);
        self.publish(&inner);
        result
    }

    fn publish(&self, inner: &MutexGuard<'_, Inner<T>>) {
        let length = inner.state.len();
        let before = self.length.swap(length, Ordering::Relaxed);
        for (copy, work) in self.work.iter().zip(inner.state.work()) {
            copy.store(u64::try_from(work.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        if length != before {
            (self.depth)(i64::try_from(length).unwrap_or(0) - i64::try_from(before).unwrap_or(0));
        }
    }

    /// Entries that wait.
    pub fn len(&self) -> usize {
        self.length.load(Ordering::Relaxed)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A look without the lock: good enough to refuse before the body is read.
    pub fn is_full(&self) -> bool {
        self.len() >= self.capacity
    }

    /// A request has come that is more or less urgent than others, at this time of the clock on the wall.
    pub fn saw_rank(&self, now_millis: u64) {
        self.ranked_until
            .store(now_millis.saturating_add(RANKED_MILLIS), Ordering::Relaxed);
    }

    /// Whether some requests of late were more or less urgent than others: then nobody knows whom one waits for that has not been read.
    pub fn is_ranked(&self, now_millis: u64) -> bool {
        now_millis < self.ranked_until.load(Ordering::Relaxed)
    }

    /// Work that waits and goes before an entry of this priority, as far as is known. Without the lock.
    pub fn ahead_of(&self, priority: Priority) -> Duration {
        let ahead = self.work.iter().take(priority as usize + 1);
        Duration::from_nanos(ahead.map(|nanos| nanos.load(Ordering::Relaxed)).sum())
    }

    /// Adds all parts or none.
    pub fn push_all(self: &Arc<Self>, parts: Vec<Part<T>>, term: impl Into<Term>) -> Result<Vec<Ticket<T>>, Refused> {
        let term = term.into();
        let now = clock::now();
        let count = parts.len();
        let (sequences, wakes) = self.lock(|inner| {
            if inner.closed {
                return Err(Refused::Closed);
            }
            if !inner.state.has_room(count) {
                return Err(Refused::Full);
            }
            let push = |part: Part<T>| {
                let sequence = inner.state.push(part.kind, now, term, part.payload);
                sequence
                    .map(|sequence| (part.kind, sequence))
                    .map_err(|_| Refused::Full)
            };
            let sequences = parts.into_iter().map(push).collect::<Result<Vec<_>, _>>()?;
            Ok((sequences, inner.wakes(count)))
        })?;
        for _ in 0..wakes {
            self.arrived.notify_one();
        }
        Ok(sequences
            .into_iter()
            .map(|(kind, sequence)| Ticket {
                queue: Arc::clone(self),
                kind,
                sequence,
            })
            .collect())
    }

    /// Tells all workers to look at their engines.
    pub fn check(&self) {
        self.lock(|inner| inner.checks += 1);
        // Whoever comes back early from his sleep takes a wake off the count; at worst another is woken for nothing.
        self.arrived.notify_all();
    }

    /// Blocks a worker until there is something to do; `None` when the line is closed and empty. `checks` is how many it has been told of.
    pub fn pull(&self, checks: &mut u64) -> Option<Pulled<T>> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if *checks != inner.checks {
                *checks = inner.checks;
                return Some(Pulled {
                    batch: Vec::new(),
                    late: Vec::new(),
                });
            }
            let now = clock::now();
            let mut late = Vec::new();
            let next = inner.state.next(now, &self.policy, &mut late);
            self.publish(&inner);
            match next {
                Next::Batch(batch) => {
                    // What is left may be enough for another worker.
                    if !inner.state.is_empty() && inner.wakes(1) > 0 {
                        self.arrived.notify_one();
                    }
                    return Some(Pulled { batch, late });
                }
                _ if !late.is_empty() => {
                    return Some(Pulled {
                        batch: Vec::new(),
                        late,
                    });
                }
                Next::Wait(instant) if !inner.closed => {
                    let pause = instant.saturating_duration_since(now);
                    inner.asleep += 1;
                    inner = self
                        .arrived
                        .wait_timeout(inner, pause)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0;
                    inner.is_awake();
                }
                // A closed line is emptied without waiting for company.
                Next::Wait(instant) => {
                    let batch = match inner.state.next(instant, &self.policy, &mut late) {
                        Next::Batch(batch) => batch,
                        Next::Wait(_) | Next::Empty => Vec::new(),
                    };
                    self.publish(&inner);
                    return Some(Pulled { batch, late });
                }
                Next::Empty if inner.closed => return None,
                Next::Empty => {
                    inner.asleep += 1;
                    inner = self.arrived.wait(inner).unwrap_or_else(PoisonError::into_inner);
                    inner.is_awake();
                }
            }
        }
    }

    /// Nothing more is accepted; workers get what is left and then `None`.
    pub fn close(&self) {
        self.lock(|inner| inner.closed = true);
        self.arrived.notify_all();
    }

    /// Nothing more is accepted, and what waits is dropped: nobody waits for it any more.
    pub fn abandon(&self) {
        let waiting = self.lock(|inner| {
            inner.closed = true;
            std::mem::replace(&mut inner.state, State::new(self.capacity))
        });
        // Outside the lock: whoever is dropped may look at the line.
        drop(waiting);
        self.arrived.notify_all();
    }

    /// Whether [`close`](Self::close) was called.
    pub fn is_closed(&self) -> bool {
        self.lock(|inner| inner.closed)
    }
}

impl<T> std::fmt::Debug for Queue<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Queue")
            .field("length", &self.len())
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

impl<T> std::fmt::Debug for Ticket<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Ticket")
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "task_tests.rs"]
mod tests;
