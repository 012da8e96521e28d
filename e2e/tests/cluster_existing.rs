//! The demo's other ground: a cluster that is there already and that the user has named. A second box plays it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Result, ensure};
use serde_json::json;
use tidewright_e2e::access::Access;
use tidewright_e2e::cluster::Cluster;
use tidewright_e2e::demo::ground::{Ground, Images};
use tidewright_e2e::demo::{NAMESPACE, SERVICE};
use tidewright_e2e::load::{Load, LoadOptions, digits};
use tidewright_e2e::models::Models;
use tidewright_e2e::options::ClusterOptions;
use tidewright_e2e::{dump, fixtures, images};

/// What its administrator has seen to: a volume for whoever claims one.
async fn offer_a_volume(cluster: &Cluster) -> Result<()> {
    let folder = cluster.dir().join("volumes/any");
    fs::create_dir_all(&folder)?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777))?;
    let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "any"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "persistentVolumeReclaimPolicy": "Retain",
        "hostPath": {"path": folder, "type": "Directory"}}});
    cluster.apply(&[volume]).await
}

async fn namespaces(cluster: &Cluster) -> Result<String> {
    cluster
        .kubectl(["get", "namespaces,crds,clusterroles", "--output=name"])
        .await
}

async fn play(cluster: &Cluster) -> Result<()> {
    offer_a_volume(cluster).await?;
    let before = namespaces(cluster).await?;
    let kubeconfig = || Some(OsString::from(cluster.kubeconfig()));
    let context = Some(format!("tidewright-{}", cluster.name()));
    // Only who names it means it.
    for nobody in [None, Some(String::new())] {
        ensure!(Access::existing(nobody, kubeconfig())?.is_none());
    }
    ensure!(Access::existing(Some("another".to_owned()), kubeconfig()).is_err());
    ensure!(Access::existing(context.clone(), None).is_err());
    let access = Access::existing(context, kubeconfig())?.expect("it is named");

    let ground = Ground::on(access.clone(), Images::of_boxes()).await?;
    let prometheus = ground.install_prometheus().await?;
    ground.install_operator().await?;
    let client = ground.client().await?;
    let classifier = tokio::task::spawn_blocking(Models::ensure).await??.digits_wide;
    ground.serve(&client, &classifier).await?;
    let address = ground.address(&client, NAMESPACE, SERVICE).await?;
    let requests = digits::single(&classifier);
    let totals = Load::once(&LoadOptions::to(address), &requests[..20]).await.totals;
    ensure!(totals.ok == 20, "{totals:?}");
    let known = fixtures::query(prometheus, "vector(1)").await?;
    ensure!(known == Some(1.0), "{known:?}");

    // What is there might be somebody's: it is not taken over, and not removed.
    let refusal = Ground::on(access, Images::of_boxes()).await.unwrap_err();
    ensure!(format!("{refusal:#}").contains("already"), "{refusal:#}");
    ground.leave().await?;
    let after = namespaces(cluster).await?;
    ensure!(after == before, "{after}\ninstead of\n{before}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_cluster_is_used_only_by_name_and_left_as_it_was() {
    let names = ["prometheus", "operator", "inference-server"].map(str::to_owned);
    let options = ClusterOptions {
        images: images::named(&names).unwrap(),
        ..ClusterOptions::for_tests("existing")
    };
    let cluster = Cluster::start(options).await.unwrap();
    let outcome = play(&cluster).await;
    if let Err(error) = outcome {
        dump::namespace(&cluster, NAMESPACE).await;
        panic!("{error:#}");
    }
}
