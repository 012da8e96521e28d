//! The status that was written last, by service, until the watch has brought it back.
//!
//! A reconcile compares with what it finds in the cache, and a cache is late: without this memory, a look that follows a write within that time
//! would write the same status again and tell the same events, or leave a change unwritten because the cache still shows the state before.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use tidewright_api::{InferenceService, InferenceServiceStatus};

use crate::domain::published::ServiceKey;

/// A watch that is later than this is broken, and said to be; the numbers of versions may have begun anew, in a restored cluster.
const LATENESS_MAX: SignedDuration = SignedDuration::from_secs(60);

#[derive(Debug)]
struct Write {
    uid: String,
    /// The version of the object that the write was made of.
    of_version: String,
    /// The version that it became.
    version: String,
    status: InferenceServiceStatus,
    at: Timestamp,
}

impl Write {
    /// Whether `object` is from before this write.
    fn is_newer_than(&self, object: &InferenceService) -> bool {
        if object.uid().as_deref() != Some(&self.uid) {
            return false;
        }
        let version = object.resource_version().unwrap_or_default();
        // Versions of one kind of object are numbers that grow: part of the API since Kubernetes 1.35, and true of every etcd before.
        match (version.parse::<u64>(), self.version.parse::<u64>()) {
            (Ok(seen), Ok(written)) => seen < written,
            _ => version == self.of_version,
        }
    }
}

/// The last writes.
#[derive(Debug, Default)]
pub struct Written(Mutex<HashMap<ServiceKey, Write>>);

impl Written {
    /// Notes a write: `object` is what it was made of, `version` what the API server made of it.
    pub fn note(
        &self,
        key: &ServiceKey,
        object: &InferenceService,
        version: String,
        status: &InferenceServiceStatus,
        now: Timestamp,
    ) {
        let write = Write {
            uid: object.uid().unwrap_or_default(),
            of_version: object.resource_version().unwrap_or_default(),
            version,
            status: status.clone(),
            at: now,
        };
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key.clone(), write);
    }

    /// `object` with the status that it has by now.
    pub fn over(&self, key: &ServiceKey, object: Arc<InferenceService>, now: Timestamp) -> Arc<InferenceService> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(write) = all.get(key) else { return object };
        if !write.is_newer_than(&object) || now.duration_since(write.at) > LATENESS_MAX {
            all.remove(key);
            return object;
        }
        let status = Some(write.status.clone());
        Arc::new(InferenceService {
            status,
            ..(*object).clone()
        })
    }

    /// Forgets a service that is gone.
    pub fn forget(&self, key: &ServiceKey) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(uid: &str, version: &str, url: &str) -> Arc<InferenceService> {
        Arc::new(
            serde_json::from_value(serde_json::json!({
                "apiVersion": "serving.tidewright.dev/v1alpha1", "kind": "InferenceService",
                "metadata": {"name": "digits", "namespace": "demo", "uid": uid, "resourceVersion": version},
                "spec": {"predictor": {"model": {"modelFormat": {"name": "onnx"}, "storageUri": "pvc://a/b"}}},
                "status": {"url": url},
            }))
            .unwrap(),
        )
    }

    #[test]
    fn what_was_written_counts_until_the_watch_has_brought_it() {
        let (key, now) = (ServiceKey::new("demo", "digits"), Timestamp::UNIX_EPOCH);
        let url = |object: Arc<InferenceService>, written: &Written, at: Timestamp| {
            written.over(&key, object, at).status.clone().unwrap().url.unwrap()
        };
        let write = |version: &str| {
            let written = Written::default();
            let status = service("u", "0", "new").status.clone().unwrap();
            written.note(&key, &service("u", "99", "old"), version.to_owned(), &status, now);
            written
        };
        assert_eq!(url(service("u", "99", "old"), &write("101"), now), "new");
        assert_eq!(url(service("u", "100", "spec edited"), &write("101"), now), "new");
        let written = write("101");
        assert_eq!(url(service("u", "101", "as it came"), &written, now), "as it came");
        assert_eq!(
            url(service("u", "99", "old"), &written, now),
            "old",
            "forgotten once it came"
        );
        assert_eq!(
            url(service("other", "99", "of another"), &write("101"), now),
            "of another"
        );
        assert_eq!(url(service("u", "99", "old"), &write("no number"), now), "new");
        assert_eq!(url(service("u", "b", "later"), &write("no number"), now), "later");
        let late = now + LATENESS_MAX + SignedDuration::from_secs(1);
        assert_eq!(url(service("u", "99", "old"), &write("101"), late), "old");
    }
}
