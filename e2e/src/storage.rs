//! Model files on a PersistentVolume: a folder of the box, bound to a claim in a namespace.
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::Api;
use serde_json::json;

use crate::cluster::Cluster;
use crate::wait::{Seen, await_condition};

/// Label of volumes, which belong to no namespace, with the namespace that they serve.
pub const NAMESPACE_LABEL: &str = "box.tidewright.dev/namespace";

/// Puts files (path below the root of the volume, content) on a volume and binds it to the claim `claim`. May be called again
/// for the same claim: files are replaced, others stay. Pods see the change at once.
pub async fn publish(cluster: &Cluster, namespace: &str, claim: &str, files: &[(&str, &[u8])]) -> Result<()> {
    let name = format!("{namespace}-{claim}");
    let folder = cluster.dir().join("volumes").join(&name);
    for (path, content) in files {
        write(&folder, Path::new(path), content)?;
    }
    // Pods run as nobody in particular and only read.
    open_folders(&folder)?;
    let (modes, size) = (json!(["ReadWriteMany", "ReadOnlyMany"]), json!({"storage": "1Gi"}));
    cluster
        .apply(&[
            json!({
                "apiVersion": "v1", "kind": "PersistentVolume",
                "metadata": {"name": name, "labels": {NAMESPACE_LABEL: namespace}},
                "spec": {
                    "accessModes": modes, "capacity": size, "storageClassName": "", "persistentVolumeReclaimPolicy": "Retain",
                    "hostPath": {"path": folder, "type": "Directory"},
                    "claimRef": {"namespace": namespace, "name": claim},
                },
            }),
            json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "metadata": {"name": claim, "namespace": namespace},
                "spec": {"accessModes": modes, "resources": {"requests": size}, "storageClassName": "", "volumeName": name},
            }),
        ])
        .await?;
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(cluster.client().await?, namespace);
    await_condition(
        &format!("the claim {claim} to be bound"),
        Duration::from_secs(30),
        || async {
            let phase = claims
                .get(claim)
                .await?
                .status
                .and_then(|status| status.phase)
                .unwrap_or_default();
            Ok(if phase == "Bound" {
                Seen::Done(())
            } else {
                Seen::not_yet(phase)
            })
        },
    )
    .await
}

/// Writes beside the file and renames it: a pod that reads sees the old or the new one.
fn write(folder: &Path, path: &Path, content: &[u8]) -> Result<()> {
    let plain = path
        .components()
        .all(|component| matches!(component, Component::Normal(_)));
    ensure!(plain, "{} is no path below a volume", path.display());
    let target = folder.join(path);
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut partial = target.clone().into_os_string();
    partial.push(".partial");
    fs::write(&partial, content).with_context(|| format!("writing {}", target.display()))?;
    fs::set_permissions(&partial, fs::Permissions::from_mode(0o644))?;
    fs::rename(&partial, &target).with_context(|| format!("writing {}", target.display()))
}

fn open_folders(folder: &Path) -> Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_folders(&entry.path())?;
        }
    }
    Ok(())
}
