//! What a reconcile may use.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::Client;
use tokio::sync::watch;

use super::last_valid::LastValid;
use super::settled::Settled;
use super::written::Written;
use crate::autoscaler::{Plans, Times};
use crate::clock::SharedClock;
use crate::cluster::caches::Caches;
use crate::cluster::may_write::MayWrite;
use crate::cluster::record::Recorder;
use crate::domain::decided::Decisions;
use crate::domain::published::{Published, ServiceKey};
use crate::domain::settings::PodSettings;
use crate::domain::signals::Signals;
use crate::domain::subscriptions::Subscriptions;
use crate::metrics::Metrics;
use crate::validate::Prometheus;

/// What a reconcile may use.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// What is watched.
    pub caches: Arc<Caches>,
    /// Publishes events.
    pub recorder: Recorder,
    /// Time.
    pub clock: SharedClock,
    /// Whether we may write.
    pub may_write: MayWrite,
    /// What the metrics source should measure.
    pub subscriptions: Arc<Subscriptions>,
    /// What it measured.
    pub published: Arc<Published>,
    /// What the operator's own autoscaler should decide about.
    pub plans: Arc<Plans>,
    /// What it reads, in times.
    pub times: Times,
    /// What it decided.
    pub decisions: Arc<Decisions>,
    /// Whether autoscalers can read it.
    pub signals: watch::Receiver<Signals>,
    /// What validation must know.
    pub prometheus: Prometheus,
    /// What the pods are made of.
    pub pods: PodSettings,
    /// Counters of our own.
    pub metrics: Metrics,
    /// Longest time of one reconcile.
    pub reconcile_timeout: Duration,
    /// Failures in a row, by service.
    pub failures: Failures,
    /// What is acted on while a later spec is refused.
    pub last_valid: LastValid,
    /// What has been seen rolled out.
    pub settled: Settled,
    /// What was written to statuses and may not be in the caches yet.
    pub written: Written,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Context")
    }
}

/// Failures in a row, by service.
#[derive(Debug, Default)]
pub struct Failures(Mutex<HashMap<ServiceKey, Row>>);

/// Failures without a success between them.
#[derive(Debug, Clone, Copy)]
struct Row {
    since: Timestamp,
    count: u32,
}

impl Failures {
    /// Counts one more, and says how many there are.
    pub fn count(&self, key: &ServiceKey, now: Timestamp) -> u32 {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let row = all.entry(key.clone()).or_insert(Row { since: now, count: 0 });
        row.count = row.count.saturating_add(1);
        row.count
    }

    /// For how long there have been nothing but failures.
    pub fn lasting(&self, key: &ServiceKey, now: Timestamp) -> SignedDuration {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(key)
            .map_or(SignedDuration::ZERO, |row| now.duration_since(row.since))
    }

    /// Forgets a service: it succeeded, or is gone.
    pub fn forget(&self, key: &ServiceKey) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}
