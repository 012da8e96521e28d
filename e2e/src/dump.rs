//! What there is to know about a namespace when a test in it has failed: objects, events, logs. Never printed otherwise.
use crate::access::Access;
use crate::console::progress;

/// Namespace of the operator.
pub const OPERATOR_NAMESPACE: &str = "tidewright-system";

/// Longest text of one section, in characters: a failure must stay readable.
const SECTION_CHARACTERS: usize = 12_000;

/// Prints the objects, events and logs of a namespace, and the operator's log.
pub async fn namespace(access: &Access, name: &str) {
    progress(format_args!("──── diagnostics of namespace {name} ────"));
    let kinds = "inferenceservices.serving.tidewright.dev,deployments,replicasets,pods,services,horizontalpodautoscalers,configmaps,persistentvolumeclaims";
    section(
        access,
        "objects",
        &["get", kinds, "--namespace", name, "--output=wide", "--ignore-not-found"],
    )
    .await;
    section(
        access,
        "services as stored",
        &[
            "get",
            "inferenceservices.serving.tidewright.dev",
            "--namespace",
            name,
            "--output=yaml",
        ],
    )
    .await;
    section(
        access,
        "events",
        &["get", "events", "--namespace", name, "--sort-by=.lastTimestamp"],
    )
    .await;
    section(
        access,
        "autoscalers",
        &["describe", "horizontalpodautoscalers", "--namespace", name],
    )
    .await;
    section(access, "pods", &["describe", "pods", "--namespace", name]).await;
    logs(access, name, 80).await;
    logs(access, OPERATOR_NAMESPACE, 200).await;
    progress(format_args!("──── end of diagnostics of namespace {name} ────"));
}

async fn logs(access: &Access, namespace: &str, lines: u32) {
    let pods = access
        .kubectl(["get", "pods", "--namespace", namespace, "--output=name"])
        .await
        .unwrap_or_default();
    for pod in pods.lines().take(20) {
        let tail = format!("--tail={lines}");
        let arguments = [
            "logs",
            pod,
            "--namespace",
            namespace,
            "--all-containers",
            "--prefix",
            &tail,
        ];
        section(access, &format!("log of {namespace}/{pod}"), &arguments).await;
    }
}

/// One answer of kubectl, its end if it is long. Diagnostics never fail: what cannot be had is said.
async fn section(access: &Access, title: &str, arguments: &[&str]) {
    let text = access
        .kubectl(arguments)
        .await
        .unwrap_or_else(|error| format!("{error:#}"));
    let skipped = text.chars().count().saturating_sub(SECTION_CHARACTERS);
    let shown: String = text.chars().skip(skipped).collect();
    let cut = if skipped > 0 { "…" } else { "" };
    progress(format_args!("── {title}\n{cut}{}", shown.trim_end()));
}
