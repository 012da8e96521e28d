//! What is seen at one tick. Absence is a value of its own: it is never 0 and never -1.

use serde::{Deserialize, Serialize};

use crate::units::{Moment, Raw};

/// Everything that one decision looks at.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Observations {
    /// One entry per signal of the policy, in its order; what is not there is [`Absence::NotAsked`].
    pub signals: Vec<Reading>,
    /// One entry per pool of the policy, in its order.
    pub pools: Vec<PoolView>,
    /// Share of requests that fail for reasons of the servers, 0..1; absent where nobody measures it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_share: Option<f64>,
    /// Requests held elsewhere because nothing is ready. Pushed, never scraped.
    #[serde(default)]
    pub held_requests: u32,
    /// Replicas that a forecast asks for, per pool; a floor, never a reason to shrink.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forecast: Vec<u32>,
    /// What schedules ask for, per pool; a floor, never a reason to shrink.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub floors: Vec<Option<Floor>>,
}

/// Fewest replicas for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floor {
    /// Name of the schedule, for people.
    pub name: String,
    /// Replicas.
    pub replicas: u32,
    /// When it ends.
    pub until: Moment,
}

/// A number from outside, or why there is none.
pub type Reading = Result<Sample, Absence>;

/// A number from outside, unchecked.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The number: requests per second, requests, or a share, by the signal's kind.
    pub value: Raw,
    /// When it was true.
    pub at: Moment,
    /// Seconds that it is the average of; 0 for an instant.
    #[serde(default)]
    pub window_seconds: f64,
    /// Servers that it was taken from.
    pub targets_up: u32,
    /// Servers that it should have been taken from.
    pub targets_all: u32,
    /// Of the servers that are up, those that were seen over the whole window, or that counted from zero within it; absent for a number that has no
    /// window to be filled. A rate is divided by its whole window, however little of it was seen: while fewer are covered than are up, it is too low.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets_covered: Option<u32>,
}

/// Why there is no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Absence {
    /// Nobody asked.
    NotAsked,
    /// The source did not answer, or not in time.
    QueryFailed,
    /// The source answers, and does not know the series.
    SeriesMissing,
    /// There is no server that could be asked.
    NoTargets,
    /// The answer is not a number: NaN, infinite, negative, or several.
    Invalid,
}

impl Absence {
    /// The word for it, in status and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotAsked => "NotAsked",
            Self::QueryFailed => "QueryFailed",
            Self::SeriesMissing => "SeriesMissing",
            Self::NoTargets => "NoTargets",
            Self::Invalid => "Invalid",
        }
    }
}

/// Measured service times since the last tick.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceTime {
    /// Mean seconds of one request in a slot, waiting excluded.
    pub mean_seconds: f64,
    /// Squared coefficient of variation: variance over squared mean.
    pub scv: f64,
    /// Requests that it is the mean of.
    pub completions: u64,
}

/// The pods of one pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PoolView {
    /// `spec.replicas` as it stands.
    pub replicas: u32,
    /// All pods that exist.
    pub pods: Vec<Pod>,
    /// Time that requests take here, once they are served; absent where nobody measures it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceTime>,
}

/// One pod.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pod {
    /// Tells it from every other, for ever.
    pub id: u64,
    /// When it was made; where it waited for a node, when it got one.
    pub created_at: Moment,
    /// When it became ready for the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<Moment>,
    /// What it is doing.
    pub phase: Phase,
    /// Requests in it; absent where it was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<u32>,
}

/// What a pod is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// No node has room for it.
    Unschedulable,
    /// On its way: pulling, loading, warming.
    Starting,
    /// Taking requests.
    Ready,
    /// Asked to end.
    Terminating,
    /// Has failed and does not serve.
    Failed,
}
