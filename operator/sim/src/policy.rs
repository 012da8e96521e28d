//! The one interface between a scaling policy and the simulated world: what it sees, and what it answers.

use std::borrow::Cow;
use std::fmt;

use crate::metrics::{Answer, Counter, Gauge, Prometheus};
use crate::plane::{Plane, Second};
use crate::plant::{Count, DeletionOrder, Phase, Plant, Usage};
use crate::time::Nanos;

/// Decides how many replicas there should be.
pub trait Policy: fmt::Debug {
    /// Between two decisions.
    fn period(&self) -> Nanos;

    /// Decides. Called each period, and [`Self::wake_delay`] after a request was held while nothing was asked for.
    fn decide(&mut self, view: &View<'_>) -> Decision;

    /// The controller's process begins anew: what it held in memory is gone.
    fn restart(&mut self, view: &View<'_>);

    /// How long after a held request a policy that is told so decides, if it is told.
    fn wake_delay(&self) -> Option<Nanos> {
        None
    }

    /// Which pods go first when it shrinks.
    fn deletion_order(&self) -> DeletionOrder {
        DeletionOrder::ReplicaSet
    }
}

/// An answer of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub replicas: u32,
    /// For people: what won.
    pub reason: Cow<'static, str>,
}

impl Decision {
    pub fn new(replicas: u32, reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            replicas,
            reason: reason.into(),
        }
    }
}

/// A pod as the API server shows it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PodView {
    /// Pods are numbered in order of creation.
    pub ordinal: u64,
    pub phase: Phase,
    pub created: Nanos,
    pub ready_since: Option<Nanos>,
    /// Requests in service; known to a policy that asks the servers.
    pub in_flight: u32,
    /// From the resource metrics API (metrics-server): not through Prometheus.
    pub usage: Option<Usage>,
}

/// What the servers push: sums since the start and numbers of now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pushed {
    pub arrived: u64,
    pub served: u64,
    /// Of the requests served: sum and sum of squares of the service times.
    pub service_seconds: f64,
    pub service_seconds_squared: f64,
    pub queued: u64,
    pub in_service: u64,
}

/// What a policy may know now. Everything that happens at this instant has happened.
#[derive(Debug)]
pub struct View<'a> {
    pub(crate) now: Nanos,
    pub(crate) plant: &'a Plant,
    pub(crate) prometheus: &'a Prometheus,
    pub(crate) plane: &'a Plane,
    pub(crate) push_arrives: bool,
}

impl View<'_> {
    pub fn now(&self) -> Nanos {
        self.now
    }

    /// `spec.replicas` of the scale subresource.
    pub fn desired(&self) -> u32 {
        self.plant.desired()
    }

    /// Pods by phase; `status.replicas` is [`Count::active`].
    pub fn count(&self) -> Count {
        self.plant.count()
    }

    /// Every pod that exists.
    pub fn pods(&self) -> impl Iterator<Item = PodView> {
        self.plant.pods().map(|(_, pod)| PodView {
            ordinal: pod.ordinal,
            phase: pod.phase,
            created: pod.created,
            ready_since: pod.ready_since,
            in_flight: pod.in_flight,
            usage: pod.usage,
        })
    }

    /// `sum(rate(counter[window]))` by Prometheus. The longest window is ten minutes.
    pub fn sum_of_rates(&self, counter: Counter, window: Nanos) -> Answer {
        self.prometheus.sum_of_rates(counter, window, self.now)
    }

    /// The same for a query that sends a time of its own, not later than now.
    pub fn sum_of_rates_at(&self, counter: Counter, window: Nanos, at: Nanos) -> Answer {
        self.prometheus.sum_of_rates(counter, window, at.min(self.now))
    }

    /// `sum(gauge)` by Prometheus.
    pub fn sum_of(&self, gauge: Gauge) -> Answer {
        self.prometheus.sum_of(gauge, self.now)
    }

    /// Concurrency of the seconds that ended after `since`, for the last ten minutes at most: the KPA's own data.
    pub fn seconds_after(&self, since: Nanos) -> impl Iterator<Item = &Second> {
        self.plane.after(since)
    }

    /// Requests that the gateway holds, for who is part of it, as Knative's activator is.
    pub fn held(&self) -> u64 {
        self.plant.queued()
    }

    /// What the servers push, unless that path is down.
    pub fn pushed(&self) -> Option<Pushed> {
        let totals = self.plant.totals();
        self.push_arrives.then(|| Pushed {
            arrived: totals.arrived,
            served: totals.served,
            service_seconds: totals.service_seconds,
            service_seconds_squared: totals.service_seconds_squared,
            queued: self.plant.queued(),
            in_service: self.plant.in_service(),
        })
    }
}
