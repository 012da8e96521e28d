//! The node of the box: containers run, services answer, and the machine can be called from inside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tidewright_e2e::console::progress;
use tidewright_e2e::namespace::with_temp_namespace;
use tidewright_e2e::options::ClusterOptions;
use tidewright_e2e::shared::shared_cluster;
use tidewright_e2e::wait::{Seen, await_condition};
use tidewright_e2e::{images, storage};

/// Bar on an idle machine with two cores. The machine of a test has other work, so that it gets three times that.
const CLUSTER_BAR: Duration = Duration::from_secs(15);
const BUSY_MACHINE: u32 = 3;

#[allow(clippy::unnecessary_wraps, reason = "the shape that shared_cluster takes")]
fn options_of_cluster() -> Result<ClusterOptions> {
    Ok(ClusterOptions {
        images: vec![images::redis()],
        ..ClusterOptions::for_tests("box")
    })
}

fn container(name: &str, arguments: &[&str]) -> Value {
    json!({
        "name": name, "image": images::REDIS, "args": arguments,
        "securityContext": {"readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_with_native_sidecar_serves_through_its_service() {
    let cluster = shared_cluster(options_of_cluster).await.unwrap();
    progress(format_args!(
        "cluster ready after {:.1} s",
        cluster.ready_after.as_secs_f64()
    ));
    assert!(
        cluster.ready_after < CLUSTER_BAR * BUSY_MACHINE,
        "{:?}",
        cluster.ready_after
    );
    with_temp_namespace(cluster, "serves", |namespace| async move {
        let name = namespace.name.as_str();
        storage::publish(cluster, name, "models", &[("digits/model.txt", b"weights")]).await?;
        let mut sidecar = container("sidecar", &["--port", "6380", "--save", ""]);
        sidecar["restartPolicy"] = json!("Always");
        let mut main = container("main", &["--save", "", "--protected-mode", "no"]);
        main["readinessProbe"] = json!({"tcpSocket": {"port": 6379}, "periodSeconds": 1});
        main["volumeMounts"] = json!([{"name": "models", "mountPath": "/mnt/models", "readOnly": true}]);
        let labels = json!({"app": "web"});
        let pod = json!({
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "automountServiceAccountToken": false,
            "initContainers": [sidecar], "containers": [main],
            "volumes": [{"name": "models", "persistentVolumeClaim": {"claimName": "models", "readOnly": true}}],
        });
        let spec = json!({"replicas": 2, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}});
        cluster
            .apply(&[
                json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": name}, "spec": spec}),
                json!({
                    "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": name},
                    "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 6379}]},
                }),
            ])
            .await?;
        cluster.kubectl(["rollout", "status", "deployment/web", "--namespace", name, "--timeout=60s"]).await?;

        let host = format!("web.{name}.svc.cluster.local");
        let exec = ["exec", "deployment/web", "--namespace", name, "--container", "main", "--"];
        // The proxy learns of ready endpoints a moment after the Deployment is complete.
        await_condition("an answer by name and Service", Duration::from_secs(20), || async {
            let answer = cluster.kubectl(exec.into_iter().chain(["redis-cli", "-h", &host, "-p", "80", "ping"])).await?;
            Ok(if answer.trim() == "PONG" { Seen::Done(()) } else { Seen::not_yet(answer) })
        })
        .await?;
        let model = cluster.kubectl(exec.into_iter().chain(["cat", "/mnt/models/digits/model.txt"])).await?;
        ensure!(model == "weights", "{model}");
        // The keeper blocks signals. If pods inherited that, they would not hear SIGTERM and never drain.
        let status = cluster.kubectl(exec.into_iter().chain(["cat", "/proc/1/status"])).await?;
        ensure!(status.lines().any(|line| line == "SigBlk:\t0000000000000000"), "{status}");
        let log = cluster.kubectl(["logs", "deployment/web", "--namespace", name, "--container", "main"]).await?;
        ensure!(log.contains("Ready to accept connections"), "{log}");
        let address = cluster.kubectl(["get", "service", "web", "--namespace", name, "--output=jsonpath={.spec.clusterIP}"]).await?;
        tokio::net::TcpStream::connect((address.as_str(), 80)).await?;
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_listens_on_the_machine_can_be_called_from_a_pod() {
    let cluster = shared_cluster(options_of_cluster).await.unwrap();
    let listener = tokio::net::TcpListener::bind((cluster.host_address(), 0))
        .await
        .unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let host = cluster.host_address().to_string();
    with_temp_namespace(cluster, "calls-out", |namespace| async move {
        let name = namespace.name.as_str();
        let spec = json!({
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container("main", &["--save", "", "--replicaof", &host, &port])],
        });
        cluster.apply(&[json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "caller", "namespace": name}, "spec": spec})]).await?;
        let (_, caller) = tokio::time::timeout(Duration::from_mins(1), listener.accept()).await??;
        progress(format_args!("called by {caller}"));
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_are_not_restricted_are_refused() {
    let cluster = shared_cluster(options_of_cluster).await.unwrap();
    with_temp_namespace(cluster, "restricted", |namespace| async move {
        let spec = json!({"containers": [{"name": "root", "image": images::REDIS}]});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "root", "namespace": namespace.name}, "spec": spec});
        let error = cluster.apply(&[pod]).await.expect_err("a privileged pod was admitted").to_string();
        ensure!(error.contains("violates PodSecurity"), "{error}");
        Ok(())
    })
    .await
    .unwrap();
}
