//! The last spec of each service that could be acted on: what runs goes by it while a later one is refused. It is lost with the process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::published::ServiceKey;
use crate::domain::validated::Validated;

/// By service, as it was before any time was looked at.
#[derive(Debug, Default)]
pub struct LastValid(Mutex<HashMap<ServiceKey, Arc<Validated>>>);

impl LastValid {
    /// Notes what is acted on.
    pub fn note(&self, key: &ServiceKey, service: &Validated) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.get(key).is_none_or(|last| **last != *service) {
            all.insert(key.clone(), Arc::new(service.clone()));
        }
    }

    /// That of this very service, and not of an earlier one of its name.
    pub fn of(&self, key: &ServiceKey, owner_uid: &str) -> Option<Arc<Validated>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(key).filter(|last| last.owner.uid == owner_uid).cloned()
    }

    /// Forgets a service that is gone.
    pub fn forget(&self, key: &ServiceKey) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::test_support::validated;

    #[test]
    fn the_last_one_counts_and_none_of_another_service_of_the_name() {
        let (all, key) = (LastValid::default(), ServiceKey::new("demo", "digits"));
        let uid = validated(json!({})).owner.uid;
        assert!(all.of(&key, &uid).is_none(), "nothing is known after a start");
        all.note(&key, &validated(json!({})));
        let last = validated(json!({"spec": {"predictor": {"maxReplicas": 7}}}));
        all.note(&key, &last);
        assert_eq!(all.of(&key, &uid).as_deref(), Some(&last));
        assert!(all.of(&key, "another").is_none());
        all.forget(&key);
        assert!(all.of(&key, &uid).is_none());
    }
}
