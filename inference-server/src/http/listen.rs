//! Connections: accepted up to a limit, counted, and let go in order at the end.

use std::convert::Infallible;
use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Version};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use prometheus_client::metrics::gauge::Gauge;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tokio_util::task::TaskTracker;

use super::calls::{Calls, OfCall};
use super::first_bytes::FirstBytes;

/// A connection on which a write does not wait for ever.
type Stream = Pin<Box<TimeoutStream<TcpStream>>>;

/// Limits of the connections of one port.
#[derive(Clone)]
pub struct Settings {
    pub connections_max: usize,
    pub idle_timeout: Duration,
    pub connections: Gauge,
    /// `None`: in the clear.
    pub tls: Option<TlsAcceptor>,
}

/// When a port stops.
#[derive(Debug, Clone)]
pub struct Stop {
    /// True: accept no more connections, but serve those that there are.
    pub accepting_ends: watch::Receiver<bool>,
    /// True: close idle connections and those that are answered.
    pub serving_ends: watch::Receiver<bool>,
}

/// Longest time for a TLS handshake: a few round trips over the slowest line.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after an accept that failed for want of file descriptors or memory: trying at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Streams of one HTTP/2 connection that may be under way.
const STREAMS_MAX: u32 = 256;
/// Streams that a client may open and reset again before we have looked at them; more closes the connection. A browser that leaves a page resets
/// a few; who resets hundreds wants work done for nothing (CVE-2023-44487).
const STREAM_RESETS_MAX: usize = 32;
/// Bytes that a client may send ahead on one stream and on all of a connection. h2 ends a connection whose unread frames cost more to hold than half of
/// the connection's window, a small frame counting as 256 bytes: with these, several callers may stream tensors of a few values as fast as they can.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
/// Bytes of a request's head, all names and values together; more is answered with 431.
const HEAD_BYTES_MAX: u32 = 64 * 1024;

/// Serves a port until told to stop and the last connection has ended.
pub async fn serve<H, F, B>(listener: TcpListener, settings: Settings, mut stop: Stop, handler: Arc<H>)
where
    H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send,
    B: Body<Data = Bytes, Error: Error + Send + Sync> + Send + Unpin + 'static,
{
    let places = Arc::new(Semaphore::new(settings.connections_max));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = told(&mut stop.accepting_ends) => break,
            accepted = accept(&listener, &places) => accepted,
        };
        match accepted {
            Ok((stream, place)) => connect(stream, Some(place), &settings, &stop, &connections, &handler),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Connections that the kernel has already accepted belong to clients who may have sent a request: none is reset. One that comes in the
    // microseconds between the last look and the close is; whoever still connects now has missed the whole grace.
    // They take no place: at the limit the places are held by connections that are closed only after this, and the backlog is bounded by itself.
    while let Some(Ok((stream, _))) = accept_now(&listener).await {
        connect(stream, None, &settings, &stop, &connections, &handler);
    }
    drop(listener);
    told(&mut stop.serving_ends).await;
    connections.close();
    connections.wait().await;
}

/// Waits until the flag is true; a sender that is gone counts as true.
async fn told(flag: &mut watch::Receiver<bool>) {
    let _ = flag.wait_for(|told| *told).await;
}

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    // A place first: beyond the limit connections wait in the kernel's backlog.
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

/// A connection that waits to be accepted, if there is one.
async fn accept_now(listener: &TcpListener) -> Option<io::Result<(TcpStream, std::net::SocketAddr)>> {
    poll_fn(|context| match listener.poll_accept(context) {
        Poll::Ready(accepted) => Poll::Ready(Some(accepted)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

fn connect<H, F, B>(
    stream: TcpStream,
    place: Option<OwnedSemaphorePermit>,
    settings: &Settings,
    stop: &Stop,
    connections: &TaskTracker,
    handler: &Arc<H>,
) where
    H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send,
    B: Body<Data = Bytes, Error: Error + Send + Sync> + Send + Unpin + 'static,
{
    // Answers are written whole: waiting to fill a segment would only delay them.
    let _ = stream.set_nodelay(true);
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.idle_timeout)
        // Answers to requests that came together would go together: but hyper then reads on without end, and keeps the answers of who does not.
        .pipeline_flush(false)
        // Head and body of an answer are copied together: for small ones that is cheaper than a call with two buffers.
        .writev(false)
        .max_buf_size(HEAD_BYTES_MAX as usize)
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(settings.idle_timeout)
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(STREAM_RESETS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(HEAD_BYTES_MAX);
    let calls = Calls::new();
    let service = {
        let (handler, calls) = (Arc::clone(handler), Arc::clone(&calls));
        service_fn(move |request: Request<Incoming>| {
            let handler = Arc::clone(&handler);
            let call = (request.version() == Version::HTTP_2).then(|| calls.begin());
            async move { Ok::<_, Infallible>(handler(request).await.map(|body| OfCall::new(body, call))) }
        })
    };
    // Who does not read keeps what is written for him, and the place of his connection. The timer runs only while a write waits.
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(settings.idle_timeout));
    let stream = Box::pin(stream);
    let open = Open::new(settings.connections.clone());
    let (tls, mut serving_ends) = (settings.tls.clone(), stop.serving_ends.clone());
    let idle_timeout = settings.idle_timeout;
    connections.spawn(async move {
        let _held = (place, open);
        let stream = match tls {
            None => Either::Left(stream),
            Some(tls) => match shake_hands(&tls, stream, &mut serving_ends).await {
                Ok(stream) => Either::Right(Box::new(stream)),
                Err(error) => {
                    tracing::debug!(%error, "no TLS connection");
                    return;
                }
            },
        };
        let stream = FirstBytes::new(stream, idle_timeout, Arc::clone(&calls));
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service).into_owned());
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => Some(ended),
            () = told(&mut serving_ends) => None,
            () = calls.idle(idle_timeout) => None,
        };
        let ended = if let Some(ended) = ended {
            ended
        } else {
            // What is under way is answered.
            connection.as_mut().graceful_shutdown();
            connection.await
        };
        if let Err(error) = ended {
            // Resets and idle timeouts are the client's business.
            tracing::debug!(error, "connection ended");
        }
    });
}

/// The TLS connection; who is not through with it when the port stops has not sent a request.
async fn shake_hands(
    tls: &TlsAcceptor,
    stream: Stream,
    serving_ends: &mut watch::Receiver<bool>,
) -> io::Result<TlsStream<Stream>> {
    tokio::select! {
        shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)) => shaken?,
        () = told(serving_ends) => Err(io::Error::other("the port stops")),
    }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Settings")
            .field("connections_max", &self.connections_max)
            .field("idle_timeout", &self.idle_timeout)
            .field("tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}

/// Counts an open connection.
struct Open(Gauge);

impl Open {
    fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}
