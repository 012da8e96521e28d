//! The ClusterRole of our installation. It owns what the operator makes for itself, so that uninstalling, which removes the role, removes the rest.

use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Api, Client};

use crate::cluster::call::call;
use crate::error::Result;

/// The role as an owner, if one is named and exists. Cluster-scoped, it may own objects of every scope.
///
/// # Errors
/// The call failed.
pub async fn of_installation(client: &Client, cluster_role: Option<&str>) -> Result<Option<OwnerReference>> {
    let Some(name) = cluster_role else {
        return Ok(None);
    };
    let api: Api<ClusterRole> = Api::all(client.clone());
    let found = call(|| format!("get ClusterRole {name}"), api.get_opt(name)).await?;
    Ok(found.and_then(reference))
}

/// The role as an owner.
pub fn reference(role: ClusterRole) -> Option<OwnerReference> {
    Some(OwnerReference {
        api_version: "rbac.authorization.k8s.io/v1".to_owned(),
        kind: "ClusterRole".to_owned(),
        name: role.metadata.name?,
        uid: role.metadata.uid?,
        ..OwnerReference::default()
    })
}
