//! Which Deployments have been seen rolled out completely, as they were last written.
//!
//! A Deployment's generation counts every change of its spec, an autoscaler's new number of replicas too. Without this memory a service would be
//! Unknown at every step of its autoscaler, until the Deployment's controller has looked. It is lost with the process: then it is Unknown once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use tidewright_api::labels;

use crate::domain::published::ServiceKey;
use crate::status;

/// The Deployment's uid, and the hash of what was applied.
type Identity = (String, String);

/// By service and pool: what was seen rolled out.
#[derive(Debug, Default)]
pub struct Settled(Mutex<HashMap<ServiceKey, BTreeMap<String, Identity>>>);

impl Settled {
    /// The pools that are settled; `is_written` says that something was written just now, which unsettles all of them.
    pub fn look(
        &self,
        key: &ServiceKey,
        deployments: &BTreeMap<String, Arc<Deployment>>,
        is_written: bool,
    ) -> BTreeSet<String> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.entry(key.clone()).or_default();
        if is_written {
            known.clear();
        }
        known.retain(|pool, seen| deployments.get(pool).is_some_and(|d| identity(d) == *seen));
        for (pool, deployment) in deployments {
            if status::is_rolled_out(deployment) {
                known.insert(pool.clone(), identity(deployment));
            }
        }
        known.keys().cloned().collect()
    }

    /// Forgets a service that is gone.
    pub fn forget(&self, key: &ServiceKey) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

fn identity(deployment: &Deployment) -> Identity {
    let hash = deployment.annotations().get(labels::APPLIED_HASH);
    (deployment.uid().unwrap_or_default(), hash.cloned().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use serde_json::json;

    use super::Settled;
    use crate::domain::published::ServiceKey;
    use crate::test_support::deployment;

    #[test]
    fn a_step_of_the_autoscaler_does_not_unsettle_and_a_write_does() {
        let settled = Settled::default();
        let key = ServiceKey::new("demo", "digits");
        let complete = json!({"observedGeneration": 4, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2});
        let at = |generation: i64, replicas: i32| {
            BTreeMap::from([(
                "cpu".to_owned(),
                Arc::new(deployment("cpu", generation, replicas, complete.clone())),
            )])
        };
        assert!(
            settled.look(&key, &at(5, 2), false).is_empty(),
            "its controller has not looked"
        );
        assert_eq!(settled.look(&key, &at(4, 2), false).len(), 1);
        assert_eq!(
            settled.look(&key, &at(5, 3), false).len(),
            1,
            "another number of replicas"
        );
        assert!(settled.look(&key, &at(6, 3), true).is_empty(), "another template");
        assert!(settled.look(&key, &at(6, 3), false).is_empty());
    }
}
