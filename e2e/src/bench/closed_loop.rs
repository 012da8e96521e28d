//! Closed-loop load: so many connections, each with one request under way. Finds the most that a side serves, not how long callers wait under load.
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use hdrhistogram::Histogram;
use http::HeaderValue;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::clock::now;
use crate::load::Request;

/// Longest latency that is told apart, in microseconds.
const MICROS_MAX: u64 = 60_000_000;

/// What one measurement found.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(super) struct Measured {
    /// Requests answered per second with 32 connections.
    pub(super) per_second: f64,
    /// Median latency with one connection, in microseconds.
    pub(super) alone_p50_micros: u64,
    /// 99th percentile with 32 connections, in microseconds.
    pub(super) busy_p99_micros: u64,
}

impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:.0}/s, p50 alone {} us, p99 busy {} us",
            self.per_second, self.alone_p50_micros, self.busy_p99_micros
        )
    }
}

/// The load runs on one core, the measured side on another.
pub(super) fn pin_to_last_core() -> Result<()> {
    let cores = std::thread::available_parallelism()?.get();
    let mut set = nix::sched::CpuSet::new();
    set.set(cores - 1)?;
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set).context("pin the load to a core")
}

/// Runs `connections` connections for `lasts`; returns the answers per second and the latencies in microseconds.
pub(super) async fn run(
    address: SocketAddr,
    requests: &Arc<[Request]>,
    connections: usize,
    lasts: Duration,
) -> Result<(f64, Histogram<u64>)> {
    let until = now() + lasts;
    let mut tasks = JoinSet::new();
    for connection in 0..connections {
        let requests = Arc::clone(requests);
        tasks.spawn(async move { one(address, requests, connection, until).await });
    }
    let mut all = Histogram::new_with_max(MICROS_MAX, 3)?;
    while let Some(done) = tasks.join_next().await {
        all.add(done??)?;
    }
    Ok((all.len() as f64 / lasts.as_secs_f64(), all))
}

async fn one(
    address: SocketAddr,
    requests: Arc<[Request]>,
    first: usize,
    until: std::time::Instant,
) -> Result<Histogram<u64>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let mut latencies = Histogram::new_with_max(MICROS_MAX, 3)?;
    for request in requests.iter().cycle().skip(first) {
        let begun = now();
        if begun >= until {
            break;
        }
        sender.ready().await?;
        let (status, _) = send(&mut sender, request, address).await?;
        if status != 200 {
            bail!("{address} answers {status}");
        }
        latencies.record(u64::try_from(begun.elapsed().as_micros())?.min(MICROS_MAX))?;
    }
    Ok(latencies)
}

/// Sends one request and reads the whole answer.
pub(super) async fn send(
    sender: &mut hyper::client::conn::http1::SendRequest<Full<Bytes>>,
    request: &Request,
    address: SocketAddr,
) -> Result<(u16, Bytes)> {
    let mut message = http::Request::builder()
        .method(&request.method)
        .uri(&request.path)
        .header("host", address.to_string())
        .body(Full::new(request.body.clone()))?;
    let headers = message.headers_mut();
    if request.headers.is_empty() {
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    headers.extend(request.headers.iter().cloned());
    let answer = sender.send_request(message).await?;
    let status = answer.status().as_u16();
    Ok((status, answer.into_body().collect().await?.to_bytes()))
}
