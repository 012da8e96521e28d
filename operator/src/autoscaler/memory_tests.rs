//! One look after the other: what is decided, told, remembered and recorded.

use std::time::Duration;

use serde_json::json;
use tidewright_scaling::observation::{PoolView, Sample};
use tidewright_scaling::units::Raw;

use super::super::plan::{Times, plan};
use super::*;
use crate::test_support::validated;

fn direct() -> Plan {
    in_mode("Direct")
}

fn in_mode(mode: &str) -> Plan {
    let rate = json!([{"type": "RequestRate", "target": {"type": "AverageValue", "averageValue": "20"}}]);
    of_metrics(mode, rate)
}

fn of_metrics(mode: &str, metrics: serde_json::Value) -> Plan {
    of(json!({"mode": mode, "metrics": metrics}))
}

fn of(auto_scaling: serde_json::Value) -> Plan {
    let times = Times {
        rate_window: Duration::from_secs(30),
        stale_after: Duration::from_secs(33),
        relearn: Duration::from_secs(300),
        has_prometheus: true,
        asks_pods: None,
    };
    let service = json!({"spec": {"predictor": {"autoScaling": auto_scaling}}});
    plan(&validated(service), &times).unwrap()
}

fn seen(replicas: u32, rate: Option<f64>, at: Moment) -> Observations {
    let sample = |value| Sample {
        value: Raw(value),
        at,
        window_seconds: 30.0,
        targets_up: 1,
        targets_all: 1,
        targets_covered: Some(1),
    };
    Observations {
        signals: vec![
            rate.map(sample)
                .ok_or(tidewright_scaling::observation::Absence::QueryFailed),
        ],
        pools: vec![PoolView {
            replicas,
            ..PoolView::default()
        }],
        ..Observations::default()
    }
}

#[test]
fn it_grows_at_once_says_why_and_never_shrinks_on_what_it_cannot_see() {
    let at = |second: u64| Moment::from_millis(1_800_000_000_000 + second * 1000);
    let (plan, mut memory) = (direct(), Memory::default());
    let Look { decided, steps, .. } = memory.look(&plan, seen(1, Some(55.0), at(0)), at(0), false);
    assert_eq!(
        steps,
        [Step {
            pool: "cpu".to_owned(),
            from: 1,
            to: 3
        }]
    );
    assert!(
        decided.pools["cpu"].message.contains("request_rate 55 needs 3"),
        "{decided:?}"
    );
    for second in 1..1000 {
        let Look { decided, steps, .. } = memory.look(&plan, seen(3, None, at(second)), at(second), false);
        assert!(steps.is_empty(), "{decided:?}");
    }
    // With its figures back it does what it was kept from, a step at a time.
    let shrink = (1000..2000).find_map(|second| {
        let look = memory.look(&plan, seen(3, Some(5.0), at(second)), at(second), false);
        look.steps.first().map(|step| step.to)
    });
    assert!(matches!(shrink, Some(1..=2)), "{shrink:?}");
    // And what was switched off stays off.
    let look = memory.look(&plan, seen(0, Some(55.0), at(2001)), at(2001), false);
    assert!(look.steps.is_empty());
}

#[test]
fn what_is_not_measured_is_told_at_once_where_nobody_answers_and_later_where_a_pod_is_not_known_yet() {
    let at = |second: u64| Moment::from_millis(1_800_000_000_000 + second * 1000);
    let told_after = |absence: Absence| {
        let cpu = json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}]);
        let (plan, mut memory) = (of_metrics("Direct", cpu), Memory::default());
        (0..200).find_map(|second| {
            let seen = Observations {
                signals: vec![Err(absence)],
                ..seen(2, None, at(second))
            };
            let decided = memory.look(&plan, seen, at(second), false).decided;
            assert!(decided.silence.is_none(), "no pod was asked");
            decided.unmeasured.map(|said| (second, said))
        })
    };
    assert_eq!(
        told_after(Absence::QueryFailed),
        Some((15, "cpu QueryFailed".to_owned()))
    );
    assert_eq!(
        told_after(Absence::SeriesMissing),
        Some((90, "cpu SeriesMissing".to_owned()))
    );
    assert_eq!(told_after(Absence::NoTargets), None, "no pod is ready");
}

#[test]
fn what_is_shown_names_proposals_the_end_of_a_hold_and_what_would_change_it() {
    let slo = json!({"latency": "200ms", "percentile": 90, "serviceTime": "20ms"});
    let plan = of(json!({"mode": "Direct", "slo": slo}));
    let at = Moment::from_millis(1_800_000_000_000);
    let mut observed = seen(9, Some(1.0), at);
    observed.signals.extend(seen(9, Some(0.0), at).signals);
    let Look { decided, .. } = Memory::default().look(&plan, observed, at, false);
    let pool = &decided.pools["cpu"];
    assert_eq!((pool.replicas, pool.reason), (9, "WarmingUp"), "{pool:?}");
    let proposals: Vec<_> = pool
        .proposals
        .iter()
        .map(|(signal, count)| (signal.as_str(), *count))
        .collect();
    assert_eq!(proposals, [("rate", 1), ("queue", 0)]);
    assert_eq!(pool.held_until, Some(Timestamp::from_second(1_800_000_300).unwrap()));
    let kinds: Vec<_> = pool.thresholds.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, ["up_above_rate", "up_above_queued", "down_below_rate"]);
    // Where an amount per replica is asked for as well, rates and queues do not say all.
    let Look { decided, .. } = Memory::default().look(&direct(), seen(1, Some(25.0), at), at, false);
    let pool = &decided.pools["cpu"];
    assert_eq!((pool.held_until, pool.thresholds.len()), (None, 0));
    assert_eq!(pool.proposals, [("request_rate".to_owned(), 2)]);
}

#[test]
fn of_a_new_service_of_the_same_name_nothing_is_remembered() {
    let at = Moment::from_millis(1_800_000_000_000);
    let (mut plan, mut memory) = (direct(), Memory::default());
    memory.look(&plan, seen(1, Some(55.0), at), at, false);
    let remembered = memory.state.clone();
    plan.owner_uid = "another".to_owned();
    memory.look(&plan, seen(1, None, at), at, false);
    assert_ne!(memory.state, remembered);
    assert_eq!(memory.owner_uid, "another");
}

#[test]
fn what_nobody_asked_for_is_decided_every_quarter_of_a_minute() {
    let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
    let (hpa, mut memory) = (in_mode("Hpa"), Memory::default());
    let looks = |plan: &Plan, memory: &mut Memory, seconds: std::ops::Range<i64>| {
        let looks = seconds.filter(|second| {
            if memory.still_shown(plan, at(*second)).is_some() {
                return false;
            }
            let now = super::super::observe::moment(at(*second));
            let Look { decided, .. } = memory.look(plan, seen(1, Some(55.0), now), now, false);
            memory.show(plan, at(*second), &decided, &[]);
            true
        });
        looks.collect::<Vec<_>>()
    };
    assert_eq!(looks(&hpa, &mut memory, 0..50), [0, 15, 30, 45]);
    let (shown, _) = memory.still_shown(&hpa, at(50)).unwrap();
    assert_eq!(shown.pools["cpu"].replicas, 3, "meanwhile the last one is shown");
    assert_eq!(looks(&hpa, &mut memory, 40..42), [40], "a clock that jumped back");
    let mut draft = hpa.policy.clone().into_draft();
    draft.pools[0].replicas_max += 1;
    let changed = Plan {
        policy: draft.check().unwrap(),
        ..hpa
    };
    assert_eq!(looks(&changed, &mut memory, 42..45), [42], "another spec");
    let asked = in_mode("Advise");
    assert_eq!(looks(&asked, &mut memory, 45..48), [45, 46, 47]);
}

#[test]
fn that_servers_cannot_be_asked_is_news_once() {
    let mut memory = Memory::default();
    let news = [true, true, false, true].map(|are_older| memory.are_older_now(are_older));
    assert_eq!(news, [true, false, false, true]);
}

#[test]
fn a_record_says_what_was_remembered_at_a_start_and_the_policy_when_it_changes() {
    let at = |second: u64| Moment::from_millis(1_800_000_000_000 + second * 1000);
    let (mut plan, mut memory) = (direct(), Memory::default());
    let mut look = |plan: &Plan, second: u64, is_start: bool| {
        let record = memory
            .look(plan, seen(1, Some(5.0), at(second)), at(second), is_start)
            .record;
        (record.policy.is_some(), record.state.is_some())
    };
    assert_eq!(look(&plan, 0, false), (true, true), "the first");
    assert_eq!(look(&plan, 1, false), (false, false));
    assert_eq!(look(&plan, 2, true), (true, true));
    let mut draft = plan.policy.clone().into_draft();
    draft.pools[0].replicas_max += 1;
    plan.policy = draft.check().unwrap();
    assert_eq!(look(&plan, 3, false), (true, false));
    assert_eq!(look(&plan, 4, false), (false, false));
    plan.owner_uid = "another".to_owned();
    assert_eq!(
        look(&plan, 5, false),
        (true, true),
        "of a new service nothing is remembered"
    );
}
