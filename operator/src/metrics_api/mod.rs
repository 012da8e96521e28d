//! The aggregated API `custom.metrics.k8s.io`, read by the HorizontalPodAutoscaler controller.

pub mod auth;
pub mod certificates;
pub mod counters;
pub mod discovery;
pub mod progress;
pub mod refusal;
pub mod retire;
pub mod route;
pub mod router;
pub mod selector;
pub mod server;
pub mod signals;
pub mod tls;
pub mod upkeep;
pub mod values;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use kube::Client;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

pub use certificates::Lifetimes;
pub use counters::Counters;
pub use progress::Progress;

use crate::clock::SharedClock;
pub use crate::cluster::api_service::Registration;
use crate::cluster::api_service::Wanted;
use crate::cluster::review::Reviewer;
use crate::cluster::serving_certificate::CertificateSecret;
use crate::domain::published::Published;
use crate::domain::subscriptions::Subscriptions;
use crate::error::{Error, Result};
use crate::metrics_api::router::Router;
use crate::metrics_api::tls::{ServingCertificate, server_config};
use crate::metrics_api::upkeep::{Keeper, follow_front_proxy};

/// How the metrics API is set up.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Namespace of the operator.
    pub namespace: String,
    /// Service in that namespace that leads to `listen`.
    pub service: String,
    /// Port of that Service.
    pub service_port: u16,
    /// Secret in that namespace with the certificates.
    pub secret: String,
    /// A ClusterRole of the installation, which becomes the owner of the APIServices.
    pub owner_cluster_role: Option<String>,
    /// Lifetimes of the certificates.
    pub lifetimes: Lifetimes,
    /// Time between two looks at Secret, APIServices and the front proxy's CA; below 60 s.
    pub poll: Duration,
    /// How long an answer about a right is believed; at most 10 s.
    pub access_ttl: Duration,
}

impl Settings {
    /// The defaults for an operator in this namespace.
    pub fn new(namespace: impl Into<String>) -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 6443)),
            namespace: namespace.into(),
            service: "tidewright-metrics-api".to_owned(),
            service_port: 443,
            secret: "tidewright-metrics-api-tls".to_owned(),
            owner_cluster_role: None,
            lifetimes: Lifetimes::default(),
            poll: Duration::from_secs(20),
            access_ttl: Duration::from_secs(10),
        }
    }

    pub(crate) fn wanted(&self) -> Wanted {
        Wanted {
            group: discovery::GROUP.to_owned(),
            versions: discovery::VERSIONS.map(ToOwned::to_owned).to_vec(),
            service_namespace: self.namespace.clone(),
            service_name: self.service.clone(),
            service_port: i32::from(self.service_port),
            owner_cluster_role: self.owner_cluster_role.clone(),
        }
    }

    fn certificate_names(&self) -> Vec<String> {
        let Self { service, namespace, .. } = self;
        vec![
            format!("{service}.{namespace}.svc"),
            format!("{service}.{namespace}"),
            format!("{service}.{namespace}.svc.cluster.local"),
        ]
    }
}

/// What the metrics API works with.
#[expect(missing_debug_implementations, reason = "a client has none")]
pub struct Parts {
    /// The API server.
    pub client: Client,
    /// Which services exist.
    pub subscriptions: Arc<Subscriptions>,
    /// Their numbers.
    pub published: Arc<Published>,
    /// Whether this process leads: only the leader writes certificates and registration.
    pub leader: watch::Receiver<bool>,
    /// Told whether the group is ours.
    pub registration: watch::Sender<Registration>,
    /// How requests went.
    pub counters: Arc<Counters>,
    /// Told what there is of what it needs.
    pub progress: Arc<Progress>,
    /// Time.
    pub clock: SharedClock,
}

/// Listens on the address of the settings and serves until `stop`.
///
/// # Errors
/// The address cannot be listened on.
pub async fn run(settings: Settings, parts: Parts, stop: CancellationToken) -> Result<()> {
    let listener = TcpListener::bind(settings.listen).await.map_err(|source| Error::Io {
        what: format!("listen on {} for the metrics API", settings.listen),
        source,
    })?;
    run_on(listener, settings, parts, stop).await
}

/// The same with a socket that listens already.
///
/// # Errors
/// TLS cannot be set up.
pub async fn run_on(listener: TcpListener, settings: Settings, parts: Parts, stop: CancellationToken) -> Result<()> {
    let certificate = Arc::new(ServingCertificate::default());
    let tls = TlsAcceptor::from(Arc::new(server_config(Arc::clone(&certificate))?));
    let front_proxy = Arc::new(ArcSwapOption::empty());
    let router = Arc::new(Router {
        front_proxy: Arc::clone(&front_proxy),
        reviewer: Reviewer::new(parts.client.clone(), settings.access_ttl, Arc::clone(&parts.clock)),
        subscriptions: parts.subscriptions,
        published: parts.published,
        counters: parts.counters,
        clock: Arc::clone(&parts.clock),
    });
    let keeper = Keeper {
        secret: CertificateSecret::new(
            parts.client.clone(),
            &settings.namespace,
            &settings.secret,
            settings.owner_cluster_role.clone(),
        ),
        client: parts.client.clone(),
        certificate,
        progress: Arc::clone(&parts.progress),
        wanted: settings.wanted(),
        names: settings.certificate_names(),
        lifetimes: settings.lifetimes,
        poll: settings.poll,
        leader: parts.leader,
        registration: parts.registration,
        clock: parts.clock,
    };
    tokio::join!(
        server::serve(listener, tls, router, stop.clone()),
        follow_front_proxy(parts.client, front_proxy, parts.progress, settings.poll, stop.clone()),
        keeper.run(stop),
    );
    Ok(())
}
