//! An API of a test's own behind the API server: what a metrics server would answer, by a script.
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::control_plane::ControlPlane;
use crate::wait::{Seen, await_condition};

/// Answers the parts of a path below `/apis/GROUP/VERSION`; None for what is not there.
pub type Answers = Arc<dyn Fn(Vec<String>) -> BoxFuture<'static, Result<Option<Value>>> + Send + Sync>;

/// Group and version of an API, and what it has.
#[derive(Debug, Clone)]
pub struct Served {
    pub group: &'static str,
    pub version: &'static str,
    /// As in its APIResourceList.
    pub resources: Value,
}

/// A server that ends with the test.
#[derive(Debug)]
pub struct AggregatedApi {
    address: SocketAddr,
    served: Served,
}

impl AggregatedApi {
    /// Starts it where the API server reaches it.
    pub async fn start(cluster: &ControlPlane, served: Served, answers: Answers) -> Result<Self> {
        let listener = TcpListener::bind((cluster.host_address(), 0)).await?;
        let address = listener.local_addr()?;
        let tls = acceptor()?;
        let of_connections = served.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (served, answers) = (of_connections.clone(), Arc::clone(&answers));
                tokio::spawn(connection(stream, tls.clone(), served, answers));
            }
        });
        Ok(Self { address, served })
    }

    /// Leads the API server to it, and waits until it is led.
    pub async fn register(&self, cluster: &ControlPlane, namespace: &str, patience: Duration) -> Result<()> {
        let Served { group, version, .. } = &self.served;
        let (name, port) = ("scripted-api", self.address.port());
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace},
            "spec": {"ports": [{"port": 443, "targetPort": port}]}});
        let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": name, "namespace": namespace, "labels": {"kubernetes.io/service-name": name}},
            "endpoints": [{"addresses": [self.address.ip().to_string()]}], "ports": [{"port": port}]});
        let api_service = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
            "metadata": {"name": format!("{version}.{group}")},
            "spec": {"group": group, "version": version, "groupPriorityMinimum": 100, "versionPriority": 100,
                "insecureSkipTLSVerify": true, "service": {"name": name, "namespace": namespace, "port": 443}}});
        cluster.apply(&[service, slice, api_service]).await?;
        await_condition(&format!("{group} to be discovered"), patience, || async {
            let versions = cluster.kubectl(["api-versions"]).await?;
            Ok(if versions.contains(&format!("{group}/{version}")) {
                Seen::Done(())
            } else {
                Seen::not_yet("not yet")
            })
        })
        .await
    }

    /// Takes the registration away: without a server behind it no namespace could be deleted.
    pub async fn unregister(&self, cluster: &ControlPlane) -> Result<()> {
        let name = format!("{}.{}", self.served.version, self.served.group);
        cluster
            .kubectl(["delete", "apiservice", "--ignore-not-found", &name])
            .await
            .map(drop)
    }
}

fn acceptor() -> Result<TlsAcceptor> {
    let made = rcgen::generate_simple_self_signed(vec!["scripted-api".to_owned()])?;
    let certificate = CertificateDer::from(made.cert.der().to_vec());
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn connection(stream: TcpStream, tls: TlsAcceptor, served: Served, answers: Answers) {
    let Ok(stream) = tls.accept(stream).await else { return };
    let service = service_fn(move |request: Request<Incoming>| {
        let (served, answers) = (served.clone(), Arc::clone(&answers));
        async move {
            let (status, body) = match answer(&served, &answers, request.uri().path()).await {
                Ok(Some(body)) => (StatusCode::OK, body),
                Ok(None) => (StatusCode::NOT_FOUND, failure(404, "NotFound", "not there")),
                Err(error) => (
                    StatusCode::INTERNAL_SERVER_ERROR,
                    failure(500, "InternalError", &error.to_string()),
                ),
            };
            let mut response = Response::new(body.to_string());
            *response.status_mut() = status;
            let json = http::HeaderValue::from_static("application/json");
            response.headers_mut().insert(http::header::CONTENT_TYPE, json);
            Ok::<_, Infallible>(response)
        }
    });
    let _ = auto::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn failure(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message, "code": code})
}

async fn answer(served: &Served, answers: &Answers, path: &str) -> Result<Option<Value>> {
    let Served {
        group,
        version,
        resources,
    } = served;
    let whole = format!("{group}/{version}");
    let mut parts = path.trim_matches('/').split('/');
    if parts.next() != Some("apis") || parts.next() != Some(*group) {
        return Ok(None);
    }
    match parts.next() {
        None => {
            let version = json!({"groupVersion": whole, "version": version});
            Ok(Some(
                json!({"kind": "APIGroup", "apiVersion": "v1", "name": group, "versions": [version], "preferredVersion": version}),
            ))
        }
        Some(other) if other != *version => Ok(None),
        Some(_) => {
            let rest: Vec<String> = parts.map(ToOwned::to_owned).collect();
            if rest.is_empty() {
                return Ok(Some(
                    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": whole, "resources": resources}),
                ));
            }
            answers(rest).await
        }
    }
}
