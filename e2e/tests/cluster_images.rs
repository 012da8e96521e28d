//! The images that we ship: labelled, not root, and able to run on a read-only root file system in a restricted namespace.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde_json::{Value, json};
use tidewright_e2e::buildah::BASE_IMAGE;
use tidewright_e2e::images::{self, Built};
use tidewright_e2e::namespace::with_temp_namespace;
use tidewright_e2e::options::ClusterOptions;
use tidewright_e2e::revision;
use tidewright_e2e::shared::shared_cluster;
use tidewright_e2e::wait::{Seen, await_condition};

fn blob(image: &Built, digest: &Value) -> Result<Value> {
    let name = digest.as_str().context("no digest")?.replace(':', "/");
    Ok(serde_json::from_slice(&std::fs::read(
        image.layout.join("blobs").join(name),
    )?)?)
}

#[test]
fn images_are_labelled_and_not_root() {
    for image in images::build(&images::named(&[]).unwrap()).unwrap() {
        let index: Value = serde_json::from_slice(&std::fs::read(image.layout.join("index.json")).unwrap()).unwrap();
        let manifest = blob(&image, &index["manifests"][0]["digest"]).unwrap();
        let config = blob(&image, &manifest["config"]["digest"]).unwrap();
        let config = &config["config"];
        assert_eq!(config["User"], "65532:65532", "{}", image.reference);
        if [images::OPERATOR, images::INFERENCE_SERVER].contains(&image.reference.as_str()) {
            let label = |name: &str| &config["Labels"][format!("org.opencontainers.image.{name}")];
            assert_eq!(label("version"), env!("CARGO_PKG_VERSION"));
            assert_eq!(label("revision"), &json!(revision::of_checkout()));
            assert_eq!(label("base.name"), BASE_IMAGE);
        }
        for label in ["title", "description", "licenses"] {
            let value = &config["Labels"][format!("org.opencontainers.image.{label}")];
            assert!(
                value.as_str().is_some_and(|value| !value.is_empty()),
                "{} lacks the label {label}",
                image.reference
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn images_run_without_root_and_without_writing() {
    let options = || {
        let images = images::named(&[])?;
        Ok(ClusterOptions {
            images,
            ..ClusterOptions::for_tests("images")
        })
    };
    let cluster = shared_cluster(options).await.unwrap();
    with_temp_namespace(cluster, "images", |namespace| async move {
        let pods: Api<Pod> = Api::namespaced(namespace.client.clone(), &namespace.name);
        for (name, image) in [("operator", images::OPERATOR), ("server", images::INFERENCE_SERVER), ("redis", images::REDIS), ("prometheus", images::PROMETHEUS)] {
            let spec = json!({
                "restartPolicy": "Never",
                "automountServiceAccountToken": false,
                "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [{
                    "name": "main", "image": image, "imagePullPolicy": "Never", "args": ["--version"],
                    "securityContext": {"readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                }],
            });
            cluster.apply(&[json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace.name}, "spec": spec})]).await?;
            await_condition(&format!("{name} to print its version"), Duration::from_mins(1), || async {
                let status = pods.get(name).await?.status.unwrap_or_default();
                let phase = status.phase.clone().unwrap_or_default();
                Ok(if phase == "Succeeded" { Seen::Done(()) } else { Seen::not_yet(serde_json::to_string(&status)?) })
            })
            .await?;
            let printed = cluster.kubectl(["logs", name, "--namespace", &namespace.name]).await?;
            ensure!(printed.chars().any(|letter| letter.is_ascii_digit()), "{name} printed {printed:?}");
        }
        Ok(())
    })
    .await
    .unwrap();
}
