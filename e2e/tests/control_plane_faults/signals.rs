//! A real Prometheus and an exporter in its place of the pods: what the servers would say, without servers.
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod as ApiPod;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use tidewright_api::labels;
use tidewright_contract::metrics::{HTTP_REQUESTS_RECEIVED, ML_QUEUE_DEPTH, ML_REQUESTS_IN_FLIGHT};
use tidewright_contract::routes::V2_MODEL_INFER;
use tidewright_e2e::clock;
use tidewright_e2e::control_plane::ControlPlane;
use tidewright_e2e::supervisor::Program;
use tokio::net::TcpListener;

/// A pod that was not scraped for this long takes no part of the load.
const FORGET_AFTER: Duration = Duration::from_secs(4);

/// Load of one service.
#[derive(Debug, Clone, Copy, Default)]
pub struct Load {
    /// Requests per second over all its pods.
    pub rate: f64,
    /// Waiting requests over all its pods.
    pub queue: f64,
}

#[derive(Debug)]
struct Pod {
    requests: f64,
    scraped_at: Instant,
}

type Loads = Arc<Mutex<BTreeMap<String, (Load, BTreeMap<String, Pod>)>>>;

/// Says for every pod what a server under load would say; the load of a service is shared evenly.
#[derive(Debug)]
pub struct Exporter {
    loads: Loads,
    pub address: SocketAddr,
}

impl Exporter {
    pub async fn start(cluster: &ControlPlane) -> Result<Self> {
        let listener = TcpListener::bind((cluster.host_address(), 0)).await?;
        let address = listener.local_addr()?;
        let loads = Loads::default();
        let shared = Arc::clone(&loads);
        let pods: Api<ApiPod> = Api::all(cluster.client().await?);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (loads, pods) = (Arc::clone(&shared), pods.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    let (loads, pods) = (Arc::clone(&loads), pods.clone());
                    async move {
                        let mut response = Response::new(String::new());
                        let kind = if request.uri().path() == "/targets" {
                            *response.body_mut() = targets(&pods, address).await;
                            "application/json"
                        } else {
                            *response.body_mut() = scrape(request.uri().path(), &loads);
                            "text/plain; version=0.0.4"
                        };
                        let kind = header::HeaderValue::from_static(kind);
                        response.headers_mut().insert(header::CONTENT_TYPE, kind);
                        Ok::<_, Infallible>(response)
                    }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Ok(Self { loads, address })
    }

    pub fn set(&self, service: &str, load: Load) {
        self.loads.lock().unwrap().entry(service.to_owned()).or_default().0 = load;
    }
}

/// Every pod that runs, with the labels that the operator expects, as Prometheus' HTTP discovery wants them.
async fn targets(pods: &Api<ApiPod>, address: SocketAddr) -> String {
    let all = pods.list(&ListParams::default().labels(labels::SERVICE)).await;
    let groups: Vec<Value> = all
        .into_iter()
        .flatten()
        .filter(|pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running"))
        .map(|pod| {
            let (service, name) = (&pod.labels()[labels::SERVICE], pod.name_any());
            json!({"targets": [address.to_string()], "labels": {
                "__metrics_path__": format!("/{service}/{name}"), "namespace": pod.namespace(), "pod": name,
                "inferenceservice": service, "pool": pod.labels()[labels::POOL],
            }})
        })
        .collect();
    Value::from(groups).to_string()
}

/// The path is `/SERVICE/POD`.
fn scrape(path: &str, loads: &Loads) -> String {
    let mut parts = path.split('/').skip(1);
    let (service, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let mut loads = loads.lock().unwrap();
    let (load, pods) = loads.entry(service.to_owned()).or_default();
    let now = clock::now();
    let pod = pods.entry(name.to_owned()).or_insert(Pod {
        requests: 0.0,
        scraped_at: now,
    });
    let since = now.duration_since(pod.scraped_at);
    pod.scraped_at = now;
    pods.retain(|_, pod| now.duration_since(pod.scraped_at) < FORGET_AFTER);
    let share = 1.0 / pods.len() as f64;
    let pod = pods.get_mut(name).unwrap();
    pod.requests += load.rate * share * since.as_secs_f64();
    format!(
        "{}{{method=\"POST\",route=\"{V2_MODEL_INFER}\"}} {}\n{}{{queue=\"batch\"}} {}\n{} {}\n",
        HTTP_REQUESTS_RECEIVED.name,
        pod.requests.floor(),
        ML_QUEUE_DEPTH.name,
        load.queue * share,
        // For each that waits one is in work: another number, and another signal.
        ML_REQUESTS_IN_FLIGHT.name,
        2.0 * load.queue * share,
    )
}

/// A Prometheus in the box: the exporter tells it of the pods, and is scraped in their place.
#[derive(Debug)]
pub struct Prometheus {
    cluster: &'static ControlPlane,
    name: String,
    pub address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    pub fn start(cluster: &'static ControlPlane, exporter: SocketAddr) -> Result<Self> {
        let path = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
            .chain([PathBuf::from("/usr/bin")])
            .map(|folder| folder.join("prometheus"))
            .find(|path| path.is_file())
            .context("prometheus was not found: install the Debian package `prometheus`")?;
        let address = SocketAddr::from((cluster.network().node(), 9090));
        // Debian's build discovers nothing in Kubernetes by itself.
        let config = json!({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "scrape_configs": [{
                "job_name": "pods",
                "http_sd_configs": [{"url": format!("http://{exporter}/targets"), "refresh_interval": "1s"}],
            }],
        });
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config.to_string())?;
        let name = format!("prometheus-{}", std::process::id());
        cluster.sandbox().run(Program {
            name: name.clone(),
            path,
            arguments: vec![
                format!("--config.file={}", file.display()),
                format!("--storage.tsdb.path={}", folder.path().join("data").display()),
                format!("--web.listen-address={address}"),
            ],
            environment: BTreeMap::new(),
        })?;
        Ok(Self {
            cluster,
            name,
            address,
            _folder: folder,
        })
    }

    pub fn kill(&self) -> Result<()> {
        self.cluster.kill_program(&self.name)
    }

    pub fn start_again(&self) -> Result<()> {
        self.cluster.start_program(&self.name)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}
