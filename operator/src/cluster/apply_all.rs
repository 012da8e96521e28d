//! Applies all children of a service, what a pod needs before the pod.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, Client, ResourceExt};
use tidewright_api::labels;

use super::apply::{apply, is_controlled_by, is_current};
use super::caches::Caches;
use super::call::call;
use super::may_write::MayWrite;
use super::replicas;
use crate::domain::objects::{Objects, for_each_kind};
use crate::domain::validated::Validated;
use crate::error::{Error, Result};

/// What applying did.
#[derive(Debug, Default)]
pub struct Applied {
    /// The Deployments as they are now, by pool.
    pub deployments: BTreeMap<String, Arc<Deployment>>,
    /// How many objects were written.
    pub writes: u32,
}

/// Applies what differs. Leadership is asked for before each object: whoever lost it stops in the middle.
///
/// # Errors
/// The first call that fails; what was applied before stays, and the next reconcile goes on from there.
pub async fn apply_all(
    client: &Client,
    caches: &Caches,
    may_write: &MayWrite,
    service: &Validated,
    wanted: &Objects,
) -> Result<Applied> {
    let mut done = Applied::default();
    hand_over_replicas(client, caches, may_write, service, wanted).await?;
    macro_rules! every_kind {
        ($(($field:ident, $kind:ty)),+) => {
            $(for object in &wanted.$field {
                if !may_write.now() {
                    return Err(Error::NotLeader);
                }
                let live = caches.$field.get(&service.namespace, &object.name_any());
                let (now, is_written) = apply(client, object, live).await?;
                done.writes += u32::from(is_written);
                note(&mut done, now);
            })+
        };
    }
    for_each_kind!(every_kind);
    Ok(done)
}

/// Keeps the Deployments among what was applied: the status speaks of them.
fn note<K: std::any::Any + Send + Sync>(done: &mut Applied, object: Arc<K>) {
    let any: Arc<dyn std::any::Any + Send + Sync> = object;
    if let Ok(deployment) = any.downcast::<Deployment>()
        && let Some(pool) = deployment.labels().get(labels::POOL)
    {
        done.deployments.insert(pool.clone(), Arc::clone(&deployment));
    }
}

/// Where a fixed number ends and an autoscaler begins, `replicas` changes hands without changing.
async fn hand_over_replicas(
    client: &Client,
    caches: &Caches,
    may_write: &MayWrite,
    service: &Validated,
    wanted: &Objects,
) -> Result<()> {
    if service.is_fixed {
        return Ok(());
    }
    for (deployment, pool) in wanted.deployments.iter().zip(&service.pools) {
        let name = deployment.name_any();
        if let Some(cached) = caches.deployments.get(&service.namespace, &name)
            && !replicas::were_fixed(&cached)
            && is_current(cached.as_ref(), deployment)?
        {
            continue;
        }
        // It is about to be written, and a cache may be late: dropping our claim on what we have not seen would end all pods but one.
        let api: Api<Deployment> = Api::namespaced(client.clone(), &service.namespace);
        let what = || format!("get Deployment {}/{name}", service.namespace);
        let Some(live) = call(what, api.get_opt(&name)).await? else {
            continue;
        };
        if replicas::were_fixed(&live) && is_controlled_by(&live, &service.owner.uid) {
            if !may_write.now() {
                return Err(Error::NotLeader);
            }
            // An autoscaler does nothing at zero.
            let now = live
                .spec
                .replicas
                .unwrap_or(1)
                .clamp(pool.replicas_min, pool.replicas_max);
            replicas::hand_over(client, &live, now).await?;
        }
    }
    Ok(())
}
