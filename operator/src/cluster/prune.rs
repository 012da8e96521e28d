//! Deletes what we own and no longer want.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::{Client, ResourceExt};

use super::apply::{Child, delete};
use super::caches::{Cache, Caches};
use super::may_write::MayWrite;
use crate::domain::objects::{Objects, for_each_kind};
use crate::domain::published::ServiceKey;
use crate::error::{Error, Result};

/// Deletes the autoscalers that are not wanted. Before anything is applied: a fixed number must not be fought over.
///
/// # Errors
/// The first call that fails.
pub async fn prune_autoscalers(
    client: &Client,
    caches: &Caches,
    may_write: &MayWrite,
    key: &ServiceKey,
    owner_uid: &str,
    wanted: &Objects,
) -> Result<u32> {
    prune_kind(
        client,
        &caches.autoscalers,
        may_write,
        key,
        owner_uid,
        &wanted.autoscalers,
        None,
    )
    .await
}

/// Deletes everything that is not wanted. A ConfigMap stays while a pod mounts it: a container that restarts reads it again. `None` for
/// `pods` where they have not been listed, or where another may come that mounts it: then any ConfigMap may be mounted.
///
/// # Errors
/// The first call that fails.
pub async fn prune(
    client: &Client,
    caches: &Caches,
    may_write: &MayWrite,
    key: &ServiceKey,
    owner_uid: &str,
    wanted: &Objects,
    pods: Option<&[Arc<Pod>]>,
) -> Result<u32> {
    let mounted = pods.map(mounted_config_maps);
    let mut deleted = 0;
    macro_rules! every_kind {
        ($(($field:ident, $kind:ty)),+) => {
            $(deleted += prune_kind(client, &caches.$field, may_write, key, owner_uid, &wanted.$field, mounted.as_ref()).await?;)+
        };
    }
    for_each_kind!(every_kind);
    Ok(deleted)
}

async fn prune_kind<K: Child>(
    client: &Client,
    cache: &Cache<K>,
    may_write: &MayWrite,
    key: &ServiceKey,
    owner_uid: &str,
    wanted: &[K],
    mounted: Option<&BTreeSet<String>>,
) -> Result<u32> {
    let wanted: BTreeSet<String> = wanted.iter().map(ResourceExt::name_any).collect();
    let is_config_map = K::kind(&()) == "ConfigMap";
    let mut deleted = 0;
    for object in cache.controlled(key, owner_uid) {
        let name = object.name_any();
        let is_kept = wanted.contains(&name)
            || (is_config_map && may_be_mounted(&name, mounted))
            || object.meta().deletion_timestamp.is_some();
        if !is_kept {
            if !may_write.now() {
                return Err(Error::NotLeader);
            }
            tracing::info!(service = %key, kind = super::apply::kind_name::<K>(), name, "deleting what is no longer wanted");
            delete(client, object.as_ref()).await?;
            deleted += 1;
        }
    }
    Ok(deleted)
}

fn may_be_mounted(config_map: &str, mounted: Option<&BTreeSet<String>>) -> bool {
    mounted.is_none_or(|mounted| mounted.contains(config_map))
}

fn mounted_config_maps(pods: &[Arc<Pod>]) -> BTreeSet<String> {
    pods.iter()
        .filter_map(|pod| pod.spec.as_ref()?.volumes.as_ref())
        .flatten()
        .filter_map(|volume| Some(volume.config_map.as_ref()?.name.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_config_map_stays_while_a_pod_mounts_it_or_pods_are_unknown() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "digits-1"}, "spec": {"containers": [],
            "volumes": [{"name": "config", "configMap": {"name": "digits-old"}}, {"name": "scratch", "emptyDir": {}}]}}))
        .unwrap();
        let mounted = mounted_config_maps(&[Arc::new(pod)]);
        assert!(may_be_mounted("digits-old", Some(&mounted)));
        assert!(!may_be_mounted("digits-older", Some(&mounted)));
        assert!(may_be_mounted("digits-older", None));
    }
}
