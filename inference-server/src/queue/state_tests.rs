//! Properties of the waiting line under random arrivals, departures and pulls: nothing is lost, nothing is answered twice, order within a group
//! is kept, bounds hold, nobody late takes a place.

use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Push {
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
        4 => (0u64..3, 1usize..5, 1u64..50).prop_map(|(group, items, patience_millis)| Step::Push { group, items, patience_millis }),
        1 => (0usize..20).prop_map(|nth| Step::Cancel { nth }),
        3 => Just(Step::Pull),
        2 => (0u64..20).prop_map(|millis| Step::Advance { millis }),
    ]
}

fn run(steps: Vec<Step>, policy: Policy, capacity: usize) -> Result<(), TestCaseError> {
    let mut state = State::new(capacity);
    let mut now = crate::clock::now();
    // Sequence, group, items, arrival, deadline of everyone who waits, by our own account.
    let mut waiting: Vec<(u64, u64, usize, Instant, Instant)> = Vec::new();
    let mut gone: HashSet<u64> = HashSet::new();
    for step in steps {
        match step {
            Step::Push {
                group,
                items,
                patience_millis,
            } => {
                let items = items.min(policy.items_max);
                let deadline = now + Duration::from_millis(patience_millis);
                if let Ok(sequence) = state.push(group, items, now, deadline, ()) {
                    waiting.push((sequence, group, items, now, deadline));
                } else {
                    prop_assert_eq!(waiting.len(), capacity);
                }
            }
            Step::Cancel { nth } => {
                if let Some(&(sequence, group, ..)) = waiting.get(nth) {
                    let entry = state.cancel(group, sequence);
                    prop_assert_eq!(entry.map(|entry| entry.sequence), Some(sequence));
                    prop_assert!(state.cancel(group, sequence).is_none());
                    waiting.remove(nth);
                    prop_assert!(gone.insert(sequence));
                }
            }
            Step::Advance { millis } => now += Duration::from_millis(millis),
            Step::Pull => {
                let mut late = Vec::new();
                let next = state.next(now, &policy, &mut late);
                for entry in late {
                    prop_assert!(entry.deadline <= now);
                    prop_assert!(gone.insert(entry.sequence), "answered twice");
                    waiting.retain(|(sequence, ..)| *sequence != entry.sequence);
                }
                match next {
                    Next::Empty => prop_assert!(waiting.is_empty()),
                    Next::Wait(instant) => {
                        prop_assert!(!policy.latency_max.is_zero(), "greedy never waits");
                        prop_assert!(instant > now);
                        let oldest = waiting.iter().map(|(_, _, _, arrived, _)| *arrived).min().unwrap();
                        prop_assert!(
                            instant <= oldest + policy.latency_max,
                            "nobody is held back for longer than allowed"
                        );
                    }
                    Next::Batch(entries) => {
                        prop_assert!(!entries.is_empty());
                        prop_assert!(entries.iter().map(|entry| entry.items).sum::<usize>() <= policy.items_max);
                        let group = entries[0].group;
                        // Exactly the first of their group, in order.
                        let of_group: Vec<u64> = waiting
                            .iter()
                            .filter(|(_, other, ..)| *other == group)
                            .map(|(sequence, ..)| *sequence)
                            .collect();
                        let taken: Vec<u64> = entries.iter().map(|entry| entry.sequence).collect();
                        prop_assert_eq!(&of_group[..taken.len()], &taken[..]);
                        if policy.latency_max.is_zero() {
                            prop_assert_eq!(taken[0], waiting[0].0, "the oldest of all goes first");
                        }
                        for entry in &entries {
                            prop_assert!(entry.deadline > now, "nobody late takes a place");
                            prop_assert!(gone.insert(entry.sequence), "answered twice");
                        }
                        waiting.retain(|(sequence, ..)| !taken.contains(sequence));
                    }
                }
            }
        }
        prop_assert_eq!(state.len(), waiting.len());
        prop_assert!(state.len() <= capacity);
        prop_assert_eq!(state.is_empty(), waiting.is_empty());
    }
    // In the end everything comes out: nothing is lost.
    now += Duration::from_secs(1);
    let mut late = Vec::new();
    while let Next::Batch(entries) = state.next(now, &policy, &mut late) {
        late.extend(entries);
    }
    prop_assert_eq!(late.len(), waiting.len());
    prop_assert!(state.is_empty());
    prop_assert!(
        state.groups.is_empty() && state.heads.is_empty(),
        "no empty group is kept"
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn greedy(steps in proptest::collection::vec(step(), 0..120), items_max in 1usize..9, capacity in 1usize..30) {
        run(steps, Policy { items_max, latency_max: Duration::ZERO }, capacity)?;
    }

    #[test]
    fn waiting_for_company(steps in proptest::collection::vec(step(), 0..120), items_max in 1usize..9, latency in 1u64..30) {
        run(steps, Policy { items_max, latency_max: Duration::from_millis(latency) }, 20)?;
    }
}

#[test]
fn a_full_batch_of_another_group_does_not_wait_for_the_oldest_one() {
    let mut state = State::new(10);
    let now = crate::clock::now();
    let deadline = now + Duration::from_secs(1);
    let policy = Policy {
        items_max: 2,
        latency_max: Duration::from_millis(50),
    };
    state.push(1, 1, now, deadline, "waits").unwrap();
    state.push(2, 1, now, deadline, "full").unwrap();
    state.push(2, 1, now, deadline, "full").unwrap();
    let Next::Batch(entries) = state.next(now, &policy, &mut Vec::new()) else {
        panic!("expected a batch")
    };
    assert_eq!(
        entries.iter().map(|entry| entry.payload).collect::<Vec<_>>(),
        ["full", "full"]
    );
    assert!(matches!(state.next(now, &policy, &mut Vec::new()), Next::Wait(_)));
}
