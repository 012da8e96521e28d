//! The operator's own metrics: typed, registered once; labels come from closed lists.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::domain::published::ServiceKey;

/// Seconds; a reconcile that writes nothing takes well under a millisecond.
const RECONCILE_SECONDS: [f64; 10] = [0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 10.0, 60.0];

/// One label: what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Outcome {
    outcome: &'static str,
}

/// One label: the verb of a write.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Verb {
    verb: &'static str,
}

/// A pool.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PoolLabels {
    namespace: String,
    inferenceservice: String,
    pool: String,
}

/// One label: a kind of Kubernetes object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Kind {
    kind: &'static str,
}

/// One label: an HTTP status code.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Code {
    code: u16,
}

/// Cheap to clone; all clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    reconciles: Family<Outcome, Counter>,
    reconcile_seconds: Histogram,
    writes: Family<Verb, Counter>,
    queries: Family<Outcome, Counter>,
    api_requests: Family<Code, Counter>,
    leader: Gauge,
    services: Gauge,
    watches: Family<Kind, Gauge>,
    desired_replicas: Family<PoolLabels, Gauge>,
    last_turn_seconds: Arc<AtomicI64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("tidewright_operator");
        let reconciles = Family::<Outcome, Counter>::default();
        registry.register(
            "reconciles",
            "Reconciles by outcome: Ok or the category of the error",
            reconciles.clone(),
        );
        let reconcile_seconds = Histogram::new(RECONCILE_SECONDS);
        registry.register(
            "reconcile_duration_seconds",
            "Time of one reconcile",
            reconcile_seconds.clone(),
        );
        let writes = Family::<Verb, Counter>::default();
        registry.register("api_writes", "Objects written to the API server", writes.clone());
        let queries = Family::<Outcome, Counter>::default();
        registry.register(
            "metrics_source_queries",
            "Queries to Prometheus since the start, by outcome",
            queries.clone(),
        );
        let api_requests = Family::<Code, Counter>::default();
        registry.register(
            "metrics_api_requests",
            "Requests to the metrics API since the start, by status code",
            api_requests.clone(),
        );
        let leader = Gauge::default();
        registry.register("leader", "1 while this process may write", leader.clone());
        let services = Gauge::default();
        registry.register("inference_services", "InferenceServices in the cache", services.clone());
        let watches = Family::<Kind, Gauge>::default();
        registry.register(
            "watch_following",
            "1 while what is watched of this kind is up to date, 0 while its watch fails or is not listed",
            watches.clone(),
        );
        let desired_replicas = Family::<PoolLabels, Gauge>::default();
        registry.register(
            "desired_replicas",
            "Replicas that the operator's own decision asks for (modes Advise and Direct)",
            desired_replicas.clone(),
        );
        Self {
            registry: Arc::new(Mutex::new(registry)),
            reconciles,
            reconcile_seconds,
            writes,
            queries,
            api_requests,
            leader,
            services,
            watches,
            desired_replicas,
            last_turn_seconds: Arc::default(),
        }
    }
}

impl Metrics {
    /// Counts one reconcile.
    pub fn reconciled(&self, outcome: &'static str, seconds: f64) {
        self.reconciles.get_or_create(&Outcome { outcome }).inc();
        self.reconcile_seconds.observe(seconds);
    }

    /// Counts objects written.
    pub fn wrote(&self, verb: &'static str, objects: u32) {
        self.writes.get_or_create(&Verb { verb }).inc_by(u64::from(objects));
    }

    /// Notes what is decided at the moment; what is not named is not decided about any more.
    pub fn decided(&self, pools: &[(ServiceKey, String, i32)]) {
        // Nobody reads while some are missing.
        let _encoding = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        self.desired_replicas.clear();
        for (service, pool, replicas) in pools {
            let labels = PoolLabels {
                namespace: service.namespace.clone(),
                inferenceservice: service.name.clone(),
                pool: pool.clone(),
            };
            self.desired_replicas.get_or_create(&labels).set(i64::from(*replicas));
        }
    }

    /// Notes which kinds are followed.
    pub fn watched(&self, kinds: impl IntoIterator<Item = (&'static str, bool)>) {
        for (kind, is_followed) in kinds {
            self.watches.get_or_create(&Kind { kind }).set(i64::from(is_followed));
        }
    }

    /// Notes that the controller's loop has turned.
    pub fn loop_turned(&self, now: Timestamp) {
        self.last_turn_seconds.store(now.as_second(), Ordering::Relaxed);
    }

    /// When the controller's loop last turned; `None` before the first time.
    pub fn last_turn(&self) -> Option<Timestamp> {
        match self.last_turn_seconds.load(Ordering::Relaxed) {
            0 => None,
            seconds => Timestamp::from_second(seconds).ok(),
        }
    }

    /// Sets what others have counted, and what is so at the moment.
    pub fn set(&self, is_leader: bool, services: usize, queries: &[(&'static str, u64)], requests: &[(u16, u64)]) {
        self.leader.set(i64::from(is_leader));
        self.services.set(i64::try_from(services).unwrap_or(i64::MAX));
        for (outcome, count) in queries {
            self.queries
                .get_or_create(&Outcome { outcome })
                .inner()
                .store(*count, Ordering::Relaxed);
        }
        for (code, count) in requests {
            self.api_requests
                .get_or_create(&Code { code: *code })
                .inner()
                .store(*count, Ordering::Relaxed);
        }
    }

    /// Everything as OpenMetrics text.
    ///
    /// # Errors
    /// If the text cannot be written, which means that memory has run out.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_that_is_not_decided_about_any_more_is_gone() {
        let metrics = Metrics::default();
        metrics.decided(&[(ServiceKey::new("demo", "digits"), "cpu".to_owned(), 3)]);
        let line =
            "tidewright_operator_desired_replicas{namespace=\"demo\",inferenceservice=\"digits\",pool=\"cpu\"} 3";
        let text = metrics.encode().unwrap();
        assert!(text.contains(line), "no {line:?} in\n{text}");
        metrics.decided(&[]);
        assert!(!metrics.encode().unwrap().contains("desired_replicas{"));
    }

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
