//! What each kind of signal asks for, and a forecast: one decision each, worked out by hand.

use crate::script::{Step, observations, policy, start};
use tidewright_scaling::decision::{PoolDecision, Reason};
use tidewright_scaling::explanation::sentence;
use tidewright_scaling::observation::{Absence, Observations, Reading, Sample};
use tidewright_scaling::policy::{Draft, Signal, SignalKind};
use tidewright_scaling::units::Raw;
use tidewright_scaling::{Policy, State, decide};

/// A policy with these signals alone. Nothing is held back because the service is new.
fn signals(kinds: &[(&str, SignalKind)]) -> Policy {
    policy(|draft: &mut Draft| {
        draft.signals = kinds
            .iter()
            .map(|(name, kind)| Signal {
                name: (*name).to_owned(),
                kind: kind.clone(),
                stale_after_seconds: 45.0,
            })
            .collect();
        draft.tuning.relearn_seconds = 0.0;
        draft.tuning.settle_starts = 0.0;
    })
}

fn utilization(target: f64) -> SignalKind {
    SignalKind::Utilization { pool: 0, target }
}

/// So many ready replicas, and fresh numbers from all targets.
fn seen(ready: u32, values: &[f64]) -> Observations {
    let fresh = |value: &f64| -> Reading {
        Ok(Sample {
            value: Raw(*value),
            at: start(),
            window_seconds: 0.0,
            targets_up: 1,
            targets_all: 1,
            targets_covered: None,
        })
    };
    let mut seen = observations(&Step::calm(), ready, start(), 0);
    seen.signals = values.iter().map(fresh).collect();
    seen
}

/// The first decision, with its sentence.
fn decided(policy: &Policy, seen: &Observations) -> (PoolDecision, String) {
    let (decision, _) = decide(policy, seen, State::default(), start());
    let text = sentence(&decision, &decision.pools[0]);
    (decision.pools[0].clone(), text)
}

#[test]
fn requests_in_work_ask_for_slots_at_the_utilization() {
    let policy = signals(&[("in-flight", SignalKind::InFlight { utilization: 0.5 })]);
    // Four slots of which two should be busy: two requests per replica.
    for (in_flight, expected) in [(16.0, 8), (17.0, 9), (2.0, 1), (0.0, 1), (1000.0, 20)] {
        let (pool, text) = decided(&policy, &seen(1, &[in_flight]));
        assert_eq!(pool.to, expected, "{in_flight}: {text}");
    }
    let (pool, text) = decided(&policy, &seen(1, &[16.0]));
    assert_eq!(pool.reason, Reason::Concurrency);
    assert_eq!(text, "8 cpu: 16 in flight needs 8");
}

/// What waits will be in work as soon as there is room.
#[test]
fn requests_that_wait_count_with_those_in_work() {
    let policy = signals(&[
        ("queue", SignalKind::Queued),
        ("in-flight", SignalKind::InFlight { utilization: 0.5 }),
    ]);
    let (pool, _) = decided(&policy, &seen(4, &[4.0, 12.0]));
    assert_eq!((pool.to, pool.reason), (8, Reason::Concurrency), "{pool:?}");
}

#[test]
fn a_utilization_is_brought_to_its_target() {
    for name in ["cpu", "memory", "gpu"] {
        let policy = signals(&[(name, utilization(0.5))]);
        for (value, ready, expected) in [
            (0.75, 4, 6),
            // Within a tenth of the target, it is there.
            (0.54, 4, 4),
            (0.46, 4, 4),
            (0.56, 4, 5),
            (2.0, 4, 16),
            (0.0, 4, 0),
            (0.25, 4, 2),
        ] {
            let (pool, text) = decided(&policy, &seen(ready, &[value]));
            assert_eq!(pool.proposals[0].replicas, expected, "{name} {value}: {text}");
            assert_eq!(pool.proposals[0].reason, Reason::UtilizationGuard);
        }
    }
}

/// 77 of 70 is a tenth more, and 1.1 in floats is not.
#[test]
fn a_tenth_more_or_less_is_within_the_tolerance() {
    for percent in [20.0, 30.0, 50.0, 70.0, 90.0] {
        let policy = signals(&[("cpu", utilization(percent / 100.0))]);
        for tenths in [9.0, 11.0] {
            let value: f64 = percent * tenths / 1000.0;
            let (pool, text) = decided(&policy, &seen(10, &[value]));
            assert_eq!(pool.proposals[0].replicas, 10, "{value} of {percent} %: {text}");
        }
    }
}

/// As the HorizontalPodAutoscaler has an AverageValue of a resource: with the tolerance, and told as an amount.
#[test]
fn a_mean_amount_is_brought_to_its_target() {
    let policy = signals(&[("memory", SignalKind::MeanUse { pool: 0, target: 200e6 })]);
    for (value, ready, expected) in [
        (300e6, 4, 6),
        (216e6, 4, 4),
        (184e6, 4, 4),
        (100e6, 4, 2),
        (224e6, 4, 5),
    ] {
        let (pool, text) = decided(&policy, &seen(ready, &[value]));
        assert_eq!(pool.proposals[0].replicas, expected, "{value}: {text}");
    }
    let (pool, text) = decided(&policy, &seen(4, &[300e6]));
    assert_eq!(pool.reason, Reason::PerReplica);
    assert_eq!(text, "6 cpu: memory 300000000 needs 6");
}

/// A part of the replicas makes a pool grow by no more than all of them would if the others were idle, and never shrinks it.
#[test]
fn a_guard_over_a_part_grows_by_what_it_knows_and_shrinks_nothing() {
    let policy = signals(&[("cpu", utilization(0.5))]);
    let part = |value: f64, up: u32| {
        let mut seen = seen(4, &[value]);
        if let Ok(sample) = &mut seen.signals[0] {
            (sample.targets_up, sample.targets_all) = (up, 4);
        }
        decided(&policy, &seen).0
    };
    // Three of four at twice the target are six replicas' worth of work.
    assert_eq!(part(1.0, 3).to, 6);
    assert_eq!(part(1.0, 4).to, 8);
    // New ones that say nothing yet are no reason to grow again.
    assert_eq!(part(1.0, 2).to, 4);
    assert_eq!((part(0.1, 3).to, part(0.1, 3).reason), (4, Reason::FailStatic));
    // Too few speak for all.
    assert_eq!((part(2.0, 1).to, part(2.0, 1).reason), (4, Reason::FailStatic));
}

#[test]
fn of_several_guards_the_neediest_counts_and_is_named() {
    let policy = signals(&[
        ("rate", SignalKind::ArrivalRate),
        ("cpu", utilization(0.5)),
        ("memory", utilization(0.8)),
        ("gpu", utilization(0.6)),
    ]);
    let (pool, text) = decided(&policy, &seen(4, &[1.0, 0.4, 1.0, 0.9]));
    let asked: Vec<u32> = pool.proposals.iter().map(|proposal| proposal.replicas).collect();
    assert_eq!(asked, [1, 4, 5, 6], "{text}");
    assert_eq!((pool.to, pool.reason), (6, Reason::UtilizationGuard));
    assert_eq!(text, "6 cpu: gpu at 90 % needs 6");
}

/// A share of nothing says nothing: without a ready replica a guard neither asks for one nor gives one up.
#[test]
fn a_utilization_needs_a_replica_to_speak_of() {
    let policy = signals(&[("cpu", utilization(0.5))]);
    let mut starting = seen(3, &[5.0]);
    for pod in &mut starting.pools[0].pods {
        pod.phase = tidewright_scaling::observation::Phase::Starting;
        pod.created_at = start();
        pod.ready_at = None;
    }
    let (pool, text) = decided(&policy, &starting);
    assert_eq!((pool.proposals[0].replicas, pool.to), (0, 3), "{text}");
}

#[test]
fn an_amount_is_shared_out() {
    let policy = signals(&[(
        "tokens",
        SignalKind::PerReplica {
            pool: 0,
            target: 1000.0,
        },
    )]);
    for (value, expected) in [(3500.0, 4), (4000.0, 4), (4001.0, 5), (0.0, 1), (19_999.0, 20)] {
        let (pool, text) = decided(&policy, &seen(1, &[value]));
        assert_eq!(pool.to, expected, "{value}: {text}");
    }
    let (pool, text) = decided(&policy, &seen(1, &[3500.0]));
    assert_eq!(pool.reason, Reason::PerReplica);
    assert_eq!(text, "4 cpu: tokens 3500 needs 4");
    // How many there are does not matter to it.
    assert_eq!(decided(&policy, &seen(7, &[3500.0])).0.proposals[0].replicas, 4);
}

/// Each kind is judged as a rate is: a missing guard shrinks nothing, whatever the others say.
#[test]
fn a_missing_guard_shrinks_nothing() {
    let kinds = [
        ("in-flight", SignalKind::InFlight { utilization: 0.5 }),
        ("gpu", utilization(0.5)),
        ("tokens", SignalKind::PerReplica { pool: 0, target: 10.0 }),
    ];
    let policy = signals(&kinds);
    let all = seen(6, &[0.0, 0.0, 0.0]);
    let (free, _) = decided(&policy, &all);
    assert!(free.to < 6, "with all of them it shrinks: {free:?}");
    for (index, (name, _)) in kinds.iter().enumerate() {
        let mut missing = all.clone();
        missing.signals[index] = Err(Absence::SeriesMissing);
        let (pool, text) = decided(&policy, &missing);
        assert_eq!((pool.to, pool.reason), (6, Reason::FailStatic));
        assert!(text.contains(&format!("held: {name} SeriesMissing")), "{text}");
    }
}

#[test]
fn a_forecast_is_a_floor_and_never_more() {
    let policy = signals(&[("tokens", SignalKind::PerReplica { pool: 0, target: 10.0 })]);
    let with = |forecast: u32, value: f64, ready: u32| {
        let seen = Observations {
            forecast: vec![forecast],
            ..seen(ready, &[value])
        };
        decided(&policy, &seen)
    };
    let (pool, text) = with(7, 20.0, 1);
    assert_eq!((pool.to, pool.reason), (7, Reason::ForecastFloor));
    assert_eq!(text, "7 cpu: forecast 7");
    assert_eq!(with(7, 90.0, 1).0.to, 9, "what is measured counts where it is more");
    assert_eq!(with(50, 20.0, 1).0.to, 20, "the maximum is the user's");
    // Less than what is needed is no reason to shrink, and none is no proposal.
    assert_eq!(with(2, 60.0, 6).0.to, 6);
    assert_eq!(with(0, 60.0, 6).0.proposals.len(), 1);
    // It holds up what the load alone would let go.
    assert!(with(0, 10.0, 6).0.to < 5);
    assert_eq!(with(5, 10.0, 6).0.to, 5);
}

/// A forecast does not depend on the signals: it still lifts what nobody sees, and it does not stand in for them.
#[test]
fn a_forecast_lifts_a_blind_service_and_does_not_lower_it() {
    let policy = signals(&[("rate", SignalKind::ArrivalRate)]);
    let blind = |forecast: u32| {
        let mut seen = seen(4, &[]);
        seen.signals = vec![Err(Absence::QueryFailed)];
        seen.forecast = vec![forecast];
        decided(&policy, &seen).0
    };
    assert_eq!(blind(7).to, 7);
    assert_eq!((blind(2).to, blind(2).reason), (4, Reason::FailStatic));
}
