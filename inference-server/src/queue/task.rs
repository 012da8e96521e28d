//! The thin shell round the waiting line: a lock, a signal for free workers, and a ticket by which a caller who leaves gives up its place.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::state::{Entry, Next, State};
use crate::batcher::policy::Policy;
use crate::clock;

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
    depth: Depth,
}

struct Inner<T> {
    state: State<T>,
    closed: bool,
}

/// Why nothing was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    Full,
    Closed,
}

/// What a worker gets: entries to run, and entries that are too late and only want an answer. One of the two may be empty.
#[derive(Debug)]
pub struct Pulled<T> {
    pub batch: Vec<Entry<T>>,
    pub late: Vec<Entry<T>>,
}

/// One part of a request to be added.
#[derive(Debug)]
pub struct Part<T> {
    pub group: u64,
    pub items: usize,
    pub payload: T,
}

/// A place in the line; dropping it gives the place up.
#[must_use = "dropping the ticket gives the place up"]
pub struct Ticket<T> {
    queue: Arc<Queue<T>>,
    group: u64,
    sequence: u64,
}

impl<T> Drop for Ticket<T> {
    fn drop(&mut self) {
        let entry = self.queue.lock(|inner| inner.state.cancel(self.group, self.sequence));
        // The payload may be large: it is dropped after the lock.
        drop(entry);
    }
}

impl<T> Queue<T> {
    /// An open, empty line. `depth` is told changes of the length relative to before.
    pub fn new(capacity: usize, policy: Policy, depth: Depth) -> Arc<Self> {
        let inner = Inner {
            state: State::new(capacity),
            closed: false,
        };
        Arc::new(Self {
            inner: Mutex::new(inner),
            arrived: Condvar::new(),
            policy,
            length: AtomicUsize::new(0),
            capacity,
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

    /// The batching policy.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// Adds all parts or none.
    pub fn push_all(self: &Arc<Self>, parts: Vec<Part<T>>, deadline: Instant) -> Result<Vec<Ticket<T>>, Refused> {
        let now = clock::now();
        let count = parts.len();
        let sequences = self.lock(|inner| {
            if inner.closed {
                return Err(Refused::Closed);
            }
            if !inner.state.has_room(count) {
                return Err(Refused::Full);
            }
            let push = |part: Part<T>| {
                let sequence = inner.state.push(part.group, part.items, now, deadline, part.payload);
                sequence
                    .map(|sequence| (part.group, sequence))
                    .map_err(|_| Refused::Full)
            };
            parts.into_iter().map(push).collect::<Result<Vec<_>, _>>()
        })?;
        if count == 1 {
            self.arrived.notify_one();
        } else {
            self.arrived.notify_all();
        }
        Ok(sequences
            .into_iter()
            .map(|(group, sequence)| Ticket {
                queue: Arc::clone(self),
                group,
                sequence,
            })
            .collect())
    }

    /// Blocks a worker until there is something to do; `None` when the line is closed and empty.
    pub fn pull(&self) -> Option<Pulled<T>> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let now = clock::now();
            let mut late = Vec::new();
            let next = inner.state.next(now, &self.policy, &mut late);
            self.publish(&inner);
            match next {
                Next::Batch(batch) => {
                    // What is left may be enough for another worker.
                    if !inner.state.is_empty() {
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
                    inner = self
                        .arrived
                        .wait_timeout(inner, pause)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0;
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
                Next::Empty => inner = self.arrived.wait(inner).unwrap_or_else(PoisonError::into_inner),
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
mod tests {
    use std::sync::atomic::AtomicI64;
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_waits_in_an_abandoned_line_is_dropped_and_workers_end() {
        let depth = Arc::new(AtomicI64::new(0));
        let counted = Arc::clone(&depth);
        let policy = Policy {
            items_max: 4,
            latency_max: Duration::ZERO,
        };
        let queue = Queue::new(
            8,
            policy,
            Box::new(move |change| {
                counted.fetch_add(change, Ordering::Relaxed);
            }),
        );
        let payload = Arc::new(());
        let part = Part {
            group: 1,
            items: 1,
            payload: Arc::clone(&payload),
        };
        let tickets = queue.push_all(vec![part], clock::now() + Duration::from_secs(60));
        assert_eq!(Arc::strong_count(&payload), 2);
        queue.abandon();
        assert_eq!(Arc::strong_count(&payload), 1, "whoever waited is told by the drop");
        assert_eq!(depth.load(Ordering::Relaxed), 0);
        assert!(queue.pull().is_none() && queue.is_closed());
        drop(tickets);
    }

    #[test]
    fn under_many_threads_each_entry_is_pulled_once_or_cancelled_and_the_depth_returns_to_zero() {
        static DEPTH: AtomicI64 = AtomicI64::new(0);
        let policy = Policy {
            items_max: 4,
            latency_max: Duration::from_micros(200),
        };
        let queue = Queue::new(
            64,
            policy,
            Box::new(|change| {
                DEPTH.fetch_add(change, Ordering::Relaxed);
            }),
        );
        let pulled = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        let mut seen = Vec::new();
                        while let Some(pulled) = queue.pull() {
                            seen.extend(pulled.batch.into_iter().map(|entry| entry.payload));
                        }
                        seen
                    })
                })
                .collect();
            let callers: Vec<_> = (0..4u64)
                .map(|caller| {
                    let queue = &queue;
                    scope.spawn(move || {
                        let mut cancelled = 0u64;
                        for number in 0..500u64 {
                            let part = Part {
                                group: number % 3,
                                items: 1,
                                payload: caller * 1000 + number,
                            };
                            let deadline = clock::now() + Duration::from_mins(1);
                            let ticket = loop {
                                let again = Part {
                                    group: part.group,
                                    items: 1,
                                    payload: part.payload,
                                };
                                match queue.push_all(vec![again], deadline) {
                                    Ok(mut tickets) => break tickets.remove(0),
                                    Err(_) => std::thread::yield_now(),
                                }
                            };
                            if number % 7 == 0 {
                                let (group, sequence) = (ticket.group, ticket.sequence);
                                let taken_out = queue.lock(|inner| inner.state.cancel(group, sequence)).is_some();
                                cancelled += u64::from(taken_out);
                            }
                            std::mem::forget(ticket);
                        }
                        cancelled
                    })
                })
                .collect();
            let cancelled: u64 = callers.into_iter().map(|caller| caller.join().unwrap()).sum();
            queue.close();
            let mut all: Vec<u64> = workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect();
            let count = all.len() as u64;
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len() as u64, count, "pulled twice");
            count + cancelled
        });
        assert_eq!(pulled, 4 * 500);
        assert_eq!(DEPTH.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn all_parts_or_none() {
        let policy = Policy {
            items_max: 1,
            latency_max: Duration::ZERO,
        };
        let queue = Queue::new(3, policy, Box::new(|_| {}));
        let deadline = clock::now() + Duration::from_mins(1);
        let parts = |count: usize| {
            (0..count)
                .map(|_| Part {
                    group: 0,
                    items: 1,
                    payload: (),
                })
                .collect::<Vec<_>>()
        };
        let kept = queue.push_all(parts(2), deadline).unwrap();
        assert_eq!(queue.push_all(parts(2), deadline).unwrap_err(), Refused::Full);
        assert_eq!(queue.len(), 2);
        drop(kept);
        assert_eq!(queue.len(), 0);
        queue.close();
        assert_eq!(queue.push_all(parts(1), deadline).unwrap_err(), Refused::Closed);
        assert!(queue.pull().is_none());
    }
}
