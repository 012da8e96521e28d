//! Which services want to be measured: written by the controller, read by the metrics source and the metrics API.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::domain::published::ServiceKey;

/// A PromQL query of a service's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalQuery {
    /// Its name: the metric is `external-<name>`.
    pub name: String,
    /// As written in the spec; the namespace is enforced when it is run.
    pub query: String,
    /// Another Prometheus than the operator's, from the operator's allow-list.
    pub server_address: Option<String>,
}

/// What is known of one pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolExpectation {
    /// Pods that are ready now; `None` while unknown.
    pub ready_pods: Option<u32>,
}

/// What to measure for one service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subscription {
    /// By pool name.
    pub pools: BTreeMap<String, PoolExpectation>,
    /// Queries of its own; names are unique.
    pub external: Vec<ExternalQuery>,
}

/// All subscriptions. Readers never wait.
#[derive(Debug, Default)]
pub struct Subscriptions(ArcSwap<BTreeMap<ServiceKey, Arc<Subscription>>>);

impl Subscriptions {
    /// Adds or replaces a service's subscription.
    pub fn set(&self, key: ServiceKey, subscription: Subscription) {
        if self.get(&key).is_some_and(|current| *current == subscription) {
            return;
        }
        let subscription = Arc::new(subscription);
        self.0.rcu(|all| {
            let mut all = BTreeMap::clone(all);
            all.insert(key.clone(), Arc::clone(&subscription));
            all
        });
    }

    /// Forgets a service.
    pub fn remove(&self, key: &ServiceKey) {
        if self.get(key).is_none() {
            return;
        }
        self.0.rcu(|all| {
            let mut all = BTreeMap::clone(all);
            all.remove(key);
            all
        });
    }

    /// One service.
    pub fn get(&self, key: &ServiceKey) -> Option<Arc<Subscription>> {
        self.0.load().get(key).cloned()
    }

    /// All of them at this moment.
    pub fn all(&self) -> Arc<BTreeMap<ServiceKey, Arc<Subscription>>> {
        self.0.load_full()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_read_until_it_is_removed() {
        let subscriptions = Subscriptions::default();
        let key = ServiceKey::new("a", "digits");
        let before = subscriptions.all();
        subscriptions.set(key.clone(), Subscription::default());
        assert!(before.is_empty(), "a reader keeps what it took");
        assert_eq!(subscriptions.get(&key).as_deref(), Some(&Subscription::default()));
        let unchanged = subscriptions.all();
        subscriptions.set(key.clone(), Subscription::default());
        assert!(
            Arc::ptr_eq(&unchanged, &subscriptions.all()),
            "no copy when nothing changed"
        );
        subscriptions.remove(&key);
        assert!(subscriptions.all().is_empty());
    }
}
