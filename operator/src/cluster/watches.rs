//! How the watches are doing: each kind's state, for readiness, metrics and liveness.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// State of one watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchState {
    /// The first list is not complete.
    Starting,
    /// Listed, and following.
    Following,
    /// The last attempt failed; it is tried again.
    Failing {
        /// What the last attempt said.
        why: String,
        /// For how long no attempt has worked.
        lasted: Duration,
        /// Whether the last attempt was refused for want of rights, which no restart mends.
        is_forbidden: bool,
    },
    /// Its task is gone: the process must be restarted.
    Ended,
}

/// The states of all watches, by kind. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Watches(Arc<Mutex<BTreeMap<&'static str, (WatchState, bool)>>>);

impl Watches {
    /// Notes the state of a kind. Once it has been listed it stays listed.
    pub fn set(&self, kind: &'static str, state: WatchState) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let was_listed = all.get(kind).is_some_and(|(_, listed)| *listed);
        let listed = was_listed || state == WatchState::Following;
        all.insert(kind, (state, listed));
    }

    /// Whether the kind has been listed completely once.
    pub fn is_listed(&self, kind: &str) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(kind)
            .is_some_and(|(_, listed)| *listed)
    }

    /// Every kind and its state.
    pub fn all(&self) -> Vec<(&'static str, WatchState)> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .map(|(kind, (state, _))| (*kind, state.clone()))
            .collect()
    }
}
