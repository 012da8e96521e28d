//! What the operator's own scaling decision says, as people see it: written by the autoscaler, read by status and metrics.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::published::ServiceKey;

/// The decision about one service.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Decided {
    /// By pool.
    pub pools: BTreeMap<String, DecidedPool>,
    /// Why the last decision could not be written.
    pub problem: Option<String>,
}

/// The decision about one pool.
#[derive(Debug, Clone, PartialEq)]
pub struct DecidedPool {
    /// Replicas that it should have.
    pub replicas: i32,
    /// What determined that.
    pub reason: &'static str,
    /// In one sentence, with what would change it.
    pub message: String,
    /// What keeps it from what the signals ask for, in the words of `limitedBy`.
    pub limited_by: Option<&'static str>,
}

impl Decided {
    /// Whether people would read the same numbers and reasons. Sentences move with every value.
    pub fn is_same(&self, other: &Self) -> bool {
        let core = |decided: &Self| -> Vec<(String, i32, &'static str, Option<&'static str>)> {
            let pools = decided.pools.iter();
            pools
                .map(|(name, pool)| (name.clone(), pool.replicas, pool.reason, pool.limited_by))
                .collect()
        };
        self.problem == other.problem && core(self) == core(other)
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
