//! What ran.
use std::collections::BTreeMap;

use anyhow::Result;
use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::{Api, Client};

use super::ground::Ground;
use crate::{images, paths};

/// Of what ran: those that the cluster says, and the pinned ones of what the demo has brought.
pub async fn versions(ground: &Ground, client: &Client) -> Result<BTreeMap<String, String>> {
    let api_server = client.apiserver_version().await?.git_version;
    let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await?;
    let node = nodes
        .items
        .first()
        .and_then(|node| node.status.as_ref()?.node_info.as_ref());
    let runtime = node.map_or("unknown", |info| info.container_runtime_version.as_str());
    let pinned = |file: &str, module: &str| -> Option<String> {
        let text = std::fs::read_to_string(paths::source_dir().join("cluster").join(file).join("go.mod")).ok()?;
        let line = text.lines().find_map(|line| line.trim().strip_prefix(module))?;
        line.split_whitespace().next().map(str::to_owned)
    };
    let mut versions = BTreeMap::from([
        ("tidewright".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ("kubernetes".to_owned(), api_server.trim_start_matches('v').to_owned()),
        (
            "containerd".to_owned(),
            runtime.trim_start_matches("containerd://").to_owned(),
        ),
    ]);
    let modules = [
        ("etcd", "node", "go.etcd.io/etcd/server/v3 "),
        ("coredns", "node", "github.com/coredns/coredns "),
        ("metrics-server", "kubernetes", "sigs.k8s.io/metrics-server "),
        ("helm", "tools", "helm.sh/helm/v4 "),
    ];
    // Of a cluster of the user's they are not known.
    let brought = match ground {
        Ground::Own(_) | Ground::Up(_) => modules.as_slice(),
        Ground::Existing(_) => &modules[modules.len() - 1..],
    };
    for (name, file, module) in brought {
        versions.insert(
            (*name).to_owned(),
            pinned(file, module).unwrap_or_else(|| "unknown".to_owned()),
        );
    }
    let library = images::onnxruntime().ok();
    let onnxruntime = library.as_ref().and_then(|path| {
        path.file_name()?
            .to_str()?
            .strip_prefix("libonnxruntime.so.")
            .map(str::to_owned)
    });
    versions.insert(
        "onnxruntime".to_owned(),
        onnxruntime.unwrap_or_else(|| "unknown".to_owned()),
    );
    Ok(versions)
}
