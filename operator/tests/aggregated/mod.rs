//! What the metrics API needs around it: an API server reduced to six calls, a front proxy's certificates, and a client that uses them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64_lite::decode;
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use serde_json::{Value, json};
use tidewright_operator::clock::{Clock, SystemClock};
use tidewright_operator::domain::published::{
    PoolReadings, Published, Reading, Sample, ServiceKey, ServiceReadings, Snapshot,
};
use tidewright_operator::domain::subscriptions::{Subscription, Subscriptions};
use tidewright_operator::metrics_api::{self, Counters, Parts, Registration, Settings};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Standard base64, as in Secrets and `caBundle`.
mod base64_lite {
    pub fn decode(text: &str) -> Vec<u8> {
        let value = |b: u8| match b {
            b'A'..=b'Z' => b - b'A',
            b'a'..=b'z' => b - b'a' + 26,
            b'0'..=b'9' => b - b'0' + 52,
            b'+' => 62,
            _ => 63,
        };
        let digits: Vec<u8> = text.bytes().filter(|b| *b != b'=').map(value).collect();
        let mut out = Vec::new();
        for group in digits.chunks(4) {
            let bits = group
                .iter()
                .enumerate()
                .fold(0_u32, |bits, (i, d)| bits | (u32::from(*d) << (18 - 6 * i)));
            out.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
        }
        out
    }
}

/// A CA.
#[derive(Debug)]
pub struct Ca {
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    /// Certificate and key of a client, PEM.
    pub fn client(&self, common_name: &str, change: impl FnOnce(&mut CertificateParams)) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        format!("{}{}", certificate.pem(), key.serialize_pem())
    }
}

/// What the API server holds and how it behaves.
#[derive(Debug, Default)]
pub struct Cluster {
    pub front_proxy: Value,
    pub secret: Option<Value>,
    pub api_services: BTreeMap<String, Value>,
    /// Users who may.
    pub allowed: Vec<String>,
    /// Reviews seen.
    pub reviews: Vec<Value>,
    pub reviews_fail: bool,
    /// Writes seen, besides reviews.
    pub writes: Vec<String>,
    pub version: u64,
}

pub type SharedCluster = Arc<Mutex<Cluster>>;

pub fn front_proxy(ca_pem: &str, names: &[&str]) -> Value {
    json!({
        "requestheader-client-ca-file": ca_pem,
        "requestheader-allowed-names": json!(names).to_string(),
        "requestheader-username-headers": "[\"X-Remote-User\"]",
        "requestheader-uid-headers": "[\"X-Remote-Uid\"]",
        "requestheader-group-headers": "[\"X-Remote-Group\"]",
        "requestheader-extra-headers-prefix": "[\"X-Remote-Extra-\"]",
    })
}

/// A client of that API server, without sockets.
pub fn client(cluster: &SharedCluster) -> kube::Client {
    let cluster = Arc::clone(cluster);
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let cluster = Arc::clone(&cluster);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
            let (code, answer) = cluster
                .lock()
                .unwrap()
                .answer(head.method.as_str(), &head.uri.to_string(), body);
            let response = http::Response::builder()
                .status(code)
                .body(kube::client::Body::from(answer.to_string().into_bytes()))
                .unwrap();
            Ok::<_, std::io::Error>(response)
        }
    });
    kube::Client::new(service, "default")
}

impl Cluster {
    fn answer(&mut self, method: &str, uri: &str, body: Value) -> (u16, Value) {
        const SECRETS: &str = "/api/v1/namespaces/tidewright-system/secrets";
        const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
        let path = uri.split('?').next().unwrap();
        let status = |code: u16, reason: &str| {
            (
                code,
                json!({ "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": reason }),
            )
        };
        match (method, path) {
            ("GET", "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication") => (
                200,
                json!({ "kind": "ConfigMap", "apiVersion": "v1", "metadata": { "name": "x" }, "data": self.front_proxy }),
            ),
            ("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews") => {
                if self.reviews_fail {
                    return status(500, "InternalError");
                }
                let allowed = self.allowed.iter().any(|user| body["spec"]["user"] == **user);
                self.reviews.push(body["spec"].clone());
                let mut review = body;
                review["status"] = json!({ "allowed": allowed });
                (201, review)
            }
            ("GET", path) if path.starts_with(SECRETS) => self
                .secret
                .clone()
                .map_or_else(|| status(404, "NotFound"), |secret| (200, secret)),
            ("POST" | "PUT", path) if path.starts_with(SECRETS) => {
                let stored = self
                    .secret
                    .as_ref()
                    .map(|secret| secret["metadata"]["resourceVersion"].clone());
                if stored.is_some_and(|stored| stored != body["metadata"]["resourceVersion"]) {
                    return status(409, "Conflict");
                }
                self.writes.push("Secret".to_owned());
                self.secret = Some(self.next_version(body));
                (200, self.secret.clone().unwrap())
            }
            ("GET", SERVICES) => (
                200,
                json!({
                    "kind": "APIServiceList", "apiVersion": "apiregistration.k8s.io/v1", "metadata": {},
                    "items": self.api_services.values().collect::<Vec<_>>(),
                }),
            ),
            ("PATCH", path) if path.starts_with(SERVICES) => {
                let name = path.rsplit('/').next().unwrap().to_owned();
                self.writes.push(name.clone());
                let body = self.next_version(body);
                self.api_services.insert(name, body.clone());
                (200, body)
            }
            ("GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles/tidewright-operator") => (
                200,
                json!({ "kind": "ClusterRole", "apiVersion": "rbac.authorization.k8s.io/v1",
                        "metadata": { "name": "tidewright-operator", "uid": "1-2-3" } }),
            ),
            _ => panic!("unexpected call: {method} {uri}"),
        }
    }

    fn next_version(&mut self, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        object
    }

    /// The CA bundle that an API server would verify us with.
    pub fn ca_bundle(&self) -> Option<String> {
        let service = self.api_services.get("v1beta2.custom.metrics.k8s.io")?;
        String::from_utf8(decode(service["spec"]["caBundle"].as_str()?)).ok()
    }
}

/// A running metrics API. `a/digits` has 12.5 requests per second on pool cpu; `b/digits` has 99; both have no queue depth.
#[derive(Debug)]
pub struct Api {
    pub address: SocketAddr,
    pub cluster: SharedCluster,
    pub leader: watch::Sender<bool>,
    pub registration: watch::Receiver<Registration>,
    pub published: Arc<Published>,
    pub counters: Arc<Counters>,
    pub stop: CancellationToken,
    pub ended: tokio::task::JoinHandle<()>,
}

impl Drop for Api {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub const NAME: &str = "tidewright-metrics-api.tidewright-system.svc";
pub const GROUP: &str = "/apis/custom.metrics.k8s.io/v1beta2";

pub fn metric(namespace: &str, metric: &str) -> String {
    format!("{GROUP}/namespaces/{namespace}/inferenceservices.serving.tidewright.dev/digits/{metric}")
}

pub fn quick_settings() -> Settings {
    let mut settings = Settings::new("tidewright-system");
    settings.owner_cluster_role = Some("tidewright-operator".to_owned());
    settings.poll = Duration::from_millis(200);
    settings.access_ttl = Duration::from_millis(500);
    settings
}

pub fn publish(published: &Published, at: Timestamp, valid_for: Duration) {
    let readings = |value: f64| {
        let bad: Reading = Err(tidewright_operator::domain::published::Unavailable::new(
            tidewright_operator::domain::published::Reason::StaleSamples,
            "the newest sample of queue_depth is 47s old, at most 15s are allowed",
        ));
        let pool = PoolReadings {
            request_rate: Ok(Sample { value, at }),
            queue_depth: bad.clone(),
            concurrency: bad,
        };
        Arc::new(ServiceReadings {
            pools: BTreeMap::from([("cpu".to_owned(), pool)]),
            external: BTreeMap::from([("lag".to_owned(), Ok(Sample { value: 7.25, at }))]),
            ..ServiceReadings::default()
        })
    };
    published.publish(Snapshot {
        taken_at: at,
        valid_for,
        services: BTreeMap::from([
            (ServiceKey::new("a", "digits"), readings(12.5)),
            (ServiceKey::new("b", "digits"), readings(99.0)),
        ]),
    });
}

impl Api {
    pub async fn start(cluster: &SharedCluster, settings: Settings) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (leader, leads) = watch::channel(true);
        let (registered, registration) = watch::channel(Registration::Pending);
        let published = Arc::new(Published::default());
        publish(&published, SystemClock.now(), Duration::from_secs(600));
        let subscriptions = Arc::new(Subscriptions::default());
        for namespace in ["a", "b", "unread"] {
            subscriptions.set(ServiceKey::new(namespace, "digits"), Subscription::default());
        }
        let counters = Arc::new(Counters::default());
        let stop = CancellationToken::new();
        let parts = Parts {
            progress: Arc::default(),
            client: client(cluster),
            subscriptions,
            published: Arc::clone(&published),
            leader: leads,
            registration: registered,
            counters: Arc::clone(&counters),
            clock: Arc::new(SystemClock),
        };
        let running = metrics_api::run_on(listener, settings, parts, stop.clone());
        let ended = tokio::spawn(async move { running.await.unwrap() });
        Self {
            address,
            cluster: Arc::clone(cluster),
            leader,
            registration,
            published,
            counters,
            stop,
            ended,
        }
    }

    pub async fn registered(&mut self) {
        self.wait_for(|registration| *registration == Registration::Registered)
            .await;
    }

    pub async fn wait_for(&mut self, wanted: impl FnMut(&Registration) -> bool) {
        tokio::time::timeout(Duration::from_secs(20), self.registration.wait_for(wanted))
            .await
            .expect("the registration did not get there")
            .unwrap();
    }

    /// A client with this certificate that trusts the bundle of the moment.
    pub fn http(&self, identity: Option<&str>) -> reqwest::Client {
        let bundle = self.cluster.lock().unwrap().ca_bundle().expect("registered");
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(10))
            .tls_certs_only(reqwest::Certificate::from_pem_bundle(bundle.as_bytes()).unwrap())
            .resolve(NAME, self.address);
        if let Some(pem) = identity {
            builder = builder.identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap());
        }
        builder.build().unwrap()
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://{NAME}:{}{path}", self.address.port())
    }

    /// Status code and body of a GET as this user (headers are sent as given).
    pub async fn get(&self, http: &reqwest::Client, path: &str, headers: &[(&str, &str)]) -> (u16, Value) {
        let mut request = http.get(self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }
}

/// Waits until a condition holds.
pub async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    tokio::time::timeout(Duration::from_secs(20), async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("{what} did not happen"));
}
