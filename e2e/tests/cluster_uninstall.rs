//! Removing what helm installed leaves nothing that the operator made for itself, and keeps what serves until its definition goes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use tidewright_e2e::cluster::Cluster;
use tidewright_e2e::dump::{self, OPERATOR_NAMESPACE};
use tidewright_e2e::options::ClusterOptions;
use tidewright_e2e::wait::{Seen, await_condition};
use tidewright_e2e::{images, install};

/// Kinds that come and go by themselves, or are views of others.
const NOISE: [&str; 6] = [
    "events",
    "events.events.k8s.io",
    "metrics.k8s.io",
    "componentstatuses",
    "leases.coordination.k8s.io/kube",
    "endpointslices",
];

/// `KIND NAMESPACE NAME` of everything that can be listed.
async fn everything(cluster: &Cluster) -> Result<BTreeSet<String>> {
    let kinds = cluster
        .kubectl(["api-resources", "--verbs=list", "--output=name"])
        .await?;
    let kinds: Vec<&str> = kinds
        .lines()
        .filter(|kind| !NOISE.iter().any(|noise| kind.contains(noise)))
        .collect();
    let columns = "--output=custom-columns=KIND:.kind,NAMESPACE:.metadata.namespace,NAME:.metadata.name";
    let all = cluster
        .kubectl([
            "get",
            &kinds.join(","),
            "--all-namespaces",
            "--no-headers",
            "--ignore-not-found",
            columns,
        ])
        .await?;
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    // Nodes renew their own Leases; the API server's has a new name at each start.
    Ok(all
        .lines()
        .map(words)
        .filter(|line| !line.starts_with("Lease kube-"))
        .collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uninstalling_leaves_nothing_of_the_operator() {
    let mut options = ClusterOptions::for_tests("uninstall");
    options.images = images::named(&["operator".into(), "inference-server".into(), "redis".into()]).unwrap();
    let cluster = Cluster::start(options).await.unwrap();
    if let Err(error) = scenario(&cluster).await {
        dump::namespace(&cluster, OPERATOR_NAMESPACE).await;
        dump::namespace(&cluster, "default").await;
        panic!("{error:#}");
    }
}

async fn scenario(cluster: &Cluster) -> Result<()> {
    // helm makes a namespace if told to, and never removes one.
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
        "name": OPERATOR_NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    cluster.apply(&[namespace]).await?;
    await_condition("the namespace's own objects", Duration::from_secs(20), || async {
        let all = everything(cluster).await?;
        let ready = all.contains(&format!("ConfigMap {OPERATOR_NAMESPACE} kube-root-ca.crt"));
        Ok(if ready {
            Seen::Done(())
        } else {
            Seen::not_yet("no kube-root-ca.crt")
        })
    })
    .await?;
    let before = everything(cluster).await?;

    install::tidewright(cluster, &json!({})).await?;
    let service = json!({"apiVersion": "serving.tidewright.dev/v1alpha1", "kind": "InferenceService",
        "metadata": {"name": "kept", "namespace": "default"},
        "spec": {"predictor": {"model": {"modelFormat": {"name": "onnx"}, "storageUri": "file:///models/none.onnx"}}}});
    cluster.apply(&[service]).await?;
    let made = await_condition(
        "what the operator makes for itself and for the service",
        Duration::from_secs(60),
        || async {
            let all = everything(cluster).await?;
            let wanted = [
                format!("Lease {OPERATOR_NAMESPACE} tidewright-operator"),
                format!("Secret {OPERATOR_NAMESPACE} tidewright-metrics-api-tls"),
                "APIService <none> v1beta1.custom.metrics.k8s.io".to_owned(),
                "APIService <none> v1beta2.custom.metrics.k8s.io".to_owned(),
                "Deployment default kept-cpu".to_owned(),
                "HorizontalPodAutoscaler default kept-cpu".to_owned(),
            ];
            Ok(match wanted.iter().find(|object| !all.contains(*object)) {
                None => Seen::Done(all),
                Some(missing) => Seen::not_yet(format!("{missing} is missing")),
            })
        },
    )
    .await?;
    assert!(made.len() > before.len() + 20, "{made:#?}");

    install::uninstall(cluster, "tidewright", OPERATOR_NAMESPACE).await?;
    let ours = |object: &&String| {
        object.contains(OPERATOR_NAMESPACE) || object.contains("tidewright") || object.contains("custom.metrics.k8s.io")
    };
    await_condition("the operator's objects are gone", Duration::from_secs(60), || async {
        let all = everything(cluster).await?;
        let left: Vec<&String> = all
            .difference(&before)
            .filter(ours)
            // The definitions are another release, and stay.
            .filter(|object| !object.contains("tidewright-crds") && !object.contains("serving.tidewright.dev"))
            .collect();
        Ok(if left.is_empty() {
            Seen::Done(())
        } else {
            Seen::not_yet(format!("{left:?}"))
        })
    })
    .await?;
    // What serves goes on serving.
    let all = everything(cluster).await?;
    for kept in [
        "InferenceService default kept",
        "Deployment default kept-cpu",
        "Service default kept",
    ] {
        assert!(all.contains(kept), "{kept} went with the operator: {all:#?}");
    }

    // The keep policy: the definition outlives its release.
    install::uninstall(cluster, "tidewright-crds", OPERATOR_NAMESPACE).await?;
    assert!(
        everything(cluster).await?.contains("InferenceService default kept"),
        "the definition went with its release"
    );
    // As the README says. A definition that goes within half a minute of its coming, before the garbage collector watches its kind, leaves
    // what its objects own to be found by chance; a foreground deletion waits for the collector.
    cluster
        .kubectl([
            "delete",
            "isvc",
            "--all",
            "--all-namespaces",
            "--cascade=foreground",
            "--timeout=90s",
        ])
        .await?;
    cluster
        .kubectl([
            "delete",
            "crd",
            "inferenceservices.serving.tidewright.dev",
            "--timeout=60s",
        ])
        .await?;
    await_condition("everything is as before", Duration::from_secs(60), || async {
        let all = everything(cluster).await?;
        let left: Vec<&String> = all.difference(&before).collect();
        Ok(if left.is_empty() {
            Seen::Done(())
        } else {
            Seen::not_yet(format!("{left:?}"))
        })
    })
    .await?;
    Ok(())
}
