//! The operator with the rights that the chart grants, and no others: what the chart forgets fails here, not at the user's.
use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::access::Access;
use crate::api_proxy::ApiProxy;
use crate::control_plane::ControlPlane;
use crate::dump::OPERATOR_NAMESPACE;
use crate::fixtures::objects;
use crate::operator_process::create_namespace;
use crate::paths;

/// Roles and bindings of the chart, as helm renders them for the release `tidewright` with further `values`.
pub async fn rendered(cluster: &Access, values: &str) -> Result<Vec<Value>> {
    let chart = paths::repository_dir().join("charts/tidewright").display().to_string();
    let namespace = format!("--namespace={OPERATOR_NAMESPACE}");
    let set = format!("--set=images.operator=a,images.server=b,images.redis=c{values}");
    let arguments = [
        "template",
        "tidewright",
        &chart,
        &namespace,
        "--show-only=templates/rbac-cluster.yaml",
        "--show-only=templates/rbac-namespace.yaml",
        &set,
    ];
    objects(&cluster.program("helm", arguments, None).await?)
}

/// Grants them, and starts a proxy behind which the operator is the ServiceAccount that has them. Says the name of the ClusterRole, too.
pub async fn proxy(cluster: &ControlPlane, values: &str) -> Result<(ApiProxy, String)> {
    let (user, role) = grant(cluster, values).await?;
    let proxy = ApiProxy::start(cluster, cluster.host_address(), Some(&user))?;
    Ok((proxy, role))
}

async fn grant(cluster: &Access, values: &str) -> Result<(String, String)> {
    let objects = rendered(cluster, values).await?;
    let of_kind = |kind: &str| objects.iter().find(|object| object["kind"] == kind);
    let role = of_kind("ClusterRole").and_then(|role| role["metadata"]["name"].as_str());
    let account = of_kind("ClusterRoleBinding").and_then(|binding| binding["subjects"][0]["name"].as_str());
    let (role, account) = role.zip(account).context("no ClusterRole that is bound in the chart")?;
    let names = (
        format!("system:serviceaccount:{OPERATOR_NAMESPACE}:{account}"),
        role.to_owned(),
    );
    create_namespace(cluster).await?;
    cluster.apply(&objects).await?;
    Ok(names)
}
