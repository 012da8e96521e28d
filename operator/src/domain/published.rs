//! What the metrics source knows, for everyone who reads it: the metrics API, the status, the admin page.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::broadcast;

pub use crate::domain::reading::{Reading, Reason, Sample, Unavailable};

/// Changed services that a slow listener may fall behind by, before it is told to look at all of them.
const CHANGES_KEPT: usize = 1024;

/// One `InferenceService`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl ServiceKey {
    /// Names a service.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What is measured.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signal {
    /// Requests that arrive per second, refused ones included.
    RequestRate,
    /// Requests that wait, not yet being computed.
    QueueDepth,
    /// Requests that are accepted and not answered yet, those that wait included.
    Concurrency,
    /// A PromQL query of the service's own, by the name given in its spec.
    External(String),
}

impl Signal {
    const EXTERNAL_PREFIX: &'static str = "external-";

    /// The name under which `custom.metrics.k8s.io` serves it.
    pub fn metric_name(&self) -> String {
        match self {
            Self::RequestRate => "request_rate".to_owned(),
            Self::QueueDepth => "queue_depth".to_owned(),
            Self::Concurrency => "concurrency".to_owned(),
            Self::External(name) => format!("{}{name}", Self::EXTERNAL_PREFIX),
        }
    }

    /// The opposite of [`Self::metric_name`]; `None` for a name that no signal has.
    pub fn from_metric_name(name: &str) -> Option<Self> {
        match name {
            "request_rate" => Some(Self::RequestRate),
            "queue_depth" => Some(Self::QueueDepth),
            "concurrency" => Some(Self::Concurrency),
            _ => name
                .strip_prefix(Self::EXTERNAL_PREFIX)
                .filter(|rest| !rest.is_empty())
                .map(|rest| Self::External(rest.to_owned())),
        }
    }
}

/// The readings of one pool.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolReadings {
    /// [`Signal::RequestRate`].
    pub request_rate: Reading,
    /// [`Signal::QueueDepth`].
    pub queue_depth: Reading,
    /// [`Signal::Concurrency`].
    pub concurrency: Reading,
}

/// The readings of one service.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServiceReadings {
    /// By pool name.
    pub pools: BTreeMap<String, PoolReadings>,
    /// By the query's name.
    pub external: BTreeMap<String, Reading>,
    /// Digests of what its pods have loaded; empty while unknown.
    pub digests: BTreeSet<String>,
}

impl ServiceReadings {
    /// Every reading with its signal and, unless it belongs to the whole service, its pool.
    pub fn iter(&self) -> impl Iterator<Item = (Option<&str>, Signal, &Reading)> {
        let pools = self.pools.iter().flat_map(|(pool, readings)| {
            [
                (Some(pool.as_str()), Signal::RequestRate, &readings.request_rate),
                (Some(pool.as_str()), Signal::QueueDepth, &readings.queue_depth),
                (Some(pool.as_str()), Signal::Concurrency, &readings.concurrency),
            ]
        });
        let external = self
            .external
            .iter()
            .map(|(name, reading)| (None, Signal::External(name.clone()), reading));
        pools.chain(external)
    }

    /// Whether the same is loaded as in `other`, and every signal in the same state: available or not, and for the same reason. Values do not matter.
    fn same_state(&self, other: &Self) -> bool {
        let state = |(pool, signal, reading): (Option<&str>, Signal, &Reading)| {
            (
                pool.map(ToOwned::to_owned),
                signal,
                reading.as_ref().err().map(|trouble| trouble.reason),
            )
        };
        self.digests == other.digests && self.iter().map(state).eq(other.iter().map(state))
    }

    /// One signal, of the named pools or, with `None`, of all of them: the sum, but only if each of them is available. A signal of the whole
    /// service ([`Signal::External`]) is the same for every pool.
    pub fn reading(&self, pools: Option<&[String]>, signal: &Signal) -> Reading {
        if let Some(missing) = pools.and_then(|names| names.iter().find(|name| !self.pools.contains_key(*name))) {
            return Err(Unavailable::new(
                Reason::Unknown,
                format!("the service has no pool {missing:?}"),
            ));
        }
        if let Signal::External(name) = signal {
            return self.external.get(name).cloned().unwrap_or_else(|| {
                Err(Unavailable::new(
                    Reason::Unknown,
                    format!("the service has no external metric {name:?}"),
                ))
            });
        }
        let mut sum: Option<Sample> = None;
        for (name, readings) in &self.pools {
            if pools.is_some_and(|wanted| !wanted.contains(name)) {
                continue;
            }
            let reading = match signal {
                Signal::QueueDepth => &readings.queue_depth,
                Signal::Concurrency => &readings.concurrency,
                _ => &readings.request_rate,
            };
            let sample = reading.clone()?;
            // The oldest part dates the sum.
            sum = Some(sum.map_or(sample, |sum| Sample {
                value: sum.value + sample.value,
                at: sum.at.min(sample.at),
            }));
        }
        sum.ok_or_else(|| Unavailable::new(Reason::Unknown, "the service has no pool"))
    }
}

/// Everything that one tick of the metrics source found out.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// When.
    pub taken_at: Timestamp,
    /// Until how long after `taken_at` it may be used.
    pub valid_for: Duration,
    /// By service.
    pub services: BTreeMap<ServiceKey, Arc<ServiceReadings>>,
}

/// The meeting point: the metrics source writes, everyone else reads. Readers never wait.
#[derive(Debug)]
pub struct Published {
    snapshot: ArcSwap<Snapshot>,
    changes: broadcast::Sender<ServiceKey>,
}

impl Default for Published {
    fn default() -> Self {
        Self {
            snapshot: ArcSwap::from_pointee(Snapshot {
                taken_at: Timestamp::UNIX_EPOCH,
                valid_for: Duration::ZERO,
                services: BTreeMap::new(),
            }),
            changes: broadcast::channel(CHANGES_KEPT).0,
        }
    }
}

impl Published {
    /// The last tick as a whole, however old: for status and admin pages, which show its age.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Whether there has been a tick.
    pub fn is_begun(&self) -> bool {
        self.snapshot.load().taken_at != Timestamp::UNIX_EPOCH
    }

    /// Replaces the snapshot and tells the listeners which services changed their state.
    pub fn publish(&self, next: Snapshot) {
        let next = Arc::new(next);
        let previous = self.snapshot.swap(Arc::clone(&next));
        let changed = next
            .services
            .iter()
            .filter(|(key, now)| previous.services.get(*key).is_none_or(|before| !before.same_state(now)));
        for (key, _) in changed {
            // An error only says that nobody listens.
            let _ = self.changes.send(key.clone());
        }
    }

    /// The readings of one service, unless the source has stopped.
    pub fn service(&self, key: &ServiceKey, now: Timestamp) -> Result<Arc<ServiceReadings>, Unavailable> {
        let snapshot = self.snapshot.load();
        let Some(readings) = snapshot.services.get(key) else {
            return Err(Unavailable::new(
                Reason::NotYetRead,
                "the operator has not read the signals of this service yet",
            ));
        };
        // Backwards too: a clock that jumped leaves no way to tell the age.
        let age = now.duration_since(snapshot.taken_at).abs();
        if age > SignedDuration::try_from(snapshot.valid_for).unwrap_or(SignedDuration::MAX) {
            let message = format!("the operator last read its metrics {}s ago", age.as_secs());
            return Err(Unavailable::new(Reason::SourceStalled, message));
        }
        Ok(Arc::clone(readings))
    }

    /// One signal; see [`ServiceReadings::reading`].
    pub fn reading(&self, key: &ServiceKey, pools: Option<&[String]>, signal: &Signal, now: Timestamp) -> Reading {
        self.service(key, now)?.reading(pools, signal)
    }

    /// Changes from now on.
    pub fn changes(&self) -> Changes {
        Changes(self.changes.subscribe())
    }
}

/// What to look at again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// This service.
    Service(ServiceKey),
    /// All of them: there were more changes than could be kept.
    All,
}

/// The stream of changes. A change is a signal that became available, unavailable, or unavailable for another reason.
#[derive(Debug)]
pub struct Changes(broadcast::Receiver<ServiceKey>);

impl Changes {
    /// The next change; `None` when the [`Published`] is gone. Cancel safe.
    pub async fn next(&mut self) -> Option<Change> {
        match self.0.recv().await {
            Ok(key) => Some(Change::Service(key)),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(Change::All),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests;
