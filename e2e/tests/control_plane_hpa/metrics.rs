//! A metrics API that follows a script: one step per sync of an autoscaler, which it notes with what the autoscaler saw of the scale.
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::{Api, Client};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tidewright_e2e::clock;
use tidewright_e2e::control_plane::ControlPlane;
use tidewright_e2e::wait::{Seen, await_condition};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::PATIENCE;
use super::cases::Case;

const GROUP: &str = "custom.metrics.k8s.io";
const VERSION: &str = "v1beta2";

/// One sync of an autoscaler, as it began.
#[derive(Debug)]
pub struct Sync {
    pub at_ns: i64,
    pub spec_replicas: i32,
    pub status_replicas: i32,
    /// Whether the sync before this one could not write the scale, because somebody had written the Deployment meanwhile.
    pub is_after_conflict: bool,
}

struct Shared {
    client: Client,
    namespace: String,
    steps: BTreeMap<String, Vec<Vec<Option<i64>>>>,
    syncs: Mutex<BTreeMap<String, Vec<Arc<Sync>>>>,
}

pub struct MetricsApi {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl MetricsApi {
    pub async fn start(cluster: &ControlPlane, namespace: &str, cases: &[Case]) -> Result<Self> {
        let listener = TcpListener::bind((cluster.host_address(), 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            client: cluster.client().await?,
            namespace: namespace.to_owned(),
            steps: cases
                .iter()
                .map(|case| (case.name.clone(), case.steps.clone()))
                .collect(),
            syncs: Mutex::default(),
        });
        let tls = acceptor()?;
        let answering = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection(stream, tls.clone(), Arc::clone(&answering)));
            }
        });
        Ok(Self { address, shared })
    }

    /// Leads the API server to it, and waits until it is led.
    pub async fn register(&self, cluster: &ControlPlane) -> Result<()> {
        let (name, namespace) = ("scripted-metrics", self.shared.namespace.as_str());
        let port = self.address.port();
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace},
            "spec": {"ports": [{"port": 443, "targetPort": port}]}});
        let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": name, "namespace": namespace, "labels": {"kubernetes.io/service-name": name}},
            "endpoints": [{"addresses": [self.address.ip().to_string()]}], "ports": [{"port": port}]});
        let api_service = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
            "metadata": {"name": format!("{VERSION}.{GROUP}")},
            "spec": {"group": GROUP, "version": VERSION, "groupPriorityMinimum": 100, "versionPriority": 100,
                "insecureSkipTLSVerify": true, "service": {"name": name, "namespace": namespace, "port": 443}}});
        cluster.apply(&[service, slice, api_service]).await?;
        await_condition("the metrics API to be discovered", PATIENCE, || async {
            let versions = cluster.kubectl(["api-versions"]).await?;
            Ok(if versions.contains(&format!("{GROUP}/{VERSION}")) {
                Seen::Done(())
            } else {
                Seen::not_yet("not yet")
            })
        })
        .await
    }

    pub fn syncs(&self, case: &str) -> Vec<Arc<Sync>> {
        self.shared.syncs.lock().unwrap().get(case).cloned().unwrap_or_default()
    }
}

fn acceptor() -> Result<TlsAcceptor> {
    let made = rcgen::generate_simple_self_signed(vec!["scripted-metrics".to_owned()])?;
    let certificate = CertificateDer::from(made.cert.der().to_vec());
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn connection(stream: TcpStream, tls: TlsAcceptor, shared: Arc<Shared>) {
    let Ok(stream) = tls.accept(stream).await else { return };
    let service = service_fn(move |request: Request<Incoming>| {
        let shared = Arc::clone(&shared);
        async move {
            let (status, body) = match answer(&shared, request.uri().path()).await {
                Ok(Some(body)) => (StatusCode::OK, body),
                Ok(None) => (StatusCode::NOT_FOUND, failure(404, "NotFound", "not there")),
                Err(error) => (
                    StatusCode::INTERNAL_SERVER_ERROR,
                    failure(500, "InternalError", &error.to_string()),
                ),
            };
            let response = Response::builder()
                .status(status)
                .header(http::header::CONTENT_TYPE, "application/json")
                .body(body.to_string());
            Ok::<_, Infallible>(response.unwrap())
        }
    });
    let _ = auto::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn failure(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message, "code": code})
}

async fn answer(shared: &Shared, path: &str) -> Result<Option<Value>> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    Ok(match parts.as_slice() {
        ["apis", GROUP] => Some(json!({"kind": "APIGroup", "apiVersion": "v1", "name": GROUP,
            "versions": [{"groupVersion": format!("{GROUP}/{VERSION}"), "version": VERSION}],
            "preferredVersion": {"groupVersion": format!("{GROUP}/{VERSION}"), "version": VERSION}})),
        ["apis", GROUP, VERSION] => Some(
            json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("{GROUP}/{VERSION}"),
            "resources": [{"name": "services/load-0", "singularName": "", "namespaced": true, "kind": "MetricValueList", "verbs": ["get"]}]}),
        ),
        ["apis", GROUP, VERSION, "namespaces", _, "services", case, metric] => {
            let index: usize = metric.strip_prefix("load-").context("no such metric")?.parse()?;
            let now = clock::time_of_day()?.to_string();
            shared.value(case, index).await?.map(|value| {
                json!({"kind": "MetricValueList", "apiVersion": format!("{GROUP}/{VERSION}"), "metadata": {}, "items": [{
                    "describedObject": {"kind": "Service", "namespace": shared.namespace, "name": case, "apiVersion": "v1"},
                    "metric": {"name": metric}, "timestamp": now, "value": format!("{value}m")}]})
            })
        }
        _ => None,
    })
}

impl Shared {
    /// The first metric of an autoscaler begins a sync. The controller waits for this answer: what is read now is what it goes by.
    async fn value(&self, case: &str, index: usize) -> Result<Option<i64>> {
        let steps = self.steps.get(case).context("no such case")?;
        if index == 0 {
            let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), &self.namespace);
            let at_ns = i64::try_from(clock::time_of_day()?.as_nanosecond())?;
            let scale = deployments.get_scale(case).await?;
            let autoscalers: Api<HorizontalPodAutoscaler> = Api::namespaced(self.client.clone(), &self.namespace);
            let status = autoscalers.get(case).await?.status.unwrap_or_default();
            let mut conditions = status.conditions.iter().flatten();
            let sync = Sync {
                is_after_conflict: conditions.any(|c| c.reason.as_deref() == Some("FailedUpdateScale")),
                at_ns,
                spec_replicas: scale.spec.and_then(|spec| spec.replicas).unwrap_or(0),
                status_replicas: scale.status.map_or(0, |status| status.replicas),
            };
            self.syncs
                .lock()
                .unwrap()
                .entry(case.to_owned())
                .or_default()
                .push(Arc::new(sync));
        }
        let begun = self.syncs.lock().unwrap().get(case).map_or(0, Vec::len);
        // Beyond the script nothing is compared.
        let step = steps.get(begun.saturating_sub(1)).or(steps.last()).context("no step")?;
        Ok(step.get(index).copied().flatten())
    }
}
