//! What one pod can do, measured on the cluster: a model that works for some milliseconds in a container that may use a twentieth of a core takes
//! long and costs little, so that many pods are busy at once on two cores.
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use super::ground::{Ground, READY, load_options, requests_to, slow};
use super::score::moments;
use crate::console::progress;
use crate::load::one_by_one;
use crate::namespace::TestNamespace;

/// The objective, in service times: as the simulator's default.
const OBJECTIVE_SERVICE_TIMES: f64 = 4.0;
/// Requests that are measured, one after the other, and those before them that are not.
const MEASURED: usize = 30;
const DROPPED: usize = 3;
const SERVICE: &str = "gauge";

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Capacity {
    /// Of a request that is alone.
    pub(super) service_seconds: f64,
    pub(super) service_cv: f64,
    pub(super) latencies_ms: Vec<f64>,
}

impl Capacity {
    /// Requests per second that so many pods can do at most.
    pub(super) fn rate(&self, pods: f64) -> f64 {
        pods / self.service_seconds
    }

    /// In whole milliseconds.
    pub(super) fn objective_seconds(&self) -> f64 {
        (self.service_seconds * OBJECTIVE_SERVICE_TIMES * 1e3).round() / 1e3
    }

    pub(super) fn objective(&self) -> Duration {
        Duration::from_secs_f64(self.objective_seconds())
    }
}

/// Measures one pod that serves one request after the other.
pub(super) async fn measure(ground: &Ground, namespace: &TestNamespace) -> Result<Capacity> {
    ground.publish(namespace).await?;
    let service = slow(namespace, SERVICE, None);
    service.apply(&namespace.client).await?;
    service.ready(&namespace.client, READY).await?;
    let address = service.address(&namespace.client).await?;
    let samples = one_by_one(&load_options(address), DROPPED + MEASURED, &requests_to(SERVICE)).await;
    ensure!(
        samples.iter().all(crate::load::Sample::is_ok),
        "while one pod was measured: {samples:?}"
    );
    let latencies_ms: Vec<f64> = samples.iter().skip(DROPPED).map(|sample| sample.latency_ms).collect();
    let (mean, service_cv) = moments(&latencies_ms).context("nothing was measured")?;
    let capacity = Capacity {
        service_seconds: mean / 1e3,
        service_cv,
        latencies_ms,
    };
    progress(format_args!(
        "one pod: {mean:.0} ms a request (variation {service_cv:.2}), {:.2} requests/s; the objective is {:.0} ms",
        capacity.rate(1.0),
        capacity.objective_seconds() * 1e3
    ));
    Ok(capacity)
}
