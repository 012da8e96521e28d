//! What was decided, by what, against what, and until when. Everything that people see is rendered from this.

use serde::{Deserialize, Serialize};

use crate::freshness::Trust;
use crate::learned::Counts;
use crate::observation::Floor;
use crate::policy::Balancing;
use crate::sizing::{Request, Server};
use crate::units::Moment;

/// The decision about a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// When.
    pub at: Moment,
    /// One per pool, in the policy's order.
    pub pools: Vec<PoolDecision>,
    /// One per signal, in the policy's order.
    pub signals: Vec<SignalState>,
    /// Arrivals per second that were sized for, all pools.
    pub lambda: f64,
    /// Waiting requests that were sized for.
    pub queued: f64,
    /// When to decide again at the latest.
    pub look_again_at: Moment,
}

/// How a signal was judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SignalState {
    /// Its name.
    pub name: String,
    /// Its worth.
    pub trust: Trust,
}

/// The decision about a pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoolDecision {
    /// Its name.
    pub name: String,
    /// `spec.replicas` before.
    pub from: u32,
    /// And after.
    pub to: u32,
    /// What determined it.
    pub reason: Reason,
    /// What each signal asks for, losers too.
    pub proposals: Vec<Proposal>,
    /// How the largest proposal became `to`, in order; only what changed something.
    pub steps: Vec<Step>,
    /// What is kept although nothing asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// What a schedule asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<Floor>,
    /// Its pods.
    pub counts: Counts,
    /// What was known when deciding.
    pub model: Model,
    /// What would change it; absent where nobody reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thresholds: Option<Thresholds>,
}

/// What one signal asks of a pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proposal {
    /// Name of the signal.
    pub signal: String,
    /// What kind of sizing.
    pub reason: Reason,
    /// The number that was sized for: requests per second, requests, or a share.
    pub value: f64,
    /// Replicas.
    pub replicas: u32,
}

/// One stage that changed the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What did.
    pub reason: Reason,
    /// Before.
    pub before: u32,
    /// And after.
    pub after: u32,
}

/// Replicas that are kept although nothing asks for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Why.
    pub reason: Reason,
    /// Until when, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Moment>,
}

/// What was known of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// Mean seconds of a request in a slot.
    pub service_seconds: f64,
    /// Slots of a replica.
    pub slots: u32,
    /// Squared coefficient of variation of that.
    pub service_scv: f64,
    /// Squared coefficient of variation of the times between arrivals.
    pub arrival_scv: f64,
    /// Promised seconds from arrival to answer.
    pub latency_seconds: f64,
    /// Share that may take longer: the promised one, or more while much of it is left.
    pub late_share: f64,
    /// Seconds that most requests may wait: what a long service leaves of the promise.
    pub slack_seconds: f64,
    /// How requests reach replicas.
    pub balancing: Balancing,
    /// Seconds in which half of the replicas start.
    pub start_seconds_p50: f64,
    /// Seconds in which nine of ten do.
    pub start_seconds_p90: f64,
    /// Seconds after which one that has not become ready is stuck.
    pub stuck_after_seconds: f64,
    /// The pool's part of the arrivals, per second.
    pub lambda: f64,
}

impl Model {
    /// The part that the sizing needs.
    pub fn server(&self) -> Server {
        let request = Request {
            service_seconds: self.service_seconds,
            service_scv: self.service_scv,
            arrival_scv: self.arrival_scv,
            latency_seconds: self.latency_seconds,
            late_share: self.late_share,
        };
        Server::new(&request, self.slots, self.balancing)
    }
}

/// What would change the decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    /// It grows above so many arrivals per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_above_rate: Option<f64>,
    /// Or above so many waiting requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_above_queued: Option<f64>,
    /// It shrinks to so many replicas …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down_to: Option<u32>,
    /// … below so many arrivals per second …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down_below_rate: Option<f64>,
    /// … but not before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down_not_before: Option<Moment>,
}

/// What determined a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// The arrival rate, sized for the objective.
    RateSizing,
    /// Waiting requests, to be worked off in time.
    QueueDrain,
    /// Requests in slots.
    Concurrency,
    /// A guard: CPU, memory or GPU.
    UtilizationGuard,
    /// An amount per replica.
    PerReplica,
    /// Requests that are in replicas now: they are not taken away.
    InFlight,
    /// A forecast.
    ForecastFloor,
    /// Kept because experience says that it will be needed again.
    KeepAlive,
    /// Too little a shrink to be worth it.
    Deadband,
    /// It has grown a moment ago.
    Settling,
    /// Replicas are starting: shrinking would take those first.
    Starting,
    /// Its replicas wait for a node, and are asked for no more because they do.
    Unschedulable,
    /// Replicas that do not come are made up for.
    ReplicasStuck,
    /// The minimum.
    MinReplicas,
    /// A schedule: more than the minimum, for a while.
    Schedule,
    /// The maximum.
    MaxReplicas,
    /// A limit on the speed.
    RateLimited,
    /// Nothing is known for a while: the most that was needed within the last hour.
    RecentPeak,
    /// Nothing is known for long: the fallback.
    Fallback,
    /// Something is not known: nothing shrinks.
    FailStatic,
    /// After a restart, nothing shrinks before enough was seen.
    WarmingUp,
    /// Load fell while requests failed: a storm of retries may follow.
    HoldAfterOutage,
    /// Nothing asks for anything.
    ScaledToZero,
    /// Something waits and nothing is there.
    Waking,
}

impl Reason {
    /// The word, as people see it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RateSizing => "RateSizing",
            Self::QueueDrain => "QueueDrain",
            Self::Concurrency => "Concurrency",
            Self::UtilizationGuard => "UtilizationGuard",
            Self::PerReplica => "PerReplica",
            Self::InFlight => "InFlight",
            Self::ForecastFloor => "ForecastFloor",
            Self::KeepAlive => "KeepAlive",
            Self::Deadband => "Deadband",
            Self::Settling => "Settling",
            Self::Starting => "Starting",
            Self::Unschedulable => "Unschedulable",
            Self::ReplicasStuck => "ReplicasStuck",
            Self::MinReplicas => "MinReplicas",
            Self::Schedule => "Schedule",
            Self::MaxReplicas => "MaxReplicas",
            Self::RateLimited => "RateLimited",
            Self::RecentPeak => "RecentPeak",
            Self::Fallback => "Fallback",
            Self::FailStatic => "FailStatic",
            Self::WarmingUp => "WarmingUp",
            Self::HoldAfterOutage => "HoldAfterOutage",
            Self::ScaledToZero => "ScaledToZero",
            Self::Waking => "Waking",
        }
    }
}

impl PoolDecision {
    /// The largest proposal; of equal ones the first.
    pub fn winner(&self) -> Option<&Proposal> {
        self.proposals
            .iter()
            .fold(None, |best: Option<&Proposal>, proposal| match best {
                Some(best) if best.replicas >= proposal.replicas => Some(best),
                _ => Some(proposal),
            })
    }
}
