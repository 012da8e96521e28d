//! What one request costs a server in processor time, measured where it runs: a load that is sized by it asks as much of a slow machine as of a fast one.
//!
//! Processor time, not time on the clock: a server at its limit waits for most of the latter.
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client};
use tidewright_api::labels;
use tidewright_contract::metrics::PROCESS_CPU;
use tidewright_contract::routes::ADMIN_PORT;
use tokio::time::Instant;

use crate::load::{Load, LoadOptions, Request, Totals};

/// The server's clock ticks every 10 ms: one tick too many at one end and one too few at the other are then few percent.
const CPU_SECONDS_MIN: f64 = 0.3;
/// One request may be odd.
const REQUESTS_MIN: u64 = 8;
/// Sent between two looks at the clock.
const ROUND: usize = 8;
const TIMEOUT: Duration = Duration::from_mins(1);

/// What a request costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Processor time of the whole server for one request.
    pub cpu_seconds: f64,
    /// So many were measured.
    pub requests: u64,
}

impl Cost {
    /// Requests per second that keep so many cores busy.
    pub fn rate(self, cores: f64) -> f64 {
        cores / self.cpu_seconds
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{:.2} ms of CPU per request, over {} requests",
            self.cpu_seconds * 1e3,
            self.requests
        )
    }
}

/// Sends requests one by one to the only pod of a service, at `address`, until enough of its processor time has gone by. Every answer must be right.
/// What was sent is told too.
pub async fn cost(
    client: &Client,
    (namespace, service): (&str, &str),
    address: SocketAddr,
    requests: &[Request],
) -> Result<(Cost, Totals)> {
    let options = LoadOptions::to(address);
    let send = |some: &[Request]| {
        let some = some.to_vec();
        let options = options.clone();
        async move {
            let totals = Load::once(&options, &some).await.totals;
            ensure!(totals.ok == some.len() as u64, "while calibrating: {totals:?}");
            Ok(totals)
        }
    };
    // What is done once, for the first of its kind, is no part of the cost.
    let mut totals = send(requests.get(..1).unwrap_or_default()).await?;
    let first = totals.ok;
    let pod = only_pod(client, namespace, service).await?;
    let before = cpu_seconds(client, namespace, &pod).await?;
    let end = Instant::now() + TIMEOUT;
    for round in requests.chunks(ROUND).cycle() {
        totals.add(&send(round).await?);
        let sent = totals.ok - first;
        let used = cpu_seconds(client, namespace, &pod).await? - before;
        if used >= CPU_SECONDS_MIN && sent >= REQUESTS_MIN {
            let cost = Cost {
                cpu_seconds: used / sent as f64,
                requests: sent,
            };
            return Ok((cost, totals));
        }
        ensure!(
            Instant::now() < end,
            "{sent} requests took {used:.2} s of CPU: too little to measure"
        );
    }
    bail!("no request to calibrate with")
}

async fn only_pod(client: &Client, namespace: &str, service: &str) -> Result<String> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let selector = format!("{}={service}", labels::SERVICE);
    let pods = pods.list(&ListParams::default().labels(&selector)).await?.items;
    let mut staying = pods.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    let (Some(pod), None) = (staying.next(), staying.next()) else {
        bail!("a cost is of one pod, and {service} has none or several");
    };
    pod.metadata.name.context("a pod without name")
}

/// Through the API server and the kubelet, as `kubectl port-forward` does: no network policy is in the way.
async fn cpu_seconds(client: &Client, namespace: &str, pod: &str) -> Result<f64> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let mut forward = pods.portforward(pod, &[ADMIN_PORT]).await?;
    let stream = forward.take_stream(ADMIN_PORT).context("no stream to the pod")?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let request = http::Request::get("/metrics").header(http::header::HOST, pod);
    let response = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
    let text = response.into_body().collect().await?.to_bytes();
    driver.abort();
    counter(&String::from_utf8_lossy(&text)).with_context(|| format!("{pod} does not say its processor time"))
}

fn counter(metrics: &str) -> Option<f64> {
    let line = metrics.lines().find(|line| line.starts_with(PROCESS_CPU.name))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_keeps_the_cores_busy_that_it_is_asked_for() {
        let cost = Cost {
            cpu_seconds: 0.02,
            requests: 16,
        };
        assert!((cost.rate(0.3) - 15.0).abs() < 1e-9);
        assert_eq!(cost.to_string(), "20.00 ms of CPU per request, over 16 requests");
    }

    #[test]
    fn the_counter_is_found_among_others() {
        let text = "# TYPE process_cpu_seconds counter\nprocess_cpu_seconds_total 1.25\nprocess_resident_memory_bytes 7\n# EOF\n";
        assert_eq!(counter(text), Some(1.25));
        assert_eq!(counter("# EOF\n"), None);
    }
}
