//! What people ask for: services, and the decisions that the operator keeps.

use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use tidewright_api::InferenceService;

use super::call::call;
use crate::error::{Error, Result};

/// The operator's pods, as its chart labels them.
const OPERATOR_SELECTOR: &str = "app.kubernetes.io/name=tidewright-operator";
/// Where they serve metrics and the ledger.
const ADMIN_PORT: u16 = 8081;
/// A ledger of the largest size that the chart allows, unpacked.
const ANSWER_BYTES_MAX: usize = 1 << 30;
/// For all of it, through the API server.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// One service.
///
/// # Errors
/// What the API server says.
pub async fn service(client: &Client, namespace: &str, name: &str) -> Result<InferenceService> {
    let api: Api<InferenceService> = Api::namespaced(client.clone(), namespace);
    call(|| format!("get InferenceService {namespace}/{name}"), api.get(name)).await
}

/// The services of a namespace, or of all.
///
/// # Errors
/// What the API server says.
pub async fn services(client: &Client, namespace: Option<&str>) -> Result<Vec<InferenceService>> {
    let api: Api<InferenceService> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let all = call(|| "list InferenceServices".to_owned(), api.list(&ListParams::default())).await?;
    Ok(all.items)
}

/// What an operator in `namespace` answers to `GET path` on its admin port, through the API server and the kubelet, as `kubectl port-forward` does. `None`
/// where it has nothing to answer. Every replica decides, so that the first that is ready is asked; each keeps its own ledger since its own start.
///
/// # Errors
/// What the API server says; no pod that is ready.
pub async fn from_operator(client: &Client, namespace: &str, path: &str) -> Result<Option<Bytes>> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let list = ListParams::default().labels(OPERATOR_SELECTOR);
    let all = call(|| format!("list the operator's pods in {namespace}"), pods.list(&list)).await?;
    let ready = all.items.iter().find(|pod| is_ready(pod)).map(ResourceExt::name_any);
    let Some(pod) = ready else {
        return Err(failed(namespace, "no pod of the operator is ready"));
    };
    let mut forward = call(
        || format!("reach pod {namespace}/{pod}"),
        pods.portforward(&pod, &[ADMIN_PORT]),
    )
    .await?;
    let stream = forward
        .take_stream(ADMIN_PORT)
        .ok_or_else(|| failed(namespace, "no stream to the operator's pod"))?;
    let lost = |error: &dyn std::fmt::Display| failed(namespace, &format!("pod {pod}: {error}"));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| lost(&error))?;
    let driver = tokio::spawn(connection);
    let request = http::Request::get(path)
        .header(http::header::HOST, &pod)
        .body(Empty::<Bytes>::new())
        .map_err(|error| lost(&error))?;
    let asking = async {
        let answer = sender.send_request(request).await.map_err(|error| lost(&error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX);
        let body = body.collect().await.map_err(|error| lost(&error))?.to_bytes();
        Ok((status, body))
    };
    let asked = tokio::time::timeout(ANSWER_TIMEOUT, asking).await;
    driver.abort();
    let (status, body) = asked.unwrap_or_else(|_| Err(lost(&"no answer in time")))?;
    match status {
        http::StatusCode::OK => Ok(Some(body)),
        http::StatusCode::NOT_FOUND => Ok(None),
        other => Err(lost(&format!("{other}: {}", String::from_utf8_lossy(&body).trim()))),
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let mut all = conditions.into_iter().flatten();
    pod.metadata.deletion_timestamp.is_none() && all.any(|c| c.type_ == "Ready" && c.status == "True")
}

fn failed(namespace: &str, problem: &str) -> Error {
    Error::Io {
        what: format!("the operator in namespace {namespace}"),
        source: std::io::Error::other(problem.to_owned()),
    }
}
