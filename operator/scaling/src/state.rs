//! What is remembered between two decisions. Bounded; a part of it can be restored from a status.

use serde::{Deserialize, Serialize};

use crate::budget::Budget;
use crate::freshness;
use crate::keep::Levels;
use crate::learned::{ServiceEstimate, StartEstimate};
use crate::limits::Changes;
use crate::policy::{Policy, Tuning};
use crate::rate::RateMemory;
use crate::units::Moment;

/// What is remembered of a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The first decision.
    pub(crate) born_at: Option<Moment>,
    /// Since when no signal at all has been trusted.
    pub(crate) blind_since: Option<Moment>,
    /// Until when a fall of the load is not believed, because requests failed while it fell.
    pub(crate) outage_until: Option<Moment>,
    /// How much of the objective's lateness was used.
    #[serde(default)]
    pub(crate) budget: Budget,
    /// One per signal, in the order of the last policy.
    pub(crate) signals: Vec<SignalMemory>,
    /// One per pool, in the order of the last policy.
    pub(crate) pools: Vec<PoolMemory>,
}

/// What is remembered of a signal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SignalMemory {
    /// Its name; empty in a record of an earlier version, which knows but the order.
    #[serde(default)]
    pub(crate) name: String,
    pub(crate) trust: freshness::Memory,
    pub(crate) rate: RateMemory,
}

/// What is remembered of a pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct PoolMemory {
    /// Its name; empty in a record of an earlier version, which knows but the order.
    #[serde(default)]
    pub(crate) name: String,
    pub(crate) service: ServiceEstimate,
    pub(crate) starts: StartEstimate,
    pub(crate) levels: Levels,
    pub(crate) changes: Changes,
    /// `spec.replicas` at the last tick: whoever changed it, it has changed.
    pub(crate) replicas: Option<u32>,
    pub(crate) grown_at: Option<Moment>,
    /// Since when a shrink within the deadband has been wanted.
    pub(crate) small_since: Option<Moment>,
}

impl State {
    /// Makes room for what the policy names. What was remembered under an earlier policy stays with its name, wherever that stands now.
    pub(crate) fn fit(&mut self, policy: &Policy) {
        arrange(
            &mut self.signals,
            policy.signals.iter().map(|signal| signal.name.as_str()),
        );
        arrange(&mut self.pools, policy.pools.iter().map(|pool| pool.name.as_str()));
    }
}

/// What is remembered under a name.
trait Named: Default {
    fn name(&self) -> &str;
    fn name_mut(&mut self) -> &mut String;
}

impl Named for SignalMemory {
    fn name(&self) -> &str {
        &self.name
    }

    fn name_mut(&mut self) -> &mut String {
        &mut self.name
    }
}

impl Named for PoolMemory {
    fn name(&self) -> &str {
        &self.name
    }

    fn name_mut(&mut self) -> &mut String {
        &mut self.name
    }
}

/// Puts what is remembered in the order of the names; of what they do not know, nothing is remembered any more.
fn arrange<'n, M: Named>(all: &mut Vec<M>, names: impl Iterator<Item = &'n str> + Clone) {
    if all.iter().map(M::name).eq(names.clone()) {
        return;
    }
    let mut before: Vec<Option<M>> = std::mem::take(all).into_iter().map(Some).collect();
    let arranged = names.enumerate().map(|(index, name)| {
        let is_of = |memory: &Option<M>, name: &str| memory.as_ref().is_some_and(|memory| memory.name() == name);
        let place = before.iter().position(|memory| is_of(memory, name));
        let is_nameless = before.get(index).is_some_and(|memory| is_of(memory, ""));
        let place = place.or_else(|| is_nameless.then_some(index));
        let memory = place.and_then(|place| before.get_mut(place)?.take());
        let mut memory = memory.unwrap_or_default();
        name.clone_into(memory.name_mut());
        memory
    });
    *all = arranged.collect();
}

impl PoolMemory {
    /// When a pool that has grown may shrink again, if half of its replicas start within `start_seconds`.
    pub(crate) fn settled_at(&self, tuning: &Tuning, start_seconds: f64) -> Option<Moment> {
        let seconds = tuning.settle_starts * start_seconds;
        self.grown_at.map(|at| at.plus_seconds(seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Pool, Signal};
    use crate::test_support::policy;

    /// Pools and signals of these names.
    fn named(pools: &[&str], signals: &[&str]) -> Policy {
        policy(|draft| {
            let (pool, signal) = (draft.pools[0].clone(), draft.signals[0].clone());
            let pool = |name: &&str| Pool {
                name: (*name).to_owned(),
                ..pool.clone()
            };
            let signal = |name: &&str| Signal {
                name: (*name).to_owned(),
                ..signal.clone()
            };
            draft.pools = pools.iter().map(pool).collect();
            draft.signals = signals.iter().map(signal).collect();
        })
    }

    fn absurd(signal: &SignalMemory) -> bool {
        signal.trust.absurd_since.is_some()
    }

    #[test]
    fn what_is_remembered_goes_with_the_name_and_not_with_the_place() {
        let mut state = State::default();
        state.fit(&named(&["gpu", "cpu", "spot"], &["rate", "queue"]));
        for (pool, replicas) in state.pools.iter_mut().zip([1, 2, 3]) {
            pool.replicas = Some(replicas);
        }
        state.signals[1].trust.absurd_since = Some(Moment::from_millis(1));
        let before = state.clone();
        state.fit(&named(&["gpu", "cpu", "spot"], &["rate", "queue"]));
        assert_eq!(state, before, "the same names");
        state.fit(&named(&["spot", "new", "gpu"], &["queue", "cpu", "rate"]));
        let replicas: Vec<_> = state.pools.iter().map(|pool| pool.replicas).collect();
        assert_eq!(replicas, [Some(3), None, Some(1)]);
        assert_eq!(
            state.signals.iter().map(absurd).collect::<Vec<_>>(),
            [true, false, false]
        );
        state.fit(&named(&["cpu", "spot"], &["rate"]));
        let replicas: Vec<_> = state.pools.iter().map(|pool| pool.replicas).collect();
        assert_eq!(replicas, [None, Some(3)], "what has been away is forgotten");
        assert_eq!(state.signals.iter().map(absurd).collect::<Vec<_>>(), [false]);
    }

    /// A record of a version that remembered by place, and of an absurd sample only that there was one.
    #[test]
    fn what_an_earlier_version_recorded_is_read_in_its_order() {
        let policy = named(&["gpu", "cpu"], &["rate", "queue"]);
        let mut state = State::default();
        state.fit(&policy);
        (state.pools[0].replicas, state.pools[1].replicas) = (Some(1), Some(2));
        let mut record = serde_json::to_value(&state).unwrap();
        for of in ["pools", "signals"] {
            for memory in record[of].as_array_mut().unwrap() {
                memory.as_object_mut().unwrap().remove("name").unwrap();
            }
        }
        for signal in record["signals"].as_array_mut().unwrap() {
            signal["trust"] = serde_json::json!({"was_absurd": true});
        }
        let mut read: State = serde_json::from_value(record).unwrap();
        read.fit(&policy);
        assert_eq!(read, state);
    }
}
