//! The caches of everything that is watched, and what they hold of one service.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use futures::Stream;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, ResourceExt};
use tidewright_api::{InferenceService, labels, names};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::apply::{self, Child, is_controlled_by};
use super::index::Index;
use super::watch::{self, Follow, key_by_label, own_key, without_managed_fields};
use super::watches::Watches;
use crate::domain::objects::for_each_kind;
use crate::domain::published::ServiceKey;

/// Services whose reconcile is asked for and not begun; the sender waits beyond it.
const KEYS_QUEUED_MAX: usize = 1024;

/// Cache of one kind of child.
pub struct Cache<K: Child> {
    store: Store<K>,
    index: Index,
    watches: Watches,
}

impl<K: Child> Cache<K> {
    fn new((store, index): (Store<K>, Index), watches: &Watches) -> Self {
        let watches = watches.clone();
        Self { store, index, watches }
    }

    /// The object of this name, if the cache has it.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.store.get(&ObjectRef::new(name).within(namespace))
    }

    /// The children of a service that it controls; none while the kind has not been listed, so that nothing is pruned on half the truth.
    pub fn controlled(&self, key: &ServiceKey, owner_uid: &str) -> Vec<Arc<K>> {
        self.controlled_if_listed(key, owner_uid).unwrap_or_default()
    }

    /// The children of a service that it controls; `None` while the kind has not been listed.
    pub fn controlled_if_listed(&self, key: &ServiceKey, owner_uid: &str) -> Option<Vec<Arc<K>>> {
        let mut all = self.of_service(key)?;
        all.retain(|o| is_controlled_by(o.as_ref(), owner_uid));
        Some(all)
    }

    /// What carries a service's label; `None` while the kind has not been listed.
    fn of_service(&self, key: &ServiceKey) -> Option<Vec<Arc<K>>> {
        if !self.watches.is_listed(apply::kind_name::<K>()) {
            return None;
        }
        let found = self.index.names(key).into_iter();
        let found = found.filter_map(|name| self.get(&key.namespace, &name));
        // The index is a moment behind the store.
        Some(
            found
                .filter(|o| o.labels().get(labels::SERVICE) == Some(&key.name))
                .collect(),
        )
    }
}

macro_rules! caches {
    ($(($field:ident, $kind:ty)),+) => {
        /// One cache per kind of child, the services themselves, and the pods.
        pub struct Caches {
            $(
                #[doc = concat!("Cache of ", stringify!($kind), ".")]
                pub $field: Cache<$kind>,
            )+
            /// The services.
            pub inference_services: Store<InferenceService>,
            pods: Cache<Pod>,
        }

        impl Caches {
            /// Starts a watch per kind. The stream names services of which something changed.
            pub fn start(
                client: &Client,
                watches: &Watches,
                stop: &CancellationToken,
            ) -> (Self, impl Stream<Item = ServiceKey> + Send + 'static + use<>) {
                let (keys, changed) = mpsc::channel(KEYS_QUEUED_MAX);
                let selector = format!("{}={}", labels::MANAGED_BY, labels::MANAGER);
                let caches = Self {
                    $($field: Cache::new(
                        watch::spawn(
                            child::<$kind>(client, &selector, key_by_label),
                            watches.clone(),
                            keys.clone(),
                            stop.clone(),
                        ),
                        watches,
                    ),)+
                    inference_services: watch::spawn(
                        Follow {
                            kind: "InferenceService",
                            api: Api::all(client.clone()),
                            selector: None,
                            key_of: own_key,
                            slim: without_managed_fields,
                            significant: Some(significant),
                        },
                        watches.clone(),
                        keys.clone(),
                        stop.clone(),
                    )
                    .0,
                    pods: Cache::new(
                        watch::spawn(
                            Follow { kind: "Pod", slim: slim_pod, ..child::<Pod>(client, &selector, key_by_label) },
                            watches.clone(),
                            keys,
                            stop.clone(),
                        ),
                        watches,
                    ),
                };
                let changed = futures::stream::unfold(changed, |mut changed| async move {
                    changed.recv().await.map(|key| (key, changed))
                });
                (caches, changed)
            }
        }
    };
}
for_each_kind!(caches);

impl std::fmt::Debug for Caches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Caches")
    }
}

impl<K: Child> Debug for Cache<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cache")
    }
}

impl Caches {
    /// The pods of a service; `None` while pods have not been listed.
    pub fn pods(&self, key: &ServiceKey) -> Option<Vec<Arc<Pod>>> {
        self.pods.of_service(key)
    }

    /// By pool: the objects among `all` that carry its label.
    pub fn by_pool<K: Child>(all: Vec<Arc<K>>) -> BTreeMap<String, Arc<K>> {
        all.into_iter()
            .filter_map(|o| Some((o.labels().get(labels::POOL)?.clone(), o)))
            .collect()
    }
}

fn child<K>(client: &Client, selector: &str, key_of: fn(&K) -> Option<ServiceKey>) -> Follow<K>
where
    K: Child,
    K::DynamicType: Hash + Eq + Clone + Default,
{
    Follow {
        kind: apply::kind_name::<K>(),
        api: Api::all(client.clone()),
        selector: Some(selector.to_owned()),
        key_of,
        slim: without_managed_fields,
        significant: None,
    }
}

/// A status write of ours is no reason to look again. An annotation moves no generation, and some decide.
fn significant(object: &InferenceService) -> String {
    let annotations = object.metadata.annotations.iter().flatten();
    let deciding: Vec<_> = annotations
        .filter(|(key, _)| key.starts_with(labels::KSERVE_PREFIX))
        .collect();
    format!(
        "{:?}/{:?}/{:?}/{deciding:?}",
        object.uid(),
        object.metadata.generation,
        object.metadata.deletion_timestamp.is_some()
    )
}

/// Of a pod only labels, owners, volumes' ConfigMaps, whether it has its node's address, what its server has asked for, and the status are read.
fn slim_pod(pod: &mut Pod) {
    without_managed_fields(pod);
    if let Some(spec) = pod.spec.as_mut() {
        let volumes = spec
            .volumes
            .take()
            .map(|all| all.into_iter().filter(|v| v.config_map.is_some()).collect());
        let servers = std::mem::take(&mut spec.containers).into_iter();
        let servers = servers.filter(|container| container.name == names::SERVER_CONTAINER);
        let containers = servers.map(|container| Container {
            name: container.name,
            resources: container.resources.map(|all| ResourceRequirements {
                requests: all.requests,
                ..Default::default()
            }),
            ..Default::default()
        });
        *spec = PodSpec {
            containers: containers.collect(),
            volumes,
            node_name: spec.node_name.take(),
            host_network: spec.host_network,
            ..Default::default()
        };
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::test_support::inference_service;

    #[test]
    fn what_decides_is_looked_at_again_and_our_own_writes_are_not() {
        let of = |changes| significant(&inference_service(changes));
        let before = of(json!({}));
        assert_eq!(of(json!({"status": {"queue": "7"}})), before);
        assert_eq!(
            of(json!({"metadata": {"annotations": {"note": "x"}, "resourceVersion": "9"}})),
            before
        );
        for change in [
            json!({"metadata": {"generation": 3}}),
            json!({"metadata": {"uid": "other"}}),
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
            json!({"metadata": {"annotations": {"serving.kserve.io/stop": "true"}}}),
        ] {
            assert_ne!(of(change.clone()), before, "{change}");
        }
    }
}
