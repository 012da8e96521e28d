//! The world that a policy steers: a gateway that queues, pods that start, serve, drain and die, nodes that can be full.

mod balance;
mod chance;
mod deletion;
mod pod;
mod serve;
mod start;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::time::{NEVER, Nanos};

pub use deletion::DeletionOrder;
pub use pod::{Phase, Pod, Usage};
pub use serve::Arrived;
pub use start::StartModel;

use balance::Balance;
use serve::Completion;

/// How pods serve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Service {
    /// One request per slot.
    Slots(u32),
    /// One batch of up to `max` at a time, which takes `alpha + beta * size`; whoever waits when the pod is free goes along.
    Batch { alpha: Nanos, beta: Nanos, max: u32 },
}

impl Service {
    /// Requests that one pod can have in service.
    pub fn slots(self) -> u32 {
        match self {
            Self::Slots(slots) => slots,
            Self::Batch { max, .. } => max,
        }
    }

    /// Things that a pod does at the same time.
    fn lanes(self) -> u32 {
        match self {
            Self::Slots(slots) => slots,
            Self::Batch { .. } => 1,
        }
    }
}

/// How requests reach pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Balancing {
    /// Whoever waits does so at the gateway; whoever is served is so by the least busy pod.
    #[default]
    Central,
    /// A request goes to a ready pod by chance and waits there: behind a Service of Kubernetes.
    Random,
}

/// What does not change during a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlantSettings {
    pub seed: u64,
    pub service: Service,
    pub balancing: Balancing,
    pub start: StartModel,
    /// Requests that the gateway holds; more are refused.
    pub queue_capacity: usize,
    /// A request that has waited for this long is answered with an error.
    pub hold: Nanos,
    /// A draining pod that still works after this long is killed.
    pub drain_grace: Nanos,
    /// Pods that the nodes have room for.
    pub room: u32,
}

/// A request that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    pub arrived: Nanos,
    /// Its own service time; in a batch, whose time is `alpha + beta * size`, the first one's scales it.
    pub service: Nanos,
}

/// Why a request was not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The queue was full.
    Refused,
    /// It waited for too long.
    Expired,
    /// Its pod died.
    Killed,
}

/// Who is told of each request's end.
pub trait Outcomes {
    fn served(&mut self, arrived: Nanos, now: Nanos);
    fn lost(&mut self, arrived: Nanos, now: Nanos, why: Loss);
    /// A pod existed over this span, starting and draining included.
    fn pod_lived(&mut self, created: Nanos, gone: Nanos);
}

/// Sums that the servers show without a scrape.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Totals {
    pub arrived: u64,
    pub served: u64,
    pub lost: u64,
    /// Of the requests served: sum and sum of squares of their service times.
    pub service_seconds: f64,
    pub service_seconds_squared: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// A starting pod becomes ready.
    Ready,
    /// A draining pod's grace ends.
    Kill,
}

/// What a timer did that others want to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fired {
    Ready { ordinal: u64, place: u32 },
}

#[derive(Debug)]
pub struct Plant {
    settings: PlantSettings,
    /// By place; a dead pod's place is reused.
    pods: Vec<Option<Pod>>,
    free: Vec<u32>,
    next_ordinal: u64,
    desired: u32,
    /// Factor on the start times of pods that get their node now.
    start_factor: f64,
    queue: VecDeque<Request>,
    /// Requests that wait at each place, and all of them.
    at_pods: Vec<VecDeque<Request>>,
    at_pods_all: u64,
    balance: Balance,
    completions: BinaryHeap<Reverse<Completion>>,
    /// Requests of the batch that each place serves.
    batches: Vec<Vec<Request>>,
    /// (when, kind, ordinal, place): the ordinal tells whether the place still holds that pod.
    timers: BinaryHeap<Reverse<(Nanos, Timer, u64, u32)>>,
    totals: Totals,
    in_service: u64,
    /// Integral of the requests in the system, in request-nanoseconds, until `accrued_at`.
    concurrency: u128,
    accrued_at: Nanos,
    /// Pods that exist, on a node or not; of these on a node; and ready.
    count: Count,
}

/// How many pods are in which phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    pub pending: u32,
    pub starting: u32,
    pub ready: u32,
    pub draining: u32,
}

impl Count {
    /// Those that the Deployment counts: not the draining ones.
    pub fn active(self) -> u32 {
        self.pending + self.starting + self.ready
    }

    fn on_nodes(self) -> u32 {
        self.starting + self.ready + self.draining
    }

    fn of(&mut self, phase: Phase) -> &mut u32 {
        match phase {
            Phase::Pending => &mut self.pending,
            Phase::Starting => &mut self.starting,
            Phase::Ready => &mut self.ready,
            Phase::Draining => &mut self.draining,
        }
    }
}

impl Plant {
    /// With `replicas` pods that are ready at once.
    pub fn new(settings: PlantSettings, replicas: u32) -> Self {
        let mut plant = Self {
            settings,
            pods: Vec::new(),
            free: Vec::new(),
            next_ordinal: 0,
            desired: 0,
            start_factor: 0.0,
            queue: VecDeque::new(),
            at_pods: Vec::new(),
            at_pods_all: 0,
            balance: Balance::new(settings.service.lanes()),
            completions: BinaryHeap::new(),
            batches: Vec::new(),
            timers: BinaryHeap::new(),
            totals: Totals::default(),
            in_service: 0,
            concurrency: 0,
            accrued_at: 0,
            count: Count::default(),
        };
        plant.scale(replicas, DeletionOrder::ReplicaSet, 0);
        plant.start_factor = 1.0;
        plant
    }

    /// Sets the replicas that the Deployment asks for: creates pods, or tells some to end. Says how many were created.
    pub fn scale(&mut self, replicas: u32, order: DeletionOrder, now: Nanos) -> u32 {
        self.desired = replicas;
        let active = self.count.active();
        for place in deletion::victims(&self.pods, active.saturating_sub(replicas) as usize, order) {
            self.end(place, now);
        }
        let created = self.create_missing(now);
        self.place_pending(now);
        created
    }

    fn create_missing(&mut self, now: Nanos) -> u32 {
        let missing = self.desired.saturating_sub(self.count.active());
        for _ in 0..missing {
            let pod = Pod::new(self.next_ordinal, now);
            self.next_ordinal += 1;
            self.count.pending += 1;
            if let Some(place) = self.free.pop() {
                self.pods[place as usize] = Some(pod);
            } else {
                self.pods.push(Some(pod));
                self.batches.push(Vec::new());
                self.at_pods.push(VecDeque::new());
                self.balance.grow(self.pods.len());
            }
        }
        missing
    }

    /// Pending pods get a node in order of creation, as far as there is room.
    fn place_pending(&mut self, now: Nanos) {
        while self.count.pending > 0 && self.count.on_nodes() < self.settings.room {
            let oldest = self
                .pods
                .iter_mut()
                .enumerate()
                .filter_map(|(place, pod)| pod.as_mut().map(|pod| (place as u32, pod)))
                .filter(|(_, pod)| pod.phase == Phase::Pending)
                .min_by_key(|(_, pod)| pod.ordinal);
            let Some((place, pod)) = oldest else { return };
            pod.phase = Phase::Starting;
            let takes = self.settings.start.draw(self.settings.seed, pod.ordinal) as f64 * self.start_factor;
            let at = now.saturating_add(takes as Nanos);
            self.timers.push(Reverse((at, Timer::Ready, pod.ordinal, place)));
            self.count.pending -= 1;
            self.count.starting += 1;
        }
    }

    /// Tells a pod to end. One that has nothing to finish is gone with the next timer, at this instant.
    fn end(&mut self, place: u32, now: Nanos) {
        let Some(pod) = self.pods[place as usize].as_mut() else {
            return;
        };
        if pod.phase == Phase::Ready {
            self.balance.remove(place, pod.occupied);
        }
        *self.count.of(pod.phase) -= 1;
        self.count.draining += 1;
        pod.phase = Phase::Draining;
        let grace = if pod.occupied == 0 {
            0
        } else {
            self.settings.drain_grace
        };
        let at = now.saturating_add(grace);
        self.timers.push(Reverse((at, Timer::Kill, pod.ordinal, place)));
    }

    /// When the next pod becomes ready or is killed, or [`NEVER`].
    #[inline]
    pub fn next_timer(&self) -> Nanos {
        self.timers.peek().map_or(NEVER, |Reverse((at, ..))| *at)
    }

    /// Does what [`Self::next_timer`] announced.
    pub fn fire_timer(&mut self, now: Nanos, outcomes: &mut impl Outcomes) -> Option<Fired> {
        let Reverse((_, timer, ordinal, place)) = self.timers.pop()?;
        let pod = self.pods[place as usize]
            .as_mut()
            .filter(|pod| pod.ordinal == ordinal)?;
        match timer {
            // It may have been told to end since.
            Timer::Ready if pod.phase == Phase::Starting => {
                pod.phase = Phase::Ready;
                pod.ready_since = Some(now);
                self.count.starting -= 1;
                self.count.ready += 1;
                self.balance.insert(place, 0);
                self.accrue(now);
                self.serve_waiting(now);
                return Some(Fired::Ready { ordinal, place });
            }
            Timer::Ready => {}
            Timer::Kill => self.remove(place, now, outcomes),
        }
        None
    }

    /// Pods die at once, as when their nodes do; the ReplicaSet makes new ones. Says how many were created.
    pub fn kill(&mut self, places: &[u32], now: Nanos, outcomes: &mut impl Outcomes) -> u32 {
        for place in places {
            self.remove(*place, now, outcomes);
        }
        let created = self.create_missing(now);
        self.place_pending(now);
        created
    }

    /// A pod is gone, with what it served.
    fn remove(&mut self, place: u32, now: Nanos, outcomes: &mut impl Outcomes) {
        let Some(pod) = self.pods[place as usize].take() else {
            return;
        };
        if pod.phase == Phase::Ready {
            self.balance.remove(place, pod.occupied);
        }
        *self.count.of(pod.phase) -= 1;
        if pod.occupied > 0 {
            self.lose_in_service(place, now, outcomes);
        }
        outcomes.pod_lived(pod.created, now);
        self.free.push(place);
        self.place_pending(now);
    }

    /// The run is over: everybody's life is accounted for.
    pub fn finish(&mut self, now: Nanos, outcomes: &mut impl Outcomes) {
        for pod in self.pods.iter().flatten() {
            outcomes.pod_lived(pod.created, now);
        }
    }

    /// Closes a window of the resource metrics of each pod that has a node.
    pub fn report_usage(&mut self, now: Nanos) {
        let slots = self.settings.service.lanes();
        for pod in self.pods.iter_mut().flatten().filter(|pod| pod.phase != Phase::Pending) {
            pod.report(now, slots);
        }
    }

    pub fn set_start_factor(&mut self, factor: f64) {
        self.start_factor = factor;
    }

    pub fn desired(&self) -> u32 {
        self.desired
    }

    pub fn count(&self) -> Count {
        self.count
    }

    pub fn settings(&self) -> &PlantSettings {
        &self.settings
    }

    /// The pod of this ordinal, if its place still holds it.
    pub fn pod(&self, place: u32, ordinal: u64) -> Option<&Pod> {
        self.pods
            .get(place as usize)?
            .as_ref()
            .filter(|pod| pod.ordinal == ordinal)
    }

    /// Pods with their places, in order of place.
    pub fn pods(&self) -> impl Iterator<Item = (u32, &Pod)> {
        self.pods
            .iter()
            .enumerate()
            .filter_map(|(place, pod)| pod.as_ref().map(|pod| (place as u32, pod)))
    }
}
