//! Applying one InferenceService gives a served model, in restricted namespaces, and `kubectl get isvc` says so.
use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::ListParams;
use kube::{Api, Client};
use serde_json::json;
use tidewright_e2e::dump::OPERATOR_NAMESPACE;
use tidewright_e2e::load::{Load, LoadOptions, digits};
use tidewright_e2e::wait::{Seen, await_condition};

use crate::look::{assert_nothing_failed, await_reason};
use crate::stage::{READY, SOON, scene};

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_digit_is_answered_and_kubectl_says_what_runs() {
    scene("serving", |scene| async move {
        let client = &scene.client;
        let digest = &scene.models.digits.digest;
        let service = scene
            .service("digits", "digits.onnx")
            .with("/model/digest", json!(digest))
            .request_rate("100");
        service.apply(client).await?;
        service.ready(client, READY).await?;
        let address = service.address(client).await?;
        let report = Load::once(&LoadOptions::to(address), &digits::single(&scene.models.digits)).await;
        assert_nothing_failed(&report)?;
        ensure!(report.totals.ok == scene.models.digits.images.len() as u64);

        await_reason(client, &service, ("ScalingReady", "True", "Scaling"), SOON).await?;
        let table = scene.kubectl(&["get", "isvc"]).await?;
        let rows: Vec<&str> = table.lines().collect();
        ensure!(rows.len() == 2, "{table}");
        ensure!(
            words(rows[0]) == ["NAME", "URL", "READY", "REASON", "GPU", "CPU", "QUEUE", "AGE"],
            "{table}"
        );
        let url = format!("http://digits.{}.svc.cluster.local", scene.namespace);
        ensure!(
            words(rows[1])[..7] == ["digits", &url, "True", "Ready", "-", "1/1", "0"],
            "{table}"
        );

        let table = scene.kubectl(&["get", "tide", "digits", "--output=wide"]).await?;
        let rows: Vec<&str> = table.lines().collect();
        ensure!(
            words(rows[0])[8..] == ["MODEL", "DIGEST", "DESIRED", "LIMITEDBY"],
            "{table}"
        );
        ensure!(
            words(rows[1])[8..11] == ["pvc://models/digits.onnx", digest, "1"],
            "{table}"
        );
        let all = scene.kubectl(&["get", "all"]).await?;
        ensure!(all.contains("inferenceservice.serving.tidewright.dev/digits"), "{all}");
        Ok(())
    })
    .await;
}

async fn is_restricted(client: &Client, name: &str) -> Result<bool> {
    let namespace = Api::<Namespace>::all(client.clone()).get(name).await?;
    let labels = namespace.metadata.labels.unwrap_or_default();
    Ok(labels.get("pod-security.kubernetes.io/enforce").map(String::as_str) == Some("restricted"))
}

#[tokio::test(flavor = "multi_thread")]
async fn operator_servers_and_redis_run_where_only_restricted_pods_may() {
    scene("restricted", |scene| async move {
        let client = &scene.client;
        let service = scene
            .service("digits", "digits.onnx")
            .with_spec("/cache", json!({"redis": {"mode": "Sidecar", "maxMemory": "16Mi"}}));
        service.apply(client).await?;
        service.ready(client, READY).await?;
        // Nobody pinned a model: what is served is found out.
        await_condition("the digest of what is served", SOON, || async {
            let path = "--output=jsonpath={.status.model.digest}";
            let shown = scene.kubectl(&["get", "isvc", "digits", path]).await?;
            Ok(if shown == scene.models.digits.digest {
                Seen::Done(())
            } else {
                Seen::not_yet(format!("{shown:?}"))
            })
        })
        .await?;
        for namespace in [&scene.namespace, OPERATOR_NAMESPACE] {
            ensure!(is_restricted(client, namespace).await?, "{namespace} admits every pod");
            let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
            let pods = pods.list(&ListParams::default()).await?.items;
            ensure!(!pods.is_empty(), "no pod in {namespace}");
            for pod in pods {
                let spec = pod.spec.context("a pod without spec")?;
                let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
                for container in containers {
                    let security = container.security_context.clone().unwrap_or_default();
                    ensure!(
                        security.read_only_root_filesystem == Some(true),
                        "{} may write its own files",
                        container.name
                    );
                    let resources = container.resources.clone().unwrap_or_default();
                    ensure!(
                        resources.limits.is_some_and(|limits| limits.contains_key("memory")),
                        "{} may use all memory",
                        container.name
                    );
                }
                if *namespace == scene.namespace {
                    ensure!(
                        spec.automount_service_account_token == Some(false),
                        "a server holds a token"
                    );
                }
            }
        }
        // The namespace means it: the same pod with one right more is refused.
        let root = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "root", "namespace": scene.namespace},
            "spec": {"containers": [{"name": "main", "image": "localhost/pause:1"}]}});
        let refusal = scene.cluster.apply(&[root]).await;
        ensure!(
            refusal
                .as_ref()
                .is_err_and(|error| format!("{error:#}").contains("violates PodSecurity")),
            "{refusal:?}"
        );
        Ok(())
    })
    .await;
}
