//! Properties of the waiting line under random arrivals, departures and pulls: nothing is lost, nothing is answered twice, order within a group
//! is kept, bounds hold, nobody late takes a place.

use std::collections::HashSet;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::batcher::cost::CostTable;

#[derive(Debug, Clone)]
enum Step {
    Push {
        priority: Priority,
        group: u64,
        items: usize,
        patience_millis: u64,
    },
    Cancel {
        nth: usize,
    },
    Pull,
    Advance {
        millis: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0usize..3, 0u64..3, 1usize..5, 1u64..50).prop_map(|(priority, group, items, patience_millis)| {
            Step::Push { priority: Priority::ALL[priority], group, items, patience_millis }
        }),
        1 => (0usize..20).prop_map(|nth| Step::Cancel { nth }),
        3 => Just(Step::Pull),
        2 => (0u64..20).prop_map(|millis| Step::Advance { millis }),
    ]
}

/// Who waits, by our own account.
#[derive(Debug, Clone, Copy)]
struct Known {
    sequence: u64,
    kind: Kind,
    arrived: Instant,
    deadline: Instant,
}

impl Known {
    fn is_impatient(&self, now: Instant) -> bool {
        now >= self.arrived + self.deadline.duration_since(self.arrived) / 2
    }
}

fn run(steps: Vec<Step>, policy: &Policy, capacity: usize) -> Result<(), TestCaseError> {
    let mut state = State::new(capacity);
    let mut now = crate::clock::now();
    let mut waiting: Vec<Known> = Vec::new();
    let mut gone: HashSet<u64> = HashSet::new();
    for step in steps {
        match step {
            Step::Push {
                priority,
                group,
                items,
                patience_millis,
            } => {
                let kind = Kind {
                    priority,
                    group,
                    items: items.min(policy.items_max),
                    size_class: 0,
                    work: Duration::from_millis(items as u64),
                };
                let deadline = now + Duration::from_millis(patience_millis);
                if let Ok(sequence) = state.push(kind, now, deadline, ()) {
                    waiting.push(Known {
                        sequence,
                        kind,
                        arrived: now,
                        deadline,
                    });
                } else {
                    prop_assert_eq!(waiting.len(), capacity);
                }
            }
            Step::Cancel { nth } => {
                if let Some(&Known { sequence, kind, .. }) = waiting.get(nth) {
                    let entry = state.cancel(kind.line(), sequence);
                    prop_assert_eq!(entry.map(|entry| entry.sequence), Some(sequence));
                    prop_assert!(state.cancel(kind.line(), sequence).is_none());
                    waiting.remove(nth);
                    prop_assert!(gone.insert(sequence));
                }
            }
            Step::Advance { millis } => now += Duration::from_millis(millis),
            Step::Pull => {
                let mut late = Vec::new();
                let next = state.next(now, policy, &mut late);
                for entry in late {
                    let is_doomed = policy.is_doomed(now, 0, entry.kind.items, entry.term.due);
                    prop_assert!(entry.term.due <= now || is_doomed);
                    prop_assert!(gone.insert(entry.sequence), "answered twice");
                    waiting.retain(|known| known.sequence != entry.sequence);
                }
                match next {
                    Next::Empty => prop_assert!(waiting.is_empty()),
                    Next::Wait(instant) => {
                        prop_assert!(!policy.latency_max.is_zero(), "greedy never waits");
                        prop_assert!(instant > now);
                        let latest = waiting.iter().map(|known| known.arrived).max().unwrap();
                        prop_assert!(
                            instant <= latest + policy.latency_max,
                            "nobody is held back for longer than allowed"
                        );
                    }
                    Next::Batch(entries) => check_batch(&entries, &mut waiting, &mut gone, now, policy)?,
                }
            }
        }
        prop_assert_eq!(state.len(), waiting.len());
        prop_assert!(state.len() <= capacity);
        prop_assert_eq!(state.is_empty(), waiting.is_empty());
        for priority in Priority::ALL {
            let of_it = waiting.iter().filter(|known| known.kind.priority == priority);
            let work: Duration = of_it.map(|known| known.kind.work).sum();
            prop_assert_eq!(state.work()[priority as usize], work);
        }
    }
    // In the end everything comes out: nothing is lost.
    now += Duration::from_secs(1);
    let mut late = Vec::new();
    while let Next::Batch(entries) = state.next(now, policy, &mut late) {
        late.extend(entries);
    }
    prop_assert_eq!(late.len(), waiting.len());
    prop_assert!(state.is_empty());
    prop_assert!(
        state.lines.is_empty() && state.heads.is_empty(),
        "no empty line is kept"
    );
    Ok(())
}

fn check_batch(
    entries: &[Entry<()>],
    waiting: &mut Vec<Known>,
    gone: &mut HashSet<u64>,
    now: Instant,
    policy: &Policy,
) -> Result<(), TestCaseError> {
    prop_assert!(!entries.is_empty());
    prop_assert!(entries.iter().map(|entry| entry.kind.items).sum::<usize>() <= policy.items_max);
    let first = entries[0].kind;
    prop_assert!(entries.iter().all(|entry| entry.kind.group == first.group));
    prop_assert!(entries.is_sorted_by_key(|entry| (entry.kind.priority, entry.sequence)));
    // Of each line exactly the first, in order.
    for priority in Priority::ALL {
        let line = |kind: &Kind| kind.line() == (priority, first.group);
        let known = waiting
            .iter()
            .filter(|known| line(&known.kind))
            .map(|known| known.sequence);
        let taken = entries
            .iter()
            .filter(|entry| line(&entry.kind))
            .map(|entry| entry.sequence);
        let taken: Vec<u64> = taken.collect();
        prop_assert_eq!(known.take(taken.len()).collect::<Vec<_>>(), taken);
    }
    if policy.latency_max.is_zero() {
        let heads = |known: &&Known| {
            let line = |other: &Known| other.kind.priority == known.kind.priority && other.sequence < known.sequence;
            !waiting.iter().any(line)
        };
        let impatient = waiting.iter().filter(heads).filter(|known| known.is_impatient(now));
        let urgent = waiting.iter().min_by_key(|known| (known.kind.priority, known.sequence));
        let expected = impatient.min_by_key(|known| known.sequence).or(urgent).unwrap();
        prop_assert_eq!(entries[0].sequence, expected.sequence, "whose turn it is");
    }
    for entry in entries {
        prop_assert!(entry.term.due > now, "nobody late takes a place");
        prop_assert!(gone.insert(entry.sequence), "answered twice");
    }
    waiting.retain(|known| !entries.iter().any(|entry| entry.sequence == known.sequence));
    Ok(())
}

/// Prices of runs: a fixed part and one per item, or nothing known.
fn costs(fixed_micros: u64, item_micros: u64) -> Arc<CostTable> {
    let costs = CostTable::default();
    for items in [1, 2, 4, 8] {
        costs.learn(
            0,
            items,
            Duration::from_micros(fixed_micros + item_micros * items as u64),
        );
    }
    Arc::new(costs)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn greedy(steps in proptest::collection::vec(step(), 0..120), items_max in 1usize..9, capacity in 1usize..30) {
        run(steps, &Policy::fixed_delay(items_max, Duration::ZERO), capacity)?;
    }

    #[test]
    fn by_cost(
        steps in proptest::collection::vec(step(), 0..120),
        items_max in 1usize..9,
        latency in 0u64..30,
        fixed in 0u64..20_000,
        item in 1u64..10_000,
    ) {
        let policy = Policy { items_max, latency_max: Duration::from_millis(latency), costs: Some(costs(fixed, item)) };
        run(steps, &policy, 20)?;
    }

    #[test]
    fn waiting_for_company(steps in proptest::collection::vec(step(), 0..120), items_max in 1usize..9, latency in 1u64..30) {
        run(steps, &Policy::fixed_delay(items_max, Duration::from_millis(latency)), 20)?;
    }
}

fn kind(priority: Priority, group: u64) -> Kind {
    Kind {
        priority,
        group,
        items: 1,
        size_class: 0,
        work: Duration::ZERO,
    }
}

fn pull<T: Copy>(state: &mut State<T>, now: Instant, policy: &Policy) -> Vec<T> {
    match state.next(now, policy, &mut Vec::new()) {
        Next::Batch(entries) => entries.iter().map(|entry| entry.payload).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn the_urgent_go_first_others_fill_their_batches_and_nobody_starves() {
    let mut state = State::new(10);
    let now = crate::clock::now();
    let deadline = now + Duration::from_secs(10);
    let policy = Policy::fixed_delay(2, Duration::ZERO);
    state.push(kind(Priority::Low, 1), now, deadline, "low").unwrap();
    state.push(kind(Priority::Normal, 2), now, deadline, "normal").unwrap();
    state.push(kind(Priority::High, 1), now, deadline, "high").unwrap();
    assert_eq!(pull(&mut state, now, &policy), ["high", "low"]);
    let later = now + Duration::from_secs(5);
    state
        .push(
            kind(Priority::High, 3),
            later,
            later + Duration::from_secs(10),
            "late high",
        )
        .unwrap();
    assert_eq!(
        pull(&mut state, later, &policy),
        ["normal"],
        "it has waited for half of its time"
    );
    assert_eq!(pull(&mut state, later, &policy), ["late high"]);
}

#[test]
fn who_cannot_be_done_in_time_is_told_at_once_but_for_one_in_eight() {
    let mut state = State::new(20);
    let now = crate::clock::now();
    let policy = Policy {
        items_max: 1,
        latency_max: Duration::ZERO,
        costs: Some(costs(100_000, 1)),
    };
    for _ in 0..16 {
        state
            .push(kind(Priority::Normal, 1), now, now + Duration::from_millis(50), ())
            .unwrap();
    }
    let (mut run, mut late) = (0, Vec::new());
    while let Next::Batch(_) = state.next(now, &policy, &mut late) {
        run += 1;
    }
    assert_eq!((run, late.len()), (2, 14));
}

#[test]
fn a_full_batch_of_another_group_does_not_wait_for_the_oldest_one() {
    let mut state = State::new(10);
    let now = crate::clock::now();
    let deadline = now + Duration::from_secs(1);
    let policy = Policy::fixed_delay(2, Duration::from_millis(50));
    state.push(kind(Priority::Normal, 1), now, deadline, "waits").unwrap();
    state.push(kind(Priority::Normal, 2), now, deadline, "full").unwrap();
    state.push(kind(Priority::Normal, 2), now, deadline, "full").unwrap();
    let Next::Batch(entries) = state.next(now, &policy, &mut Vec::new()) else {
        panic!("expected a batch")
    };
    assert_eq!(
        entries.iter().map(|entry| entry.payload).collect::<Vec<_>>(),
        ["full", "full"]
    );
    assert!(matches!(state.next(now, &policy, &mut Vec::new()), Next::Wait(_)));
}

/// Due at 100 ms, while its caller waits for ten seconds.
fn short_of_time(now: Instant) -> Term {
    Term {
        due: now + Duration::from_millis(100),
        deadline: now + Duration::from_secs(10),
    }
}

#[test]
fn one_that_is_due_takes_no_place_while_its_caller_still_waits() {
    let now = crate::clock::now();
    let mut state = State::new(10);
    let policy = Policy::fixed_delay(1, Duration::ZERO);
    let mut late = Vec::new();
    state
        .push(kind(Priority::Normal, 1), now, short_of_time(now), "due")
        .unwrap();
    state
        .push(kind(Priority::Normal, 1), now, now + Duration::from_secs(10), "waits")
        .unwrap();
    let Next::Batch(batch) = state.next(now + Duration::from_millis(101), &policy, &mut late) else {
        panic!("nothing to run");
    };
    assert_eq!((batch[0].payload, late[0].payload), ("waits", "due"));
}

#[test]
fn patience_is_half_of_the_callers_time_and_not_of_the_objective() {
    let now = crate::clock::now();
    let mut state = State::new(10);
    let policy = Policy::fixed_delay(1, Duration::ZERO);
    state
        .push(kind(Priority::Normal, 1), now, short_of_time(now), "first")
        .unwrap();
    let later = now + Duration::from_millis(60);
    state
        .push(kind(Priority::High, 2), later, short_of_time(later), "urgent")
        .unwrap();
    let Next::Batch(batch) = state.next(later, &policy, &mut Vec::new()) else {
        panic!("nothing to run");
    };
    assert_eq!(
        batch[0].payload, "urgent",
        "the first has waited for more than half of its 100 ms"
    );
}
