//! What is remembered between two decisions. Bounded; a part of it can be restored from a status.

use serde::{Deserialize, Serialize};

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
    /// One per signal.
    pub(crate) signals: Vec<SignalMemory>,
    /// One per pool.
    pub(crate) pools: Vec<PoolMemory>,
}

/// What is remembered of a signal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SignalMemory {
    pub(crate) trust: freshness::Memory,
    pub(crate) rate: RateMemory,
}

/// What is remembered of a pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct PoolMemory {
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
    /// Makes room for what the policy names. What an earlier policy of the same shape remembered stays.
    pub(crate) fn fit(&mut self, policy: &Policy) {
        self.signals.resize_with(policy.signals.len(), SignalMemory::default);
        self.pools.resize_with(policy.pools.len(), PoolMemory::default);
    }
}

impl PoolMemory {
    /// When a pool that has grown may shrink again, if half of its replicas start within `start_seconds`.
    pub(crate) fn settled_at(&self, tuning: &Tuning, start_seconds: f64) -> Option<Moment> {
        let seconds = tuning.settle_starts * start_seconds;
        self.grown_at.map(|at| at.plus_seconds(seconds))
    }
}
