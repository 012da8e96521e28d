//! What people ask for: services, and the decisions that the operator keeps.

use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::coordination::v1::Lease;
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

/// What a pod of the operator has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// `None` where it has nothing to answer.
    pub body: Option<Bytes>,
    /// What people should know of who has answered; none if it was the one that leads.
    pub caveat: Option<String>,
}

/// What the operator in `namespace` answers to `GET path` on its admin port, through the API server and the kubelet, as `kubectl port-forward` does. Every
/// replica decides and keeps its own ledger since its own start, but only what the one that leads has decided is carried out: that one is asked, if it is
/// ready.
///
/// # Errors
/// What the API server says; no pod that is ready.
pub async fn from_operator(client: &Client, namespace: &str, path: &str) -> Result<Answer> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let list = ListParams::default().labels(OPERATOR_SELECTOR);
    let all = call(|| format!("list the operator's pods in {namespace}"), pods.list(&list)).await?;
    let holders = holders(client, namespace).await;
    let Some(Asked { pod, caveat }) = whom(&all.items, &holders) else {
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
        http::StatusCode::OK => Ok(Answer {
            body: Some(body),
            caveat,
        }),
        http::StatusCode::NOT_FOUND => Ok(Answer { body: None, caveat }),
        other => Err(lost(&format!("{other}: {}", String::from_utf8_lossy(&body).trim()))),
    }
}

/// Who holds a Lease in this namespace. That of the operator has the name of its release, which nobody has told us; but who holds it is a pod's name.
async fn holders(client: &Client, namespace: &str) -> Result<Vec<String>> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let all = call(
        || format!("list Leases in {namespace}"),
        leases.list(&ListParams::default()),
    )
    .await?;
    let holders = all.items.into_iter().filter_map(|lease| lease.spec?.holder_identity);
    Ok(holders.collect())
}

/// The pod that is asked.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    pod: String,
    caveat: Option<String>,
}

/// The ready pod that leads; without one, or where nobody may know it, the first that is ready.
fn whom(pods: &[Pod], holders: &Result<Vec<String>>) -> Option<Asked> {
    let ready = || pods.iter().filter(|pod| is_ready(pod)).map(ResourceExt::name_any);
    let leads = |pod: &String| holders.as_ref().is_ok_and(|holders| holders.contains(pod));
    if let Some(pod) = ready().find(leads) {
        return Some(Asked { pod, caveat: None });
    }
    let pod = ready().next()?;
    let caveat = match holders {
        Ok(_) => Some(format!(
            "{pod} answers, and does not lead: what was written was not decided by it"
        )),
        // Of one alone it is clear.
        Err(_) if pods.len() == 1 => None,
        Err(problem) => Some(format!(
            "{pod} answers; whether it leads, and has decided what was written, is not known: {problem}"
        )),
    };
    Some(Asked { pod, caveat })
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, is_ready: bool, is_ending: bool) -> Pod {
        let ready = if is_ready { "True" } else { "False" };
        let deleted = is_ending.then_some("2026-01-01T00:00:00Z");
        serde_json::from_value(json!({
            "metadata": {"name": name, "deletionTimestamp": deleted},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        }))
        .unwrap()
    }

    /// Who is asked, and whether people are told that it does not lead.
    fn asked(pods: &[Pod], holders: &[&str]) -> Option<(String, bool)> {
        let holders = Ok(holders.iter().map(|holder| (*holder).to_owned()).collect());
        whom(pods, &holders).map(|asked| (asked.pod, asked.caveat.is_some()))
    }

    #[test]
    fn the_pod_that_leads_is_asked_wherever_it_stands() {
        let pods = ["a", "b", "c"].map(|name| pod(name, true, false));
        for name in ["a", "b", "c"] {
            let expected = Some((name.to_owned(), false));
            assert_eq!(asked(&pods, &[name]), expected);
            assert_eq!(asked(&pods, &["another-program", name]), expected, "Leases of others");
        }
    }

    #[test]
    fn without_it_the_first_that_is_ready_is_asked_and_named() {
        let first = || Some(("b".to_owned(), true));
        let pods = |of_leader: Pod| [of_leader, pod("b", true, false), pod("c", true, false)];
        assert_eq!(asked(&pods(pod("a", false, false)), &["a"]), first(), "it is not ready");
        assert_eq!(asked(&pods(pod("a", true, true)), &["a"]), first(), "it ends");
        assert_eq!(asked(&pods(pod("a", false, false)), &[]), first(), "nobody leads");
        assert_eq!(asked(&pods(pod("a", false, false)), &["gone"]), first());
        assert_eq!(
            asked(&[pod("b", true, false)], &["gone"]),
            first(),
            "it has not taken over yet"
        );
        assert_eq!(asked(&[pod("a", false, false)], &["a"]), None, "nobody can be asked");
    }

    #[test]
    fn who_may_not_read_leases_is_told_so_where_it_matters() {
        let forbidden = || Err(failed("tidewright-system", "list Leases: forbidden"));
        let two = whom(&[pod("a", true, false), pod("b", true, false)], &forbidden()).unwrap();
        let caveat = two.caveat.unwrap();
        assert!(
            two.pod == "a" && caveat.contains("list Leases: forbidden"),
            "{}: {caveat}",
            two.pod
        );
        let alone = whom(&[pod("a", true, false)], &forbidden()).unwrap();
        assert_eq!(alone.caveat, None);
    }
}
