//! Scripts of ticks, and the observations that they stand for.

use proptest::prelude::*;
use tidewright_scaling::observation::{Absence, Observations, Phase, Pod, PoolView, Reading, Sample};
use tidewright_scaling::policy::{Balancing, Draft, Fallback, Objective, Policy, Pool, Signal, SignalKind, Tuning};
use tidewright_scaling::units::Raw;
use tidewright_scaling::{Moment, policy::default_down_limits};

/// One tick.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub seconds: f64,
    pub rate: Result<f64, Absence>,
    pub queued: Result<f64, Absence>,
    pub age_seconds: u64,
    pub up: u32,
    /// Of three targets, those whose windows are filled.
    pub covered: u32,
    pub in_flight: u32,
    pub starting: u32,
}

impl Step {
    /// Nothing happens, and all is known.
    pub fn calm() -> Self {
        Self {
            seconds: 5.0,
            rate: Ok(0.0),
            queued: Ok(0.0),
            age_seconds: 0,
            up: 3,
            covered: 3,
            in_flight: 0,
            starting: 0,
        }
    }

    /// Both signals are numbers, fresh, from all targets, over filled windows.
    pub fn is_whole(&self) -> bool {
        let is_number = |value: &Result<f64, Absence>| value.is_ok_and(|value| value.is_finite() && value >= 0.0);
        is_number(&self.rate) && is_number(&self.queued) && self.age_seconds <= 45 && self.up == 3 && self.covered == 3
    }
}

/// A fixed start.
pub fn start() -> Moment {
    Moment::from_millis(1_767_276_000_000)
}

/// Time and step, one after the other.
pub fn timeline(script: &[Step]) -> impl Iterator<Item = (Moment, &Step)> {
    script.iter().scan(start(), |now, step| {
        *now = now.plus_seconds(step.seconds);
        Some((*now, step))
    })
}

/// One pool of 1 to 20 replicas with 4 slots and 0.5 s, for 2 s at 99 %.
pub fn policy(change: impl FnOnce(&mut Draft)) -> Policy {
    let signal = |name: &str, kind| Signal {
        name: name.to_owned(),
        kind,
        stale_after_seconds: 45.0,
    };
    let mut draft = Draft {
        pools: vec![Pool {
            name: "cpu".to_owned(),
            replicas_min: 1,
            replicas_max: 20,
            slots: 4,
            cost: 1.0,
            service_seconds_prior: 0.5,
            start_seconds_prior: 30.0,
        }],
        signals: vec![
            signal("rate", SignalKind::ArrivalRate),
            signal("queue", SignalKind::Queued),
        ],
        objective: Objective {
            latency_seconds: 2.0,
            late_share: 0.01,
        },
        balancing: Balancing::Central,
        fallback: Fallback::default(),
        up_limits: Vec::new(),
        down_limits: default_down_limits(),
        tuning: Tuning::default(),
    };
    change(&mut draft);
    draft.check().unwrap()
}

/// What is seen at a tick.
pub fn observations(step: &Step, replicas: u32, now: Moment, tick: u64) -> Observations {
    let sample = |value: Result<f64, Absence>, targets_covered| -> Reading {
        value.map(|value| Sample {
            value: Raw(value),
            at: Moment::from_millis(now.as_millis() - step.age_seconds * 1000),
            window_seconds: 10.0,
            targets_up: step.up,
            targets_all: 3,
            targets_covered,
        })
    };
    let starting = step.starting.min(replicas);
    let pods = (0..replicas).map(|index| {
        let is_starting = index < starting;
        Pod {
            id: if is_starting {
                1_000_000 + tick
            } else {
                u64::from(index)
            },
            created_at: if is_starting { now } else { Moment::from_millis(0) },
            ready_at: (!is_starting).then(|| Moment::from_millis(30_000)),
            phase: if is_starting { Phase::Starting } else { Phase::Ready },
            in_flight: (index == 0).then_some(step.in_flight),
        }
    });
    Observations {
        // A queue is a number of the moment: it has no window.
        signals: vec![sample(step.rate, Some(step.covered)), sample(step.queued, None)],
        pools: vec![PoolView {
            replicas,
            pods: pods.collect(),
            service: None,
        }],
        ..Observations::default()
    }
}

/// Ticks of all kinds; most of them whole, so that something happens.
pub fn step_strategy() -> impl Strategy<Value = Step> {
    let absence = prop_oneof![
        Just(Absence::QueryFailed),
        Just(Absence::SeriesMissing),
        Just(Absence::NoTargets),
        Just(Absence::Invalid)
    ];
    let value = |high: f64| {
        let absence = absence.clone();
        prop_oneof![
            8 => (0.0..high).prop_map(Ok),
            4 => Just(Ok(0.0)),
            1 => absence.prop_map(Err),
            1 => Just(Ok(f64::NAN)),
        ]
    };
    (
        prop_oneof![4 => Just(5.0), 1 => 1.0_f64..400.0],
        value(150.0),
        value(500.0),
        prop_oneof![8 => Just(0_u64), 1 => 0_u64..120],
        prop_oneof![8 => Just(3_u32), 1 => 0_u32..3],
        prop_oneof![8 => Just(3_u32), 1 => 0_u32..3],
        0_u32..40,
        prop_oneof![4 => Just(0_u32), 1 => 0_u32..4],
    )
        .prop_map(
            |(seconds, rate, queued, age_seconds, up, covered, in_flight, starting)| Step {
                seconds,
                rate,
                queued,
                age_seconds,
                up,
                covered,
                in_flight,
                starting,
            },
        )
}
