//! One thing told by two sources, such as Prometheus and the servers themselves: each is a signal. The larger makes a pool grow; it takes both to
//! shrink it.

use crate::script::{Step, observations, policy, start};
use proptest::collection::vec;
use proptest::prelude::*;
use tidewright_scaling::decision::Decision;
use tidewright_scaling::observation::{Absence, Observations, Reading, Sample};
use tidewright_scaling::policy::{Signal, SignalKind};
use tidewright_scaling::units::{Moment, Raw};
use tidewright_scaling::{Policy, State, decide};

/// The rate twice, as `kinds` say; nothing is held because it is new, or was needed before.
fn twice(kinds: [SignalKind; 2]) -> Policy {
    policy(|draft| {
        let names = ["rate", "rate_direct"];
        draft.signals = std::iter::zip(names, kinds)
            .map(|(name, kind)| Signal {
                name: name.to_owned(),
                kind,
                stale_after_seconds: 45.0,
            })
            .collect();
        draft.tuning.relearn_seconds = 0.0;
        draft.tuning.settle_starts = 0.0;
        draft.tuning.keep_seconds_min = 0.0;
        draft.tuning.keep_seconds_max = 0.0;
        draft.tuning.keep_seconds_prior = 0.0;
        draft.tuning.slow_window_seconds = 5.0;
        draft.tuning.slow_window_slacks = 0.0;
    })
}

fn sized() -> Policy {
    twice([SignalKind::ArrivalRate, SignalKind::ArrivalRate])
}

fn shared() -> Policy {
    let (pool, target) = (0, 10.0);
    twice([
        SignalKind::PerReplica { pool, target },
        SignalKind::ArrivalsPerReplica { pool, target },
    ])
}

/// So much per second, from so many of three targets; or nothing.
type Told = Option<(f64, u32)>;

fn reading(told: Told, now: Moment, window_seconds: f64) -> Reading {
    let (value, targets_up) = told.ok_or(Absence::QueryFailed)?;
    Ok(Sample {
        value: Raw(value),
        at: now,
        window_seconds,
        targets_up,
        targets_all: 3,
        targets_covered: Some(targets_up),
    })
}

/// One second after the other; whoever scales obeys. Each with what there was before.
fn run(policy: &Policy, replicas: u32, script: &[(Told, Told)]) -> Vec<(u32, Decision)> {
    let (mut state, mut replicas) = (State::default(), replicas);
    let mut all = Vec::new();
    for (tick, (slow, fast)) in script.iter().enumerate() {
        let now = start().plus_seconds(tick as f64);
        let seen = Observations {
            signals: vec![reading(*slow, now, 30.0), reading(*fast, now, 2.0)],
            ..observations(&Step::calm(), replicas, now, tick as u64)
        };
        let (decision, next) = decide(policy, &seen, std::mem::take(&mut state), now);
        state = next;
        let before = std::mem::replace(&mut replicas, decision.pools[0].to);
        all.push((before, decision));
    }
    all
}

fn last(policy: &Policy, script: &[(Told, Told)]) -> u32 {
    run(policy, 8, script).last().unwrap().1.pools[0].to
}

#[test]
fn it_takes_both_to_shrink_and_one_to_grow() {
    for policy in [sized(), shared()] {
        let of = |slow: Told, fast: Told| last(&policy, &vec![(slow, fast); 90]);
        let (low, high) = (Some((5.0, 3)), Some((150.0, 3)));
        assert!(of(low, low) < 8, "both agree");
        assert!(of(low, high) > 8 && of(high, low) > 8, "the larger counts");
        assert_eq!((of(low, None), of(None, low), of(None, None)), (8, 8, 8));
        assert_eq!(of(low, Some((5.0, 2))), 8, "a pod that does not answer");
        assert!(
            of(None, high) > 8 && of(low, Some((150.0, 2))) > 8,
            "it may grow all the same"
        );
    }
}

#[test]
fn a_rise_counts_at_once_and_noise_does_not() {
    let steady = |count| vec![(Some((38.0, 3)), Some((38.0, 3))); count];
    let then = |fast: f64| {
        let mut script = steady(20);
        script.push((Some((38.0, 3)), Some((fast, 3))));
        run(&shared(), 4, &script).last().unwrap().1.pools[0].to
    };
    // 38 a second are 76 in two seconds, give or take nine: 44 may be chance, and 88 is not.
    assert_eq!((then(44.0), then(88.0)), (4, 9));
}

fn told() -> impl Strategy<Value = Told> {
    prop_oneof![
        6 => (0.0..200.0_f64).prop_map(|value| Some((value, 3))),
        4 => Just(Some((0.0, 3))),
        1 => (0.0..200.0_f64, 0_u32..3).prop_map(Some),
        1 => Just(None),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Guard: that each source is a signal of its own, of which every one must be whole (`FailStatic`), and the largest proposal wins.
    #[test]
    fn never_down_while_one_of_two_is_missing_or_disagrees(script in vec((told(), told()), 1..120), is_sized: bool) {
        let policy = if is_sized { sized() } else { shared() };
        for ((slow, fast), (before, decision)) in script.iter().zip(run(&policy, 8, &script)) {
            let pool = &decision.pools[0];
            let is_whole = |told: &Told| told.is_some_and(|(_, up)| up == 3);
            if !is_whole(slow) || !is_whole(fast) {
                prop_assert!(pool.to >= before, "{slow:?} {fast:?}: {pool:?}");
            }
            let asked = pool.proposals.iter().map(|proposal| proposal.replicas).max().unwrap_or(0);
            if asked >= before {
                prop_assert!(pool.to >= before.min(20), "one of them needs them all: {pool:?}");
            }
        }
    }
}
