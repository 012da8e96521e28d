//! Which objects of a kind belong to which service. Every look at a service asks; going through all objects each time would cost the square of their
//! number.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, PoisonError, RwLock};

use kube::runtime::reflector::Store;
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};

use crate::domain::published::ServiceKey;

/// Follows what a watch says. Cheap to clone; all clones see the same.
#[derive(Debug, Clone, Default)]
pub struct Index(Arc<RwLock<Maps>>);

#[derive(Debug, Default)]
struct Maps {
    names: HashMap<ServiceKey, BTreeSet<String>>,
    /// By namespace and name of the object.
    services: HashMap<(String, String), ServiceKey>,
}

impl Index {
    /// Names of a service's objects, in its namespace.
    pub fn names(&self, key: &ServiceKey) -> Vec<String> {
        let maps = self.0.read().unwrap_or_else(PoisonError::into_inner);
        maps.names.get(key).into_iter().flatten().cloned().collect()
    }

    /// Takes in an event that `store` has taken in already.
    pub fn note<K>(&self, event: &Event<K>, key_of: fn(&K) -> Option<ServiceKey>, store: &Store<K>)
    where
        K: Resource<DynamicType = ()> + Clone + Debug + 'static,
        K::DynamicType: Hash + Eq + Clone,
    {
        let mut maps = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match event {
            // The store shows a list when it is complete.
            Event::Init | Event::InitApply(_) => {}
            Event::InitDone => {
                *maps = Maps::default();
                for object in store.state() {
                    maps.put(&*object, key_of(&object));
                }
            }
            Event::Apply(object) => maps.put(object, key_of(object)),
            Event::Delete(object) => maps.put(object, None),
        }
    }
}

impl Maps {
    fn put<K: Resource>(&mut self, object: &K, key: Option<ServiceKey>) {
        let id = (object.namespace().unwrap_or_default(), object.name_any());
        let before = match &key {
            Some(key) => self.services.insert(id.clone(), key.clone()),
            None => self.services.remove(&id),
        };
        if let Some(before) = before.filter(|before| Some(before) != key.as_ref())
            && let Some(names) = self.names.get_mut(&before)
        {
            names.remove(&id.1);
            if names.is_empty() {
                self.names.remove(&before);
            }
        }
        if let Some(key) = key {
            self.names.entry(key).or_default().insert(id.1);
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::runtime::reflector;
    use serde_json::json;

    use super::*;
    use crate::cluster::watch::key_by_label;

    fn object(name: &str, service: Option<&str>) -> ConfigMap {
        let labels = service.map(|service| json!({"serving.tidewright.dev/inferenceservice": service}));
        let object = json!({"metadata": {"name": name, "namespace": "demo", "labels": labels.unwrap_or_default()}});
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn objects_are_found_by_their_service_whatever_happens_to_them() {
        let (index, (store, mut writer)) = (Index::default(), reflector::store());
        let mut see = |event: Event<ConfigMap>| {
            writer.apply_watcher_event(&event);
            index.note(&event, key_by_label, &store);
        };
        let of = |service: &str| index.names(&ServiceKey::new("demo", service));
        see(Event::Apply(object("x", Some("a"))));
        see(Event::Apply(object("y", Some("a"))));
        see(Event::Apply(object("z", None)));
        assert_eq!((of("a"), of("b")), (vec!["x".to_owned(), "y".to_owned()], vec![]));
        see(Event::Apply(object("x", Some("b"))));
        see(Event::Apply(object("x", Some("b"))));
        assert_eq!(
            (of("a"), of("b")),
            (vec!["y".to_owned()], vec!["x".to_owned()]),
            "its label was changed"
        );
        see(Event::Delete(object("y", Some("a"))));
        assert!(of("a").is_empty());
        see(Event::Init);
        see(Event::InitApply(object("new", Some("a"))));
        assert_eq!(of("b"), ["x"], "a list that is not complete counts for nothing");
        see(Event::InitDone);
        assert_eq!(
            (of("a"), of("b")),
            (vec!["new".to_owned()], vec![]),
            "what a new list does not have is gone"
        );
        see(Event::Apply(object("new", None)));
        let maps = index.0.read().unwrap();
        assert!(
            maps.names.is_empty() && maps.services.is_empty(),
            "nothing is kept of what is gone: {maps:?}"
        );
    }
}
