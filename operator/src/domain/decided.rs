//! What the operator's own scaling decision says, as people see it: written by the autoscaler, read by status and metrics.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tidewright_api::status::ScheduleStatus;

use super::published::ServiceKey;

/// The decision about one service.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Decided {
    /// By pool.
    pub pools: BTreeMap<String, DecidedPool>,
    /// Why the last decision could not be written.
    pub problem: Option<String>,
    /// Whether the pods are asked what they do.
    pub asks_pods: bool,
    /// Why nothing shrinks for want of what the pods should say; said once that has lasted.
    pub silence: Option<String>,
    /// The same for what metrics.k8s.io should say of them.
    pub unmeasured: Option<String>,
}

/// The decision about one pool.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DecidedPool {
    /// Replicas that it should have.
    pub replicas: i32,
    /// What determined that.
    pub reason: &'static str,
    /// In one sentence, with what would change it.
    pub message: String,
    /// The schedule that asks for more than the signals, if one does.
    pub schedule: Option<ScheduleStatus>,
    /// What keeps it from what the signals ask for, in the words of `limitedBy`.
    pub limited_by: Option<&'static str>,
    /// Replicas that take too long to become ready: they are not counted on.
    pub stuck: u32,
    /// Seconds after which one of them is that.
    pub stuck_after_seconds: f64,
    /// Signals, and the replicas that each asks for.
    pub proposals: Vec<(String, u32)>,
    /// Until when more is kept than anything asks for, where that is known.
    pub held_until: Option<Timestamp>,
    /// What would change it: kinds, each with its number; empty where rate and queue are not all that it looks at.
    pub thresholds: Vec<(&'static str, f64)>,
}

impl Decided {
    /// Whether people would read the same numbers and reasons. Sentences move with every value.
    pub fn is_same(&self, other: &Self) -> bool {
        let core = |decided: &Self| -> Vec<(String, i32, &'static str, Option<&'static str>, u32)> {
            let pools = decided.pools.iter();
            pools
                .map(|(name, pool)| (name.clone(), pool.replicas, pool.reason, pool.limited_by, pool.stuck))
                .collect()
        };
        let said = |decided: &Self| {
            let is_missing = (decided.silence.is_some(), decided.unmeasured.is_some());
            (decided.problem.clone(), decided.asks_pods, is_missing)
        };
        said(self) == said(other) && core(self) == core(other)
    }
}

/// All of them. Readers never wait.
#[derive(Debug, Default)]
pub struct Decisions(ArcSwap<BTreeMap<ServiceKey, Arc<Decided>>>);

impl Decisions {
    /// That of one service.
    pub fn get(&self, key: &ServiceKey) -> Option<Arc<Decided>> {
        self.0.load().get(key).cloned()
    }

    /// Replaces them all.
    pub fn publish(&self, all: BTreeMap<ServiceKey, Arc<Decided>>) {
        self.0.store(Arc::new(all));
    }
}
