//! One policy, small objects, and how to change a part of them.

use crate::observation::{Observations, Phase, Pod, PoolView, Sample};
use crate::policy::{
    Balancing, Draft, Fallback, Objective, Policy, Pool, Signal, SignalKind, Tuning, default_down_limits,
};
use crate::units::{Moment, Raw};

/// So many seconds after a fixed start.
pub fn seconds(seconds: u64) -> Moment {
    Moment::from_millis(1_767_276_000_000 + seconds * 1000)
}

/// One pool, arrival rate and queue.
pub fn draft() -> Draft {
    let signal = |name: &str, kind| Signal {
        name: name.to_owned(),
        kind,
        stale_after_seconds: 45.0,
    };
    Draft {
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
    }
}

/// The policy, after a change to the draft.
pub fn policy(change: impl FnOnce(&mut Draft)) -> Policy {
    let mut draft = draft();
    change(&mut draft);
    draft.check().unwrap()
}

/// A pod that was made and became ready so many seconds after the start.
pub fn pod(id: u64, created: u64, ready: Option<u64>) -> Pod {
    Pod {
        id,
        created_at: seconds(created),
        ready_at: ready.map(seconds),
        phase: if ready.is_some() { Phase::Ready } else { Phase::Starting },
        in_flight: None,
    }
}

/// A fresh sample from all targets.
pub fn fresh(value: f64, now: u64) -> Sample {
    Sample {
        value: Raw(value),
        at: seconds(now),
        window_seconds: 10.0,
        targets_up: 1,
        targets_all: 1,
        targets_covered: None,
    }
}

/// So many old ready pods, a rate and a queue.
pub fn observed(ready: u32, rate: f64, queued: f64, now: u64) -> Observations {
    Observations {
        signals: vec![Ok(fresh(rate, now)), Ok(fresh(queued, now))],
        pools: vec![PoolView {
            replicas: ready,
            pods: (0..u64::from(ready))
                .map(|id| Pod {
                    id,
                    created_at: Moment::from_millis(0),
                    ready_at: Some(Moment::from_millis(30_000)),
                    phase: Phase::Ready,
                    in_flight: None,
                })
                .collect(),
            service: None,
        }],
        ..Observations::default()
    }
}
