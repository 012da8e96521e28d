//! Nodes and pods without containers, by KWOK: for tests that need many of them, or quickly, and run nothing.
use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::control_plane::{ADMINS, ControlPlane};
use crate::options::ClusterOptions;
use crate::pki::Identity;
use crate::wait::{Seen, await_condition};
use crate::{node, paths};

/// Starts the scheduler, KWOK and as many nodes as the options want.
pub async fn start(control_plane: &ControlPlane, options: &ClusterOptions) -> Result<()> {
    if options.fake_nodes == 0 {
        return Ok(());
    }
    control_plane.run("kube-scheduler", node::scheduler(control_plane)?, options)?;
    let kubeconfig = control_plane.write_kubeconfig(
        "kwok",
        Identity {
            user: "kwok",
            group: Some(ADMINS),
        },
    )?;
    let arguments = vec![
        format!("--kubeconfig={}", kubeconfig.display()),
        format!(
            "--config={}",
            paths::source_dir().join("cluster/kwok-stages.yaml").display()
        ),
        "--manage-all-nodes=true".to_owned(),
        format!("--node-ip={}", control_plane.network().node()),
        format!("--cidr={}", control_plane.network().pods()),
    ];
    control_plane.run("kwok", arguments, options)?;
    let nodes: Vec<Value> = (0..options.fake_nodes).map(fake_node).collect();
    control_plane.apply(&nodes).await.context("creating the fake nodes")?;
    let nodes: Api<Node> = Api::all(control_plane.client().await?);
    await_condition("the fake nodes to be Ready", Duration::from_mins(1), || async {
        let ready = nodes
            .list(&ListParams::default())
            .await?
            .items
            .iter()
            .filter(|node| is_ready(node))
            .count();
        Ok(if ready >= options.fake_nodes as usize {
            Seen::Done(())
        } else {
            Seen::not_yet(format!("{ready} ready"))
        })
    })
    .await
    .with_context(|| control_plane.log_tail("kwok"))
}

fn is_ready(node: &Node) -> bool {
    let conditions = node
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    conditions
        .iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn fake_node(index: u32) -> Value {
    let name = format!("fake-{index}");
    let size = json!({"cpu": "32", "memory": "256Gi", "pods": "110"});
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", "type": "kwok"}},
        "status": {"allocatable": size, "capacity": size},
    })
}
