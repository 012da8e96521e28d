//! A recorded run, told again: equal to the last bit, and a sample that was changed is named.

use crate::script::{Step, observations, policy};
use tidewright_scaling::decision::Reason;
use tidewright_scaling::record::{Record, Replay, Replayed, differences};
use tidewright_scaling::units::Raw;
use tidewright_scaling::{State, decide};

/// A load that rises, falls, and is not always known.
fn records() -> Vec<Record> {
    let policy = policy(|_| ());
    let mut state = State::default();
    let mut replicas = 1;
    (0..400_u64)
        .map(|tick| {
            let now = crate::script::start().plus_seconds(tick as f64 * 5.0);
            let wave = 40.0 + 35.0 * libm::sin(tick as f64 / 17.0);
            let rate = if tick % 97 == 96 { Ok(f64::NAN) } else { Ok(wave) };
            let step = Step {
                rate,
                queued: Ok(if tick % 50 == 7 { 300.0 } else { 0.0 }),
                ..Step::calm()
            };
            let seen = observations(&step, replicas, now, tick);
            let first = (tick == 0).then(|| (policy.clone(), state.clone()));
            let (decision, next) = decide(&policy, &seen, std::mem::take(&mut state), now);
            state = next;
            replicas = decision.pools[0].to;
            let (policy, state) = first.unzip();
            Record {
                at: now,
                seen,
                decision,
                policy,
                state,
            }
        })
        .collect()
}

/// Through JSON lines, as a ledger keeps them.
fn through_text(records: &[Record]) -> Vec<Record> {
    records
        .iter()
        .map(|record| serde_json::from_str(&serde_json::to_string(record).unwrap()).unwrap())
        .collect()
}

#[test]
fn every_decision_comes_out_again() {
    let records = records();
    let mut replay = Replay::default();
    for record in through_text(&records) {
        assert_eq!(replay.next(&record), Replayed::Equal, "{record:?}");
    }
    let seen: Vec<Reason> = records.iter().map(|record| record.decision.pools[0].reason).collect();
    for reason in [
        Reason::RateSizing,
        Reason::KeepAlive,
        Reason::QueueDrain,
        Reason::FailStatic,
    ] {
        assert!(seen.contains(&reason), "the run must be an eventful one: no {reason:?}");
    }
}

#[test]
fn a_sample_that_was_changed_is_named() {
    let mut records = through_text(&records());
    let Ok(sample) = &mut records[200].seen.signals[0] else {
        panic!("no sample")
    };
    sample.value = Raw(sample.value.0 * 3.0);
    let mut replay = Replay::default();
    let all: Vec<Replayed> = records.iter().map(|record| replay.next(record)).collect();
    assert!(all[..200].iter().all(|one| *one == Replayed::Equal));
    let Replayed::Different(other) = &all[200] else {
        panic!("it must differ")
    };
    let text = differences(&records[200].decision, other).join("\n");
    assert!(text.contains("signal rate"), "{text}");
}

#[test]
fn a_replay_begins_where_there_is_something_to_begin_with() {
    let mut records = records();
    records[0].state = None;
    let mut replay = Replay::default();
    assert_eq!(replay.next(&records[0]), Replayed::Skipped);
    assert_eq!(replay.next(&records[1]), Replayed::Skipped);
}
