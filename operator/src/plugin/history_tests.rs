//! Recorded decisions, executed again: as they were, with a sample changed, with other numbers, with another policy.

use tidewright_scaling::observation::PoolView;
use tidewright_scaling::policy::{Balancing, Draft, Fallback, Objective, Pool, Signal, Tuning, default_down_limits};

use super::*;

fn of_rate(rate: f64) -> Given {
    Given {
        rate: Some(rate),
        ..Given::default()
    }
}

fn of_queue(queue: f64) -> Given {
    Given {
        queue: Some(queue),
        ..Given::default()
    }
}

fn draft() -> Draft {
    let pool = Pool {
        name: "cpu".to_owned(),
        replicas_min: 1,
        replicas_max: 20,
        slots: 1,
        cost: 1.0,
        service_seconds_prior: 0.02,
        start_seconds_prior: 10.0,
    };
    let signal = |name: &str, kind| Signal {
        name: name.to_owned(),
        kind,
        stale_after_seconds: 30.0,
    };
    Draft {
        pools: vec![pool],
        signals: vec![
            signal("rate", SignalKind::ArrivalRate),
            signal("queue", SignalKind::Queued),
        ],
        objective: Objective {
            latency_seconds: 0.2,
            late_share: 0.05,
        },
        balancing: Balancing::Random,
        fallback: Fallback::default(),
        up_limits: Vec::new(),
        down_limits: default_down_limits(),
        tuning: Tuning::default(),
    }
}

/// A spec without schedules.
fn spec(draft: Draft) -> Other {
    Other::new(draft.check().unwrap(), Vec::new())
}

fn at(second: u64) -> Moment {
    Moment::from_millis(1_800_000_000_000 + second * 1000)
}

/// Fifteen minutes of a load that doubles in the middle.
fn records() -> Vec<Record> {
    let policy = draft().check().unwrap();
    let (mut state, mut replicas) = (State::default(), 1);
    let record = |second: u64| {
        let sample = |value: f64| {
            Ok(Sample {
                value: Raw(value),
                at: at(second),
                window_seconds: 30.0,
                targets_up: 1,
                targets_all: 1,
                targets_covered: Some(1),
            })
        };
        let rate = if (300..600).contains(&second) { 120.0 } else { 60.0 };
        let seen = Observations {
            signals: vec![sample(rate), sample(0.0)],
            pools: vec![PoolView {
                replicas,
                ..PoolView::default()
            }],
            ..Observations::default()
        };
        let is_start = second.is_multiple_of(200);
        let before = is_start.then(|| state.clone());
        let (decision, next) = decide(&policy, &seen, std::mem::take(&mut state), at(second));
        state = next;
        replicas = decision.pools[0].to;
        Record {
            at: at(second),
            seen,
            decision,
            policy: is_start.then(|| policy.clone()),
            state: before,
        }
    };
    (0..900).map(record).collect()
}

fn through_text(records: &[Record]) -> Vec<Record> {
    let lines: Vec<String> = records
        .iter()
        .map(|record| serde_json::to_string(record).unwrap())
        .collect();
    parse(&lines.join("\n")).unwrap()
}

#[test]
fn the_last_decision_up_to_a_time_comes_out_the_same() {
    let records = through_text(&records());
    for second in [0, 350, 899, 5000] {
        let explained = explain(&records, at(second)).unwrap();
        assert!(explained.is_same && explained.differences.is_empty(), "{second}");
        assert_eq!(explained.decision.at, at(second.min(899)));
    }
    assert!(explain(&records[1..], at(0)).unwrap_err().contains("nothing is known"));
    assert!(
        explain(&records[1..], at(100)).unwrap_err().contains("is not recorded"),
        "no beginning"
    );
    assert!(
        explain(&records[1..], at(250)).unwrap().is_same,
        "the next segment begins anew"
    );
}

#[test]
fn a_sample_that_was_changed_is_named() {
    let mut records = through_text(&records());
    let Ok(sample) = &mut records[450].seen.signals[0] else {
        panic!("no sample")
    };
    sample.value = Raw(400.0);
    let explained = explain(&records, at(450)).unwrap();
    assert!(!explained.is_same);
    assert!(
        explained.differences.iter().any(|line| line.contains("signal rate")),
        "{explained:?}"
    );
    assert!(explain(&records, at(449)).unwrap().is_same);
}

#[test]
fn another_rate_or_queue_is_decided_about_from_the_present() {
    let records = through_text(&records());
    let present = records.last().unwrap().decision.pools[0].to;
    let more = what_if(&records, of_rate(200.0)).unwrap();
    assert!(more.later.pools[0].to > present, "{more:?}");
    let queue = what_if(&records, of_queue(500.0)).unwrap();
    assert!(queue.later.pools[0].to > present);
    let mut without = records.clone();
    for record in &mut without {
        if let Some(policy) = record.policy.take() {
            let mut draft = policy.into_draft();
            draft.signals.pop();
            record.policy = Some(draft.check().unwrap());
        }
    }
    let refused = what_if(&without, of_queue(5.0)).unwrap_err();
    assert!(refused.contains("not scaled by its queue"), "{refused}");
    let concurrency = Given {
        concurrency: Some(5.0),
        ..Given::default()
    };
    let refused = what_if(&records, concurrency).unwrap_err();
    assert!(refused.contains("not scaled by its concurrency"), "{refused}");
    let mut by_concurrency = records.clone();
    for record in &mut by_concurrency {
        if let Some(policy) = record.policy.take() {
            let mut draft = policy.into_draft();
            draft.signals[1].name = "concurrency".to_owned();
            draft.signals[1].kind = SignalKind::PerReplica { pool: 0, target: 2.0 };
            record.policy = Some(draft.check().unwrap());
        }
    }
    let busy = Given {
        concurrency: Some(38.0),
        ..Given::default()
    };
    assert_eq!(what_if(&by_concurrency, busy).unwrap().later.pools[0].to, 19);
}

#[test]
fn a_stricter_promise_costs_more_and_is_short_of_nothing() {
    let records = through_text(&records());
    let mut stricter = draft();
    stricter.objective.latency_seconds = 0.08;
    let compared = compare(&records, at(0), at(10_000), spec(stricter.clone())).unwrap();
    assert!(
        compared.other.replica_seconds > compared.recorded.replica_seconds,
        "{compared:?}"
    );
    assert!((compared.recorded.seconds - 899.0).abs() < 1e-6);
    let same = compare(&records, at(100), at(800), spec(draft())).unwrap();
    assert_eq!(
        same.other, same.recorded,
        "the same policy comes to the same, from the middle too"
    );
    let mut fewer = draft();
    fewer.pools[0].replicas_max = 2;
    let short = compare(&records, at(0), at(900), spec(fewer)).unwrap();
    assert!(short.other.short_seconds > short.recorded.short_seconds, "{short:?}");
    stricter.signals.pop();
    let refused = compare(&records, at(0), at(900), spec(stricter)).unwrap_err();
    assert!(
        refused.contains("recorded is signal rate, signal queue, pool cpu"),
        "{refused}"
    );
}

/// The records begin at 8:00:00 UTC.
#[test]
fn the_schedules_of_the_other_spec_count_and_the_recorded_ones_do_not() {
    let mut records = through_text(&records());
    for record in &mut records {
        record.seen.floors = vec![Some(Floor {
            name: "recorded".to_owned(),
            replicas: 19,
            until: at(10_000),
        })];
    }
    let without = compare(&records, at(0), at(900), spec(draft())).unwrap().other;
    assert!(without.replicas.iter().all(|replicas| *replicas < 15), "{without:?}");
    let begins: croner::Cron = "2,10 8 * * *".parse().unwrap();
    let schedule = Schedule {
        name: "rush".to_owned(),
        begins,
        zone: jiff::tz::TimeZone::UTC,
        lasts: jiff::SignedDuration::from_mins(2),
        replicas: 15,
        pool: Some("cpu".to_owned()),
    };
    let other = Other::new(draft().check().unwrap(), vec![schedule]);
    let with = compare(&records, at(0), at(900), other).unwrap().other;
    let rush: Vec<usize> = (0..900).filter(|second| with.replicas[*second] >= 15).collect();
    let (first, last) = (*rush.first().unwrap(), *rush.last().unwrap());
    assert_eq!(first, 120);
    assert!(
        rush.contains(&239) && rush.contains(&600) && rush.contains(&719),
        "{rush:?}"
    );
    assert!(!rush.contains(&599) && last < 899, "it ends: {rush:?}");
}

/// Sixty and twenty of eighty requests per second, of which a replica of either pool should have ten.
#[test]
fn each_pool_gets_its_part_of_another_rate() {
    let mut pools = draft();
    pools.pools.push(Pool {
        name: "gpu".to_owned(),
        ..pools.pools[0].clone()
    });
    let signal = |name: &str, kind| Signal {
        name: name.to_owned(),
        kind,
        stale_after_seconds: 30.0,
    };
    let target = 10.0;
    pools.signals = vec![
        signal("request_rate/cpu", SignalKind::PerReplica { pool: 0, target }),
        signal("request_rate/gpu", SignalKind::PerReplica { pool: 1, target }),
        signal(
            "request_rate_direct/cpu",
            SignalKind::ArrivalsPerReplica { pool: 0, target },
        ),
        signal(
            "request_rate_direct/gpu",
            SignalKind::ArrivalsPerReplica { pool: 1, target },
        ),
    ];
    let policy = pools.check().unwrap();
    let pod = |id| tidewright_scaling::observation::Pod {
        id,
        created_at: Moment::default(),
        ready_at: Some(Moment::default()),
        phase: Phase::Ready,
        in_flight: None,
    };
    let view = |replicas: u32| PoolView {
        replicas,
        pods: (0..u64::from(replicas)).map(pod).collect(),
        service: None,
    };
    let sample = |value: f64| {
        Ok(Sample {
            value: Raw(value),
            at: at(0),
            window_seconds: 30.0,
            targets_up: 1,
            targets_all: 1,
            targets_covered: None,
        })
    };
    let silent = Err(tidewright_scaling::observation::Absence::QueryFailed);
    let given = |signals: Vec<Reading>, views: Vec<PoolView>| {
        let mut seen = Observations {
            signals,
            pools: views,
            ..Observations::default()
        };
        assert!(set(&policy, &mut seen, 160.0, is_rate));
        let values = seen.signals.iter().map(|reading| reading.unwrap().value.0);
        values.collect::<Vec<_>>()
    };
    let measured = vec![sample(60.0), sample(20.0), sample(30.0), sample(10.0)];
    assert_eq!(given(measured, vec![view(6), view(2)]), [120.0, 40.0, 120.0, 40.0]);
    let half = vec![sample(60.0), silent, silent, silent];
    assert_eq!(given(half, vec![view(1), view(3)]), [40.0, 120.0, 40.0, 120.0]);
    let idle = vec![sample(0.0); 4];
    assert_eq!(given(idle, vec![view(0), view(0)]), [80.0; 4]);
}

#[test]
fn changes_against_the_direction_of_the_one_before_are_reversals() {
    let points: Vec<(Moment, u32, u32)> = [1, 3, 3, 2, 2, 4]
        .iter()
        .zip(0..)
        .map(|(n, s)| (at(s), *n, 3))
        .collect();
    let course = course(&points);
    assert_eq!((course.changes, course.reversals), (3, 2));
    assert!(
        (course.replica_seconds - 11.0).abs() < 1e-9 && (course.short_seconds - 3.0).abs() < 1e-9,
        "{course:?}"
    );
}

#[test]
fn what_is_no_record_is_named_by_its_line() {
    assert!(parse("\n").unwrap_err().contains("no recorded decision"));
    assert!(parse("\n{}").unwrap_err().starts_with("line 2 is"));
}
