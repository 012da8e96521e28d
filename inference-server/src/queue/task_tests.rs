//! The shared line under threads: nothing lost, nothing twice, nobody woken for nothing.

use std::sync::atomic::AtomicI64;
use std::time::Duration;

use super::*;
use crate::request::Priority;

fn part<T>(group: u64, payload: T) -> Part<T> {
    let kind = Kind {
        priority: Priority::Normal,
        group,
        items: 1,
        size_class: 0,
        work: Duration::ZERO,
    };
    Part { kind, payload }
}

#[test]
fn what_waits_in_an_abandoned_line_is_dropped_and_workers_end() {
    let depth = Arc::new(AtomicI64::new(0));
    let counted = Arc::clone(&depth);
    let policy = Policy::fixed_delay(4, Duration::ZERO);
    let queue = Queue::new(
        8,
        policy,
        Box::new(move |change| {
            counted.fetch_add(change, Ordering::Relaxed);
        }),
    );
    let payload = Arc::new(());
    let part = part(1, Arc::clone(&payload));
    let tickets = queue.push_all(vec![part], clock::now() + Duration::from_secs(60));
    assert_eq!(Arc::strong_count(&payload), 2);
    queue.abandon();
    assert_eq!(Arc::strong_count(&payload), 1, "whoever waited is told by the drop");
    assert_eq!(depth.load(Ordering::Relaxed), 0);
    assert!(queue.pull(&mut 0).is_none() && queue.is_closed());
    drop(tickets);
}

#[test]
fn under_many_threads_each_entry_is_pulled_once_or_cancelled_and_the_depth_returns_to_zero() {
    static DEPTH: AtomicI64 = AtomicI64::new(0);
    let policy = Policy::fixed_delay(4, Duration::from_micros(200));
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
                    while let Some(pulled) = queue.pull(&mut 0) {
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
                        let deadline = clock::now() + Duration::from_mins(1);
                        let ticket = loop {
                            match queue.push_all(vec![part(number % 3, caller * 1000 + number)], deadline) {
                                Ok(mut tickets) => break tickets.remove(0),
                                Err(_) => std::thread::yield_now(),
                            }
                        };
                        if number % 7 == 0 {
                            let (line, sequence) = (ticket.kind.line(), ticket.sequence);
                            let taken_out = queue.lock(|inner| inner.state.cancel(line, sequence)).is_some();
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
fn a_priority_is_remembered_for_five_minutes_after_the_last_request_that_had_one() {
    let queue: Arc<Queue<()>> = Queue::new(3, Policy::fixed_delay(1, Duration::ZERO), Box::new(|_| {}));
    assert!(!queue.is_ranked(1_000_000));
    for seen in [1_000_000, 1_200_000] {
        queue.saw_rank(seen);
        assert!(queue.is_ranked(seen));
        assert!(queue.is_ranked(seen + 299_999));
        assert!(!queue.is_ranked(seen + 300_000));
    }
}

#[test]
fn all_parts_or_none() {
    let policy = Policy::fixed_delay(1, Duration::ZERO);
    let queue = Queue::new(3, policy, Box::new(|_| {}));
    let deadline = clock::now() + Duration::from_mins(1);
    let parts = |count: usize| (0..count).map(|_| part(0, ())).collect::<Vec<_>>();
    let kept = queue.push_all(parts(2), deadline).unwrap();
    assert_eq!(queue.push_all(parts(2), deadline).unwrap_err(), Refused::Full);
    assert_eq!(queue.len(), 2);
    drop(kept);
    assert_eq!(queue.len(), 0);
    queue.close();
    assert_eq!(queue.push_all(parts(1), deadline).unwrap_err(), Refused::Closed);
    assert!(queue.pull(&mut 0).is_none());
}

#[test]
fn only_sleepers_are_woken_and_each_once() {
    let mut inner = Inner {
        state: State::<()>::new(8),
        closed: false,
        checks: 0,
        asleep: 0,
        woken: 0,
    };
    assert_eq!(inner.wakes(3), 0, "nobody sleeps");
    inner.asleep = 2;
    assert_eq!(
        [inner.wakes(1), inner.wakes(1), inner.wakes(1)],
        [1, 1, 0],
        "both are on their way"
    );
    inner.is_awake();
    assert_eq!(inner.wakes(1), 0, "the other is still on its way");
    inner.is_awake();
    inner.asleep += 1;
    assert_eq!(inner.wakes(5), 1, "it sleeps again");
    // One that comes back by itself takes the wake of another off the count: that one may be woken twice, never not at all.
    inner.asleep = 2;
    inner.is_awake();
    assert_eq!(inner.wakes(1), 1);
}
