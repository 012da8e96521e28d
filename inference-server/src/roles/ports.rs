//! The ports while they are served: HTTP and gRPC for callers, one for metrics and probes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tidewright_contract::config::{ListenConfig, ServeConfig};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::grpc::port::{self, Ends};
use crate::http::admin;
use crate::http::app::App;
use crate::http::listen::{self, Settings, Stop};

/// Connections on the admin port: a scraper, a kubelet, a person.
const ADMIN_CONNECTIONS_MAX: usize = 64;

/// Open ports, with the addresses that they got.
#[derive(Debug)]
pub struct Ports {
    pub http: SocketAddr,
    pub grpc: SocketAddr,
    pub admin: SocketAddr,
    serving: [JoinHandle<()>; 2],
    accepting_ends: watch::Sender<bool>,
    serving_ends: watch::Sender<bool>,
}

impl Ports {
    /// Opens and serves all of them.
    pub async fn open(config: &ServeConfig, app: &Arc<App>, tls: Option<TlsAcceptor>) -> io::Result<Self> {
        let http = bind(&config.http).await?;
        let grpc = bind(&config.grpc).await?;
        let admin = bind(&config.admin).await?;
        let (http_address, grpc_address, admin_address) = (http.local_addr()?, grpc.local_addr()?, admin.local_addr()?);
        let (accepting_ends, accepting) = watch::channel(false);
        let (serving_ends, serving) = watch::channel(false);
        let settings = Settings {
            connections_max: config.limits.connections_max as usize,
            idle_timeout: Duration::from_secs(u64::from(config.limits.idle_timeout_seconds)),
            connections: app.metrics.connections.clone(),
            tls,
        };
        let admin_settings = Settings {
            connections_max: ADMIN_CONNECTIONS_MAX,
            connections: Gauge::default(),
            tls: None,
            ..settings.clone()
        };
        // Streams end while their connections still live: who is still sending hears the end, not a reset.
        let ends = Ends::new(accepting.clone());
        let services = Arc::new(port::services(app, &ends).map_err(io::Error::other)?);
        let stop = Stop {
            accepting_ends: accepting,
            serving_ends: serving,
        };
        let of_grpc = tokio::spawn(listen::serve(
            grpc,
            settings.clone(),
            stop.clone(),
            Arc::new(move |request| {
                let services = Arc::clone(&services);
                async move { services.handle(request).await }
            }),
        ));
        let handler = Arc::clone(app);
        let of_http = tokio::spawn(listen::serve(
            http,
            settings,
            stop,
            Arc::new(move |request| {
                let app = Arc::clone(&handler);
                async move { app.handle(request).await }
            }),
        ));
        // The admin port answers until the process ends: the last scrape sees the drain.
        let (never, endless) = watch::channel(false);
        let stop = Stop {
            accepting_ends: endless.clone(),
            serving_ends: endless,
        };
        let app = Arc::clone(app);
        tokio::spawn(async move {
            let _never = never;
            let handler = Arc::new(move |request| std::future::ready(admin::handle(&app, &request)));
            listen::serve(admin, admin_settings, stop, handler).await;
        });
        Ok(Self {
            http: http_address,
            grpc: grpc_address,
            admin: admin_address,
            serving: [of_http, of_grpc],
            accepting_ends,
            serving_ends,
        })
    }

    /// From now on no connection is accepted.
    pub fn end_accepting(&self) {
        let _ = self.accepting_ends.send(true);
    }

    /// Lets connections go as they are answered, and returns when the last one has ended.
    pub async fn end_serving(self) {
        let _ = self.serving_ends.send(true);
        for port in self.serving {
            // A panic of a port's task is in the log already.
            let _ = port.await;
        }
    }
}

async fn bind(config: &ListenConfig) -> io::Result<TcpListener> {
    TcpListener::bind(config.address)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {}: {error}", config.address)))
}
