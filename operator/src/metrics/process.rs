//! What the process does: reconciles, writes, questions and answers, and what it follows.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::{Metrics, Outcome, add};

/// Seconds; a reconcile that writes nothing takes well under a millisecond.
const RECONCILE_SECONDS: [f64; 10] = [0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 10.0, 60.0];

/// One label: the verb of a write.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Verb {
    verb: &'static str,
}

/// One label: a kind of Kubernetes object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

/// One label: an HTTP status code.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Code {
    code: u16,
}

#[derive(Debug, Clone)]
pub(super) struct Process {
    reconciles: Family<Outcome, Counter>,
    reconcile_seconds: Histogram,
    writes: Family<Verb, Counter>,
    queries: Family<Outcome, Counter>,
    api_requests: Family<Code, Counter>,
    leader: Gauge,
    services: Gauge,
    watches: Family<Kind, Gauge>,
    last_turn_seconds: Arc<AtomicI64>,
}

impl Process {
    pub(super) fn register(registry: &mut Registry) -> Self {
        Self {
            reconciles: add(
                registry,
                "reconciles",
                "Reconciles by outcome: Ok or the category of the error",
                Family::default(),
            ),
            reconcile_seconds: add(
                registry,
                "reconcile_duration_seconds",
                "Time of one reconcile",
                Histogram::new(RECONCILE_SECONDS),
            ),
            writes: add(
                registry,
                "api_writes",
                "Objects written to the API server",
                Family::default(),
            ),
            queries: add(
                registry,
                "metrics_source_queries",
                "Queries to Prometheus since the start, by outcome",
                Family::default(),
            ),
            api_requests: add(
                registry,
                "metrics_api_requests",
                "Requests to the metrics API since the start, by status code",
                Family::default(),
            ),
            leader: add(registry, "leader", "1 while this process may write", Gauge::default()),
            services: add(
                registry,
                "inference_services",
                "InferenceServices in the cache",
                Gauge::default(),
            ),
            watches: add(
                registry,
                "watch_following",
                "1 while what is watched of this kind is up to date, 0 while its watch fails or is not listed",
                Family::default(),
            ),
            last_turn_seconds: Arc::default(),
        }
    }
}

impl Metrics {
    /// Counts one reconcile.
    pub fn reconciled(&self, outcome: &'static str, seconds: f64) {
        self.process.reconciles.get_or_create(&Outcome { outcome }).inc();
        self.process.reconcile_seconds.observe(seconds);
    }

    /// Counts objects written.
    pub fn wrote(&self, verb: &'static str, objects: u32) {
        let writes = self.process.writes.get_or_create(&Verb { verb });
        writes.inc_by(u64::from(objects));
    }

    /// Notes which kinds are followed.
    pub fn watched(&self, kinds: impl IntoIterator<Item = (&'static str, bool)>) {
        for (kind, is_followed) in kinds {
            let watch = self.process.watches.get_or_create(&Kind { kind });
            watch.set(i64::from(is_followed));
        }
    }

    /// Notes that the controller's loop has turned.
    pub fn loop_turned(&self, now: Timestamp) {
        self.process.last_turn_seconds.store(now.as_second(), Ordering::Relaxed);
    }

    /// When the controller's loop last turned; `None` before the first time.
    pub fn last_turn(&self) -> Option<Timestamp> {
        match self.process.last_turn_seconds.load(Ordering::Relaxed) {
            0 => None,
            seconds => Timestamp::from_second(seconds).ok(),
        }
    }

    /// Sets what others have counted, and what is so at the moment.
    pub fn set(&self, is_leader: bool, services: usize, queries: &[(&'static str, u64)], requests: &[(u16, u64)]) {
        let process = &self.process;
        process.leader.set(i64::from(is_leader));
        process.services.set(i64::try_from(services).unwrap_or(i64::MAX));
        for (outcome, count) in queries {
            let queries = process.queries.get_or_create(&Outcome { outcome });
            queries.inner().store(*count, Ordering::Relaxed);
        }
        for (code, count) in requests {
            let requests = process.api_requests.get_or_create(&Code { code: *code });
            requests.inner().store(*count, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_grows_is_a_counter() {
        let metrics = Metrics::default();
        metrics.set(true, 3, &[("Ok", 7)], &[(200, 9)]);
        metrics.set(true, 3, &[("Ok", 8)], &[(200, 9)]);
        metrics.watched([("Deployment", false)]);
        let text = metrics.encode().unwrap();
        for line in [
            "# TYPE tidewright_operator_metrics_source_queries counter",
            "tidewright_operator_metrics_source_queries_total{outcome=\"Ok\"} 8",
            "# TYPE tidewright_operator_metrics_api_requests counter",
            "tidewright_operator_metrics_api_requests_total{code=\"200\"} 9",
            "tidewright_operator_inference_services 3",
            "tidewright_operator_watch_following{kind=\"Deployment\"} 0",
        ] {
            assert!(text.lines().any(|l| l == line), "no {line:?} in\n{text}");
        }
    }
}
