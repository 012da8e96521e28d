//! Sockets: accept, shake hands, speak HTTP/1.1 or HTTP/2, end in order. Everything has a limit.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::metrics_api::router::Router;

/// Open connections. The API servers need one each.
const CONNECTIONS_MAX: usize = 256;
/// Of these, connections of others than the front proxy, who get an answer that says so; they must not keep its places.
const STRANGERS_MAX: usize = 32;
/// Longest life of such a connection.
const STRANGER_LIFETIME: Duration = Duration::from_secs(5);
/// From the first byte to the end of the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// For the head of a request, idle time before it included.
const HEAD_TIMEOUT: Duration = Duration::from_secs(90);
/// A silent HTTP/2 connection is asked whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Bytes of the head of one request.
const HEAD_BYTES_MAX: u32 = 64 * 1024;
/// Requests under way on one connection.
const STREAMS_MAX: u32 = 128;
/// For requests under way when the server ends.
const DRAIN: Duration = Duration::from_secs(5);
/// After a failed accept (out of file descriptors, most often).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop`, then finishes what is under way.
pub async fn serve(listener: TcpListener, tls: TlsAcceptor, router: Arc<Router>, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let strangers = Arc::new(Semaphore::new(STRANGERS_MAX));
    let graceful = GracefulShutdown::new();
    let mut http = Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX as usize);
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(HANDSHAKE_TIMEOUT)
        .max_header_list_size(HEAD_BYTES_MAX)
        .max_concurrent_streams(STREAMS_MAX);
    loop {
        let permit = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            permit = Arc::clone(&room).acquire_owned() => match permit {
                Ok(permit) => permit,
                Err(_) => break,
            },
        };
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the metrics API could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (http, tls, router, watcher) = (http.clone(), tls.clone(), Arc::clone(&router), graceful.watcher());
        let strangers = Arc::clone(&strangers);
        tokio::spawn(async move {
            connection(stream, tls, &http, router, watcher, &strangers).await;
            drop(permit);
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("connections of the metrics API did not end in time");
    }
}

async fn connection(
    stream: TcpStream,
    tls: TlsAcceptor,
    http: &Builder<TokioExecutor>,
    router: Arc<Router>,
    watcher: hyper_util::server::graceful::Watcher,
    strangers: &Semaphore,
) {
    let _ = stream.set_nodelay(true);
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%error, "TLS handshake with the metrics API failed");
            return;
        }
        Err(_) => return,
    };
    let certificates: Arc<[_]> = stream.get_ref().1.peer_certificates().unwrap_or_default().into();
    let is_known = router.is_front_proxy(&certificates);
    let Some(place) = is_known
        .then_some(None)
        .or_else(|| strangers.try_acquire().ok().map(Some))
    else {
        return;
    };
    let (asked, known_by) = (Arc::clone(&router), Arc::clone(&certificates));
    let service = service_fn(move |request| {
        let (router, certificates) = (Arc::clone(&router), Arc::clone(&certificates));
        async move { Ok::<_, Infallible>(router.answer(request, &certificates).await) }
    });
    let connection = http.serve_connection(TokioIo::new(stream), service).into_owned();
    let mut connection = std::pin::pin!(watcher.watch(connection));
    if !is_known {
        match tokio::time::timeout(STRANGER_LIFETIME, &mut connection).await {
            // Known by now: it came before the front proxy's CA was, or that has changed.
            Err(_) if asked.is_front_proxy(&known_by) => drop(place),
            _ => return,
        }
    }
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection of the metrics API ended");
    }
}
