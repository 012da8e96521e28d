//! A decision as data, and the same decision again: bit for bit, or with another policy.

use serde::{Deserialize, Serialize};

use crate::decide;
use crate::decision::Decision;
use crate::observation::Observations;
use crate::policy::Policy;
use crate::state::State;
use crate::units::Moment;

/// One tick: everything that the decision depended on, but for what was remembered, which follows from the records before it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// When.
    pub at: Moment,
    /// What was seen.
    pub seen: Observations,
    /// What was decided.
    pub decision: Decision,
    /// The policy, where it is not that of the record before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// What was remembered before, in the first record and from time to time: a replay can begin here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
}

/// A replay in progress.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    policy: Option<Policy>,
    state: Option<State>,
}

/// What a replay made of a record.
#[derive(Clone, Debug, PartialEq)]
pub enum Replayed {
    /// The same decision.
    Equal,
    /// Another one.
    Different(Box<Decision>),
    /// Nothing to begin with yet: no policy or no memory.
    Skipped,
}

impl Replay {
    /// Takes the next record, in their order.
    pub fn next(&mut self, record: &Record) -> Replayed {
        if let Some(policy) = &record.policy {
            self.policy = Some(policy.clone());
        }
        if let Some(state) = &record.state {
            self.state = Some(state.clone());
        }
        let (Some(policy), Some(state)) = (&self.policy, self.state.take()) else {
            return Replayed::Skipped;
        };
        let (decision, state) = decide(policy, &record.seen, state, record.at);
        self.state = Some(state);
        if decision == record.decision {
            Replayed::Equal
        } else {
            Replayed::Different(Box::new(decision))
        }
    }
}

/// What differs between two decisions, in the words of their fields; empty if nothing does.
pub fn differences(before: &Decision, after: &Decision) -> Vec<String> {
    let mut all = Vec::new();
    for (a, b) in before.signals.iter().zip(&after.signals) {
        if a.trust != b.trust {
            all.push(format!("signal {}: {:?} instead of {:?}", a.name, b.trust, a.trust));
        }
    }
    for (a, b) in before.pools.iter().zip(&after.pools) {
        for (p, q) in a.proposals.iter().zip(&b.proposals) {
            if p != q {
                all.push(format!(
                    "pool {}: signal {}: {} asks for {} instead of {} for {}",
                    a.name, p.signal, q.value, q.replicas, p.value, p.replicas
                ));
            }
        }
        if (a.to, a.reason) != (b.to, b.reason) {
            all.push(format!(
                "pool {}: {} by {} instead of {} by {}",
                a.name,
                b.to,
                b.reason.as_str(),
                a.to,
                a.reason.as_str()
            ));
        }
    }
    if all.is_empty() && before != after {
        all.push("details that no proposal shows".to_owned());
    }
    all
}
