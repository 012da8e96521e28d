//! The spec after validation: nothing is left to refuse, so building from it is total.

use std::collections::BTreeMap;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerBehavior;
use k8s_openapi::api::core::v1::{Affinity, Toleration};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use tidewright_api::model::{EnvVar, Resources};
use tidewright_api::pools::{Accelerator, ExecutionProvider};
use tidewright_api::scaling::{Mode, ResourceName};

use jiff::{SignedDuration, Timestamp};

use super::calendar::{self, Schedule, Window};
use super::published::Signal;
use super::quantity::number;

/// A service that can be built.
#[derive(Debug, Clone, PartialEq)]
pub struct Validated {
    /// Who owns the children.
    pub owner: OwnerReference,
    /// Namespace of the service and of all its children.
    pub namespace: String,
    /// Name of the service.
    pub name: String,
    /// Generation of the spec.
    pub generation: i64,
    /// What is served.
    pub model: Model,
    /// At least one.
    pub pools: Vec<Pool>,
    /// Whether a fixed number of replicas is asked for.
    pub is_fixed: bool,
    /// Signals, in the order of the spec; at least one.
    pub metrics: Vec<ScalingMetric>,
    /// Whether these are the defaults, because the spec names none.
    pub are_metrics_implied: bool,
    /// Who scales.
    pub mode: Mode,
    /// What is promised to callers; only where the operator itself decides.
    pub objective: Option<Objective>,
    /// Whether scaling pauses.
    pub is_paused: bool,
    /// When a pause ends by itself. Whether it lasts still is told by [`Validated::at`].
    pub paused_until: Option<Timestamp>,
    /// How long a fixed number counts, where it does not count for ever.
    pub override_lasts: Option<SignedDuration>,
    /// Floors that come again and again.
    pub schedules: Vec<Schedule>,
    /// Their times that are, or come next; filled in by [`Validated::at`].
    pub windows: Vec<Window>,
    /// Passed whole to the HorizontalPodAutoscaler.
    pub behavior: Option<HorizontalPodAutoscalerBehavior>,
    /// What every server does.
    pub server: Server,
    /// ServiceAccount that the user names, instead of our own.
    pub service_account: Option<String>,
    /// Labels of pods, beside ours.
    pub labels: BTreeMap<String, String>,
    /// Annotations of pods, beside ours.
    pub annotations: BTreeMap<String, String>,
}

impl Validated {
    /// The service as it is at a time: what has a beginning or an end is in force, or is not.
    #[must_use]
    pub fn at(mut self, now: Timestamp) -> Self {
        self.is_paused |= self.paused_until.is_some_and(|until| now < until);
        self.windows = self
            .schedules
            .iter()
            .flat_map(|schedule| schedule.windows(now))
            .collect();
        for pool in &mut self.pools {
            // While scaling pauses nobody asks for more.
            pool.floor = calendar::floor(&self.windows, &pool.name, now)
                .filter(|_| !self.is_paused)
                .cloned();
        }
        self
    }

    /// The service after a number that was set by hand: scaled automatically.
    #[must_use]
    pub fn released(mut self) -> Self {
        self.is_fixed = false;
        for pool in &mut self.pools {
            pool.fixed = None;
        }
        self
    }

    /// When the next of these begins or ends.
    pub fn changes_at(&self, now: Timestamp) -> Option<Timestamp> {
        let pause = self.paused_until.filter(|until| now < *until);
        pause.into_iter().chain(calendar::edge(&self.windows, now)).min()
    }

    /// The fixed number of replicas, over all pools.
    pub fn fixed_total(&self) -> Option<i32> {
        self.is_fixed
            .then(|| self.pools.iter().filter_map(|pool| pool.fixed).sum())
    }

    /// Whether the operator can decide: by a promise, by a signal of which it knows the amount per replica, or by what the servers use.
    pub fn is_decidable(&self) -> bool {
        let is_known = |metric: &ScalingMetric| metric.per_replica().is_some() || metric.is_resource();
        !self.is_fixed && (self.objective.is_some() || self.metrics.iter().any(is_known))
    }

    /// Whether CPU or memory is named: what nobody has named is a signal of the HorizontalPodAutoscaler alone.
    pub fn names_resource(&self) -> bool {
        !self.are_metrics_implied && self.metrics.iter().any(ScalingMetric::is_resource)
    }
}

/// What is promised to callers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Objective {
    /// Seconds from arrival to answer.
    pub latency_seconds: f64,
    /// Share of the requests that may take longer, 0 to 1.
    pub late_share: f64,
    /// Seconds of one request in a replica when nothing waits.
    pub service_seconds: f64,
    /// Whether replicas refuse what they cannot answer in time.
    pub refuses_late: bool,
}

/// What is served.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Where the file is.
    pub location: Location,
    /// `sha256:…`, if the user pins one.
    pub digest: Option<String>,
    /// Environment of the server.
    pub env: Vec<EnvVar>,
}

/// Where a model file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// On a claim of the service's namespace; the path is relative to the volume's root.
    Claim {
        /// Name of the PersistentVolumeClaim.
        claim: String,
        /// Path inside the volume, without a leading slash.
        path: String,
    },
    /// In the server's image.
    Image {
        /// Absolute path.
        path: String,
    },
}

/// Equal replicas.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    /// Name.
    pub name: String,
    /// Fewest replicas, at least 1.
    pub replicas_min: i32,
    /// Most replicas, not below the fewest.
    pub replicas_max: i32,
    /// The floor of a schedule that is in force; filled in by [`Validated::at`].
    pub floor: Option<Window>,
    /// This pool's share of a fixed total.
    pub fixed: Option<i32>,
    /// With defaults filled in: a CPU request and a memory limit are always there.
    pub resources: Resources,
    /// Accelerator of each replica.
    pub accelerator: Option<Accelerator>,
    /// At least one.
    pub providers: Vec<ExecutionProvider>,
    /// Labels of nodes.
    pub node_selector: BTreeMap<String, String>,
    /// Tolerated taints.
    pub tolerations: Vec<Toleration>,
    /// Affinity.
    pub affinity: Option<Affinity>,
}

impl Pool {
    /// Whether the pool counts as GPU.
    pub fn is_gpu(&self) -> bool {
        self.accelerator.is_some()
    }

    /// Fewest replicas now: by the pool's own minimum, or by a schedule.
    pub fn fewest(&self) -> i32 {
        let scheduled = self
            .floor
            .as_ref()
            .map_or(0, |floor| floor.replicas.min(self.replicas_max));
        self.replicas_min.max(scheduled)
    }

    /// The schedule that asks for more than the pool's own minimum.
    pub fn schedule(&self) -> Option<&Window> {
        self.floor.as_ref().filter(|floor| floor.replicas > self.replicas_min)
    }
}

/// What every server does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Seconds after which an unanswered request is given up.
    pub timeout_seconds: u32,
    /// Requests at a time; 0 for no limit of its own.
    pub concurrency_max: u32,
    /// Items of one run.
    pub batch_size_max: u32,
    /// Milliseconds that a batch may wait to fill.
    pub batch_latency_max_millis: u32,
    /// Result cache in memory.
    pub memory_cache: Option<MemoryCache>,
    /// Result cache in Redis.
    pub redis_cache: Option<RedisCache>,
}

/// Result cache in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryCache {
    /// Bytes.
    pub bytes_max: u64,
    /// Seconds.
    pub ttl_seconds: u32,
}

/// Result cache in Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisCache {
    /// Where it runs.
    pub place: RedisPlace,
    /// Seconds.
    pub ttl_seconds: u32,
}

/// Where Redis runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisPlace {
    /// Beside each server.
    Sidecar {
        /// Redis' `maxmemory`.
        bytes_max: u64,
    },
    /// Elsewhere.
    External {
        /// `redis://HOST…`.
        url: String,
    },
}

/// One signal and its target.
#[derive(Debug, Clone, PartialEq)]
pub enum ScalingMetric {
    /// CPU or memory of the server's container.
    Resource {
        /// Which.
        name: ResourceName,
        /// Percent of the request, or an amount per replica.
        target: ResourceTarget,
    },
    /// Requests per second.
    RequestRate(Target),
    /// Waiting requests.
    QueueDepth(Target),
    /// Requests in work or waiting.
    Concurrency(Target),
    /// A query of the user's.
    External {
        /// Name in the metrics API, without the prefix.
        name: String,
        /// The query as the user wrote it.
        query: String,
        /// Prometheus to ask, if not the operator's own.
        server_address: Option<String>,
        /// What its value is compared with.
        target: Target,
    },
}

/// Target of CPU or memory.
#[derive(Debug, Clone, PartialEq)]
pub enum ResourceTarget {
    /// Percent of the request.
    Utilization(i32),
    /// Amount per replica.
    AverageValue(Quantity),
}

/// Target of a signal of the whole pool.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// Amount per replica.
    AverageValue(Quantity),
    /// Amount of the whole pool.
    Value(Quantity),
}

impl ScalingMetric {
    /// The signal behind it that the operator itself measures; none for CPU and memory.
    pub fn signal(&self) -> Option<Signal> {
        match self {
            Self::Resource { .. } => None,
            Self::RequestRate(_) => Some(Signal::RequestRate),
            Self::QueueDepth(_) => Some(Signal::QueueDepth),
            Self::Concurrency(_) => Some(Signal::Concurrency),
            Self::External { name, .. } => Some(Signal::External(name.clone())),
        }
    }

    /// Amount of a signal of the operator's own that one replica should have.
    pub fn per_replica(&self) -> Option<f64> {
        match self {
            Self::RequestRate(Target::AverageValue(amount))
            | Self::QueueDepth(Target::AverageValue(amount))
            | Self::Concurrency(Target::AverageValue(amount))
            | Self::External {
                target: Target::AverageValue(amount),
                ..
            } => number(amount).filter(|amount| *amount > 0.0),
            _ => None,
        }
    }

    /// Whether it is CPU or memory.
    pub fn is_resource(&self) -> bool {
        matches!(self, Self::Resource { .. })
    }

    /// Its word in reasons and messages.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Resource {
                name: ResourceName::Cpu,
                ..
            } => "CPU",
            Self::Resource {
                name: ResourceName::Memory,
                ..
            } => "Memory",
            Self::RequestRate(_) => "RequestRate",
            Self::QueueDepth(_) => "QueueDepth",
            Self::Concurrency(_) => "Concurrency",
            Self::External { .. } => "External",
        }
    }
}
