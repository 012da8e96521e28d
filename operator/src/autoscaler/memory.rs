//! What the autoscaler remembers of a service between two looks, and the next look. Pure.

use std::collections::BTreeMap;

use tidewright_scaling::decision::{Decision, PoolDecision, Reason};
use tidewright_scaling::record::Record;
use tidewright_scaling::{Moment, Observations, Policy, State, decide, explanation};

use super::plan::Plan;
use crate::domain::decided::{Decided, DecidedPool};

/// What is remembered of one service.
#[derive(Debug, Default)]
pub struct Memory {
    owner_uid: String,
    state: State,
    /// The policy of the last look; none before the first.
    policy: Option<Policy>,
}

/// What one look came to.
#[derive(Debug)]
pub struct Look {
    /// What people see.
    pub decided: Decided,
    /// What should change.
    pub steps: Vec<Step>,
    /// All that it was made of.
    pub record: Record,
}

/// A pool whose number should change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The pool.
    pub pool: String,
    /// From so many replicas.
    pub from: i32,
    /// To so many.
    pub to: i32,
}

impl Memory {
    /// Decides. What should change is left to the caller; what people see is the same whether it is carried out or not. With `is_start`, and the first
    /// time, the record says what was remembered, so that a replay can begin with it.
    pub fn look(&mut self, plan: &Plan, seen: Observations, now: Moment, is_start: bool) -> Look {
        if self.owner_uid != plan.owner_uid {
            *self = Self {
                owner_uid: plan.owner_uid.clone(),
                ..Self::default()
            };
        }
        let is_start = is_start || self.policy.is_none();
        let before = is_start.then(|| self.state.clone());
        let (decision, state) = decide(&plan.policy, &seen, std::mem::take(&mut self.state), now);
        self.state = state;
        let is_other = self.policy.as_ref() != Some(&plan.policy);
        if is_other {
            self.policy = Some(plan.policy.clone());
        }
        let pools: BTreeMap<String, DecidedPool> = decision
            .pools
            .iter()
            .map(|pool| (pool.name.clone(), shown(plan, &decision, pool)))
            .collect();
        // At zero somebody has switched it off: an autoscaler does nothing then.
        let changing = decision
            .pools
            .iter()
            .filter(|pool| pool.from > 0 && pool.to != pool.from);
        let steps = changing.map(|pool| Step {
            pool: pool.name.clone(),
            from: signed(pool.from),
            to: signed(pool.to),
        });
        let steps = steps.collect();
        Look {
            decided: Decided { pools, problem: None },
            steps,
            record: Record {
                at: now,
                seen,
                decision,
                policy: (is_start || is_other).then(|| plan.policy.clone()),
                state: before,
            },
        }
    }
}

fn shown(plan: &Plan, decision: &Decision, pool: &PoolDecision) -> DecidedPool {
    let mut message = explanation::sentence(decision, pool);
    // They are found by trying other rates and queues: only where those are what is sized for do they say all.
    if let Some(thresholds) = pool.thresholds.as_ref().filter(|_| plan.is_sized_for_promise) {
        message.push_str("; ");
        message.push_str(&explanation::counterfactual(thresholds));
    }
    let limited_by = pool.steps.last().and_then(|step| match step.reason {
        Reason::MaxReplicas => Some("maxReplicas"),
        Reason::MinReplicas => Some("minReplicas"),
        Reason::RateLimited => Some("behavior"),
        _ => None,
    });
    DecidedPool {
        replicas: signed(pool.to),
        reason: pool.reason.as_str(),
        message,
        limited_by,
    }
}

fn signed(replicas: u32) -> i32 {
    i32::try_from(replicas).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use tidewright_scaling::observation::{PoolView, Sample};
    use tidewright_scaling::units::Raw;

    use super::super::plan::{Times, plan};
    use super::*;
    use crate::test_support::validated;

    fn direct() -> Plan {
        let times = Times {
            rate_window: Duration::from_secs(30),
            stale_after: Duration::from_secs(33),
        };
        let rate = json!([{"type": "RequestRate", "target": {"type": "AverageValue", "averageValue": "20"}}]);
        let service = json!({"spec": {"predictor": {"autoScaling": {"mode": "Direct", "metrics": rate}}}});
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
}
