//! The ports while they are served: HTTP and gRPC for callers, one for metrics and probes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http::header::CONTENT_TYPE;
use prometheus_client::metrics::gauge::Gauge;
use tidewright_contract::config::{ListenConfig, ServeConfig};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tonic::body::Body;

use crate::grpc::port::{self, Ends};
use crate::http::admin;
use crate::http::app::App;
use crate::http::listen::{self, Settings, Stop};
use crate::http::profile::Profiling;
use crate::http::traced;
use crate::trace::Tracing;

/// Connections on the admin port: a scraper, a kubelet, a person.
const ADMIN_CONNECTIONS_MAX: usize = 64;
/// Connections that the kernel keeps until they are accepted, as the standard library has it.
const BACKLOG: u32 = 1024;

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

/// Ports that are ours, but for the admin port not served yet.
#[derive(Debug)]
pub struct Bound {
    pub http: SocketAddr,
    pub grpc: SocketAddr,
    pub admin: SocketAddr,
    sockets: [TcpSocket; 2],
}

impl Bound {
    /// Takes all of them, and serves the admin port. Until a model is loaded the others refuse connections: whoever is refused can go elsewhere and has
    /// lost nothing, while a server that takes requests to answer that it is not ready fails them (as a pod whose server is started anew in place does
    /// until the Service has noticed).
    pub async fn open(config: &ServeConfig, app: &Arc<App>) -> io::Result<Self> {
        let sockets = [bind(config.http.address)?, bind(config.grpc.address)?];
        let admin = TcpListener::bind(config.admin.address).await;
        let admin = admin.map_err(|error| named(config.admin.address, &error))?;
        let [http, grpc] = &sockets;
        let bound = Self {
            http: http.local_addr()?,
            grpc: grpc.local_addr()?,
            admin: admin.local_addr()?,
            sockets,
        };
        let settings = Settings {
            connections_max: ADMIN_CONNECTIONS_MAX,
            idle_timeout: idle_timeout(config),
            connections: Gauge::default(),
            tls: None,
        };
        // It answers until the process ends: the last scrape sees the drain.
        let (never, endless) = watch::channel(false);
        let stop = Stop {
            accepting_ends: endless.clone(),
            serving_ends: endless,
        };
        let app = Arc::clone(app);
        let profiling = Arc::new(Profiling::new(config.admin.profiling));
        // Watches of the health end with the process, too.
        let services = port::services(&app, &Ends::new(stop.serving_ends.clone()), true);
        let services = Arc::new(services.map_err(io::Error::other)?);
        tokio::spawn(async move {
            let _never = never;
            let handler = Arc::new(move |request| {
                let (app, profiling, services) = (Arc::clone(&app), Arc::clone(&profiling), Arc::clone(&services));
                async move {
                    if is_grpc(&request) {
                        return services.handle(request).await;
                    }
                    let answer = match profiling.answer(&request).await {
                        Some(answer) => answer,
                        None => admin::handle(&app, request).await,
                    };
                    answer.map(Body::new)
                }
            });
            listen::serve(admin, settings, stop, handler).await;
        });
        Ok(bound)
    }

    /// Serves the others.
    pub fn serve(
        self,
        config: &ServeConfig,
        app: &Arc<App>,
        tls: Option<TlsAcceptor>,
        tracing: &Tracing,
    ) -> io::Result<Ports> {
        let [http, grpc] = self.sockets;
        let listen =
            |socket: TcpSocket, of: &ListenConfig| socket.listen(BACKLOG).map_err(|error| named(of.address, &error));
        let (http, grpc) = (listen(http, &config.http)?, listen(grpc, &config.grpc)?);
        let (accepting_ends, accepting) = watch::channel(false);
        let (serving_ends, serving) = watch::channel(false);
        let settings = Settings {
            connections_max: config.limits.connections_max as usize,
            idle_timeout: idle_timeout(config),
            connections: app.metrics.connections.clone(),
            tls,
        };
        // Streams end while their connections still live: who is still sending hears the end, not a reset.
        let ends = Ends::new(accepting.clone());
        let services = Arc::new(port::services(app, &ends, false).map_err(io::Error::other)?);
        let stop = Stop {
            accepting_ends: accepting,
            serving_ends: serving,
        };
        let (of_http_traced, of_grpc_traced) = (tracing.clone(), tracing.clone());
        let of_grpc = tokio::spawn(listen::serve(
            grpc,
            settings.clone(),
            stop.clone(),
            Arc::new(move |request| {
                let (services, tracing) = (Arc::clone(&services), of_grpc_traced.clone());
                async move { traced::grpc(&tracing, request, |request| services.handle(request)).await }
            }),
        ));
        let handler = Arc::clone(app);
        let of_http = tokio::spawn(listen::serve(
            http,
            settings,
            stop,
            Arc::new(move |request| {
                let (app, tracing) = (Arc::clone(&handler), of_http_traced.clone());
                // Boxed: it is moved from layer to layer until it runs.
                async move { traced::http(&tracing, request, |request| Box::pin(app.handle(request))).await }
            }),
        ));
        Ok(Ports {
            http: self.http,
            grpc: self.grpc,
            admin: self.admin,
            serving: [of_http, of_grpc],
            accepting_ends,
            serving_ends,
        })
    }
}

impl Ports {
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

/// Whether a request is a call of gRPC: they share the admin port with those of HTTP.
fn is_grpc<B>(request: &Request<B>) -> bool {
    let media_type = request.headers().get(CONTENT_TYPE);
    media_type.is_some_and(|media_type| media_type.as_bytes().starts_with(b"application/grpc"))
}

fn idle_timeout(config: &ServeConfig) -> Duration {
    Duration::from_secs(u64::from(config.limits.idle_timeout_seconds))
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let bind = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // A server that is started anew gets its port back while connections of the one before it are still being forgotten.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(socket)
    };
    bind().map_err(|error| named(address, &error))
}

fn named(address: SocketAddr, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
}
