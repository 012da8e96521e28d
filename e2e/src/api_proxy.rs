//! A proxy before the API server: records what is asked, and answers wrongly, late or never where a test says so. No fault code is in the operator.
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::access::Access;
use crate::clock;

/// Exchanges that are remembered: more than any test makes.
const REMEMBERED_MAX: usize = 200_000;

/// One request, and what came of it.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// When it arrived.
    pub at: Instant,
    pub method: Method,
    /// Path without query.
    pub path: String,
    pub query: String,
    /// What was answered; none while there is no answer.
    pub status: Option<u16>,
}

impl Exchange {
    /// Whether it would change an object. Reviews only ask, and a Lease is not the operator's work.
    pub fn is_write(&self) -> bool {
        !matches!(self.method, Method::GET | Method::HEAD)
            && !self.path.contains("/leases")
            && !self.path.contains("accessreviews")
    }

    /// Whether it starts a watch of `plural`.
    pub fn is_watch(&self, plural: &str) -> bool {
        self.query.contains("watch=") && self.path.ends_with(&format!("/{plural}"))
    }

    /// Whether it is a list of `plural`.
    pub fn is_list(&self, plural: &str) -> bool {
        self.method == Method::GET && !self.query.contains("watch=") && self.path.ends_with(&format!("/{plural}"))
    }
}

/// What happens to a request instead of reaching the API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// This status, with a body as the API server writes it.
    Answer(u16),
    /// No answer, ever.
    Silence,
    /// Forwarded after this time.
    Delay(Duration),
}

type Matcher = Box<dyn Fn(&Exchange) -> bool + Send>;

struct Rule {
    matches: Matcher,
    fault: Fault,
    /// How often it still applies; none for always.
    left: Option<u32>,
}

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    exchanges: BTreeMap<usize, Exchange>,
}

struct Shared {
    state: Mutex<State>,
    client: Client,
}

/// A running proxy. It ends when this value is dropped.
#[expect(missing_debug_implementations, reason = "a client has none")]
pub struct ApiProxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    _folder: tempfile::TempDir,
    kubeconfig: PathBuf,
    stop: CancellationToken,
}

impl ApiProxy {
    /// Listens on `listen`, and speaks to the API server as the administrator or, if one is named, as `user`.
    ///
    /// It has a thread of its own: the runtime of a test ends with the test, and a proxy may be shared.
    pub fn start(access: &Access, listen: Ipv4Addr, user: Option<&str>) -> Result<Self> {
        let stop = CancellationToken::new();
        let (ready, started) = mpsc::channel();
        let kubeconfig = access.kubeconfig();
        let user = user.map(ToOwned::to_owned);
        let stopped = stop.clone();
        std::thread::Builder::new()
            .name("api-proxy".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let Ok(runtime) = runtime else { return };
                runtime.block_on(async move {
                    let set_up = async {
                        let client = client(&kubeconfig, user.as_deref()).await?;
                        let listener = TcpListener::bind((listen, 0)).await?;
                        let address = listener.local_addr()?;
                        anyhow::Ok((client, listener, address))
                    };
                    match set_up.await {
                        Ok((client, listener, address)) => {
                            let state = Mutex::default();
                            let shared = Arc::new(Shared { state, client });
                            let _ = ready.send(Ok((Arc::clone(&shared), address)));
                            serve(listener, shared, stopped).await;
                        }
                        Err(error) => drop(ready.send(Err(error))),
                    }
                });
            })?;
        let (shared, address) = started.recv().context("the proxy's thread ended")??;
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("kubeconfig");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "proxy",
            "clusters": [{"name": "proxy", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "proxy", "user": {}}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
        });
        std::fs::write(&path, config.to_string())?;
        Ok(Self {
            shared,
            address,
            _folder: folder,
            kubeconfig: path,
            stop,
        })
    }

    /// A kubeconfig that leads here.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on, `fault` happens to the first `times` requests that match; to all, without `times`. Earlier rules win.
    pub fn inject(&self, fault: Fault, times: Option<u32>, matches: impl Fn(&Exchange) -> bool + Send + 'static) {
        self.lock().rules.push(Rule {
            matches: Box::new(matches),
            fault,
            left: times,
        });
    }

    /// No more faults.
    pub fn heal(&self) {
        self.lock().rules.clear();
    }

    /// Everything that was asked, in order of arrival.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.lock().exchanges.values().cloned().collect()
    }

    /// Forgets what was asked so far.
    pub fn forget(&self) {
        self.lock().exchanges.clear();
    }

    /// The writes below a namespace.
    pub fn writes(&self, namespace: &str) -> Vec<Exchange> {
        let below = format!("/namespaces/{namespace}/");
        let mut all = self.exchanges();
        all.retain(|exchange| exchange.is_write() && exchange.path.contains(&below));
        all
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }
}

impl Drop for ApiProxy {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn client(kubeconfig: &Path, user: Option<&str>) -> Result<Client> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    // What is asked is passed on once: the point is to see what the operator does.
    config.default_retry = false;
    config.auth_info.impersonate = user.map(ToOwned::to_owned);
    Ok(Client::try_from(config)?)
}

async fn serve(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else { continue };
        let shared = Arc::clone(&shared);
        let stop = stop.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let shared = Arc::clone(&shared);
                async move { Ok::<_, Infallible>(answer(request, &shared).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                () = stop.cancelled() => {}
                _ = connection => {}
            }
        });
    }
}

async fn answer(request: Request<Incoming>, shared: &Shared) -> Response<Body> {
    let (number, fault) = shared.note(&request);
    let response = match fault {
        Some(Fault::Silence) => std::future::pending().await,
        Some(Fault::Answer(status)) => failure(status, "injected by the test"),
        Some(Fault::Delay(time)) => {
            tokio::time::sleep(time).await;
            forward(request, &shared.client).await
        }
        None => forward(request, &shared.client).await,
    };
    if let Some(exchange) = shared.lock().exchanges.get_mut(&number) {
        exchange.status = Some(response.status().as_u16());
    }
    response
}

async fn forward(request: Request<Incoming>, client: &Client) -> Response<Body> {
    let (mut parts, body) = request.into_parts();
    parts.headers.remove(header::HOST);
    parts.headers.remove(header::CONNECTION);
    // Requests are small; answers, watches above all, are passed on as they come.
    let body = match body.collect().await {
        Ok(body) => body.to_bytes().to_vec(),
        Err(error) => return failure(400, &format!("the proxy: {error}")),
    };
    let response = client.send(Request::from_parts(parts, Body::from(body))).await;
    response.unwrap_or_else(|error| failure(502, &format!("the proxy: {error}")))
}

/// An error in the API server's own shape.
fn failure(status: u16, message: &str) -> Response<Body> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": status.canonical_reason().unwrap_or_default().replace(' ', ""), "code": status.as_u16(),
    });
    let mut response = Response::new(Body::from(body.to_string().into_bytes()));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    response
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the request; says what shall happen to it.
    fn note(&self, request: &Request<Incoming>) -> (usize, Option<Fault>) {
        let exchange = Exchange {
            at: clock::now(),
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            query: request.uri().query().unwrap_or_default().to_owned(),
            status: None,
        };
        let mut state = self.lock();
        let fault = state
            .rules
            .iter_mut()
            .find(|rule| rule.left != Some(0) && (rule.matches)(&exchange))
            .map(|rule| {
                rule.left = rule.left.map(|left| left - 1);
                rule.fault.clone()
            });
        let number = state.exchanges.last_key_value().map_or(0, |(number, _)| number + 1);
        if state.exchanges.len() >= REMEMBERED_MAX {
            state.exchanges.pop_first();
        }
        state.exchanges.insert(number, exchange);
        (number, fault)
    }
}
