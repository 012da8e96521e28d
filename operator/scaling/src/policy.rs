//! The parameters of a decision. A [`Policy`] that exists is consistent.

use serde::{Deserialize, Serialize};

pub use crate::tuning::Tuning;

/// How one service scales. Made by [`Draft::check`] alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Draft", into = "Draft")]
pub struct Policy(Draft);

impl std::ops::Deref for Policy {
    type Target = Draft;

    fn deref(&self) -> &Draft {
        &self.0
    }
}

impl Policy {
    /// The parameters again, to change some of them.
    pub fn into_draft(self) -> Draft {
        self.0
    }

    /// The same with another tuning and share that may be late, both of which have to be as [`Draft::check`] wants them.
    pub(crate) fn with_changes(&self, tuning: Tuning, late_share: f64) -> Self {
        let mut draft = self.0.clone();
        draft.tuning = tuning;
        draft.objective.late_share = late_share;
        Self(draft)
    }
}

impl TryFrom<Draft> for Policy {
    type Error = String;

    fn try_from(draft: Draft) -> Result<Self, String> {
        draft.check()
    }
}

impl From<Policy> for Draft {
    fn from(policy: Policy) -> Self {
        policy.0
    }
}

/// Parameters before they are checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    /// At least one; the order is that of [`crate::observation::Observations::pools`].
    pub pools: Vec<Pool>,
    /// What is observed; the order is that of [`crate::observation::Observations::signals`].
    pub signals: Vec<Signal>,
    /// What is promised to callers.
    pub objective: Objective,
    /// How requests reach replicas.
    #[serde(default)]
    pub balancing: Balancing,
    /// What to do when signals stay away.
    #[serde(default)]
    pub fallback: Fallback,
    /// Fastest growth; without any, as fast as needed. The most permissive of them counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub up_limits: Vec<StepLimit>,
    /// Fastest shrinking. The most permissive of them counts.
    #[serde(default = "default_down_limits")]
    pub down_limits: Vec<StepLimit>,
    /// Numbers that nobody should have to know.
    #[serde(default)]
    pub tuning: Tuning,
}

/// Equal replicas.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Name, for people.
    pub name: String,
    /// Fewest replicas; 0 allows none.
    pub replicas_min: u32,
    /// Most replicas.
    pub replicas_max: u32,
    /// Requests that one replica works on at once.
    pub slots: u32,
    /// Price of a replica, in any unit that the pools share.
    #[serde(default = "one")]
    pub cost: f64,
    /// Seconds that one request takes in a slot, until it has been measured.
    pub service_seconds_prior: f64,
    /// Seconds from creation to ready, until it has been measured.
    pub start_seconds_prior: f64,
}

/// One thing that is observed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signal {
    /// Name, for people; unique.
    pub name: String,
    /// What it means.
    pub kind: SignalKind,
    /// Age from which it is not believed any more, in seconds.
    pub stale_after_seconds: f64,
}

/// What a signal means, and how it becomes replicas.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SignalKind {
    /// Arrivals per second at the service, refused ones included: sized by Erlang's C for the objective.
    ArrivalRate,
    /// Arrivals per second at the service over a short window, of which one replica of a pool should have `target`. Unlike [`Self::PerReplica`],
    /// which takes its number as it is, a rise counts once it is more than chance.
    ArrivalsPerReplica {
        /// Index of the pool.
        pool: usize,
        /// Arrivals per second and replica.
        target: f64,
    },
    /// Requests of the service that wait: sized to drain them in time.
    Queued,
    /// Requests of the service in slots. `utilization` is the share of slots that should be busy.
    InFlight {
        /// 0..1.
        utilization: f64,
    },
    /// Mean use per ready replica of one pool, as a share of what it may use: CPU, memory, GPU. A guard.
    Utilization {
        /// Index of the pool.
        pool: usize,
        /// Share that it should have; same unit as the samples.
        target: f64,
    },
    /// Mean use per ready replica of one pool, as an amount such as cores or bytes. A guard as well.
    MeanUse {
        /// Index of the pool.
        pool: usize,
        /// Amount that it should be; same unit as the samples.
        target: f64,
    },
    /// Amount of the whole service, of which one replica of a pool should have `target`.
    PerReplica {
        /// Index of the pool.
        pool: usize,
        /// Amount per replica.
        target: f64,
    },
}

impl SignalKind {
    /// Whether its samples are a mean over the replicas, and not a total of them.
    pub const fn is_mean(&self) -> bool {
        matches!(self, Self::Utilization { .. } | Self::MeanUse { .. })
    }
}

/// What is promised to callers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Objective {
    /// Latency that a request should stay below, in seconds.
    pub latency_seconds: f64,
    /// Share of requests that may take longer, 0..1.
    pub late_share: f64,
}

/// How requests reach replicas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Balancing {
    /// One queue for all replicas.
    #[default]
    Central,
    /// Each request goes to a replica by chance and waits there.
    Random,
}

/// What to do when signals stay away.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fallback {
    /// Seconds without any trusted signal after which `replicas` counts.
    pub after_seconds: f64,
    /// At least so many replicas then, per pool; never fewer than there are.
    pub replicas: u32,
}

impl Default for Fallback {
    /// 180 s, as Kubernetes proposes for external metrics (KEP-5679), and no replicas beyond those there are.
    fn default() -> Self {
        Self {
            after_seconds: 180.0,
            replicas: 0,
        }
    }
}

/// At most so many replicas more or fewer within a period.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepLimit {
    /// Replicas.
    #[serde(default)]
    pub replicas: u32,
    /// Percent of the replicas at the start of the period.
    #[serde(default)]
    pub percent: u32,
    /// Seconds.
    pub period_seconds: f64,
}

fn one() -> f64 {
    1.0
}

/// At most half of the replicas, or one, in 15 s.
pub fn default_down_limits() -> Vec<StepLimit> {
    vec![StepLimit {
        replicas: 1,
        percent: 50,
        period_seconds: 15.0,
    }]
}

/// More replicas than this are beyond what the sizing is meant for.
pub const REPLICAS_MAX: u32 = 10_000;
/// More slots than this in one replica are beyond what the sizing is meant for.
pub const SLOTS_MAX: u32 = 4096;

impl Draft {
    /// The policy, or everything that is wrong with it in one sentence.
    pub fn check(self) -> Result<Policy, String> {
        let mut problems = Vec::new();
        let mut demand = |holds: bool, what: String| {
            if !holds {
                problems.push(what);
            }
        };
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let share = |value: f64| value > 0.0 && value < 1.0;
        demand(!self.pools.is_empty(), "pools: at least one is needed".to_owned());
        for pool in &self.pools {
            let name = &pool.name;
            demand(
                pool.replicas_min <= pool.replicas_max && pool.replicas_max <= REPLICAS_MAX && pool.replicas_max > 0,
                format!("pool {name}: replicas must satisfy 0 <= min <= max <= {REPLICAS_MAX} and max > 0"),
            );
            demand(
                (1..=SLOTS_MAX).contains(&pool.slots),
                format!("pool {name}: slots must be 1 to {SLOTS_MAX}"),
            );
            demand(
                positive(pool.cost) && positive(pool.service_seconds_prior) && positive(pool.start_seconds_prior),
                format!("pool {name}: cost, service_seconds_prior and start_seconds_prior must be above 0"),
            );
        }
        let count = self.pools.len();
        for (index, signal) in self.signals.iter().enumerate() {
            let name = &signal.name;
            let target_is_right = match signal.kind {
                SignalKind::ArrivalRate | SignalKind::Queued => true,
                SignalKind::InFlight { utilization } => utilization > 0.0 && utilization <= 1.0,
                SignalKind::Utilization { pool, target }
                | SignalKind::MeanUse { pool, target }
                | SignalKind::PerReplica { pool, target }
                | SignalKind::ArrivalsPerReplica { pool, target } => pool < count && positive(target),
            };
            demand(
                target_is_right,
                format!("signal {name}: its target must be above 0 and its pool must exist"),
            );
            demand(
                positive(signal.stale_after_seconds),
                format!("signal {name}: stale_after_seconds must be above 0"),
            );
            demand(
                self.signals.iter().take(index).all(|other| other.name != *name),
                format!("signal {name}: the name is taken"),
            );
        }
        demand(!self.signals.is_empty(), "signals: at least one is needed".to_owned());
        demand(
            positive(self.objective.latency_seconds) && share(self.objective.late_share),
            "objective: latency_seconds must be above 0 and late_share between 0 and 1".to_owned(),
        );
        demand(
            positive(self.fallback.after_seconds),
            "fallback.after_seconds must be above 0".to_owned(),
        );
        for limit in self.up_limits.iter().chain(&self.down_limits) {
            demand(
                positive(limit.period_seconds),
                "limits: period_seconds must be above 0".to_owned(),
            );
        }
        for (name, value) in self.tuning.all() {
            demand(
                value.is_finite() && value >= 0.0,
                format!("tuning.{name} must be finite and at least 0"),
            );
        }
        demand(
            self.tuning.keep_seconds_min <= self.tuning.keep_seconds_max
                && self.tuning.arrival_scv_min <= self.tuning.arrival_scv_max,
            "tuning: each minimum must not be above its maximum".to_owned(),
        );
        if problems.is_empty() {
            Ok(Policy(self))
        } else {
            Err(problems.join("; "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::draft;

    #[test]
    fn a_consistent_draft_is_a_policy() {
        assert!(draft().check().is_ok());
    }

    #[test]
    fn every_problem_is_named() {
        let mut wrong = draft();
        wrong.pools[0].replicas_min = 9;
        wrong.pools[0].replicas_max = 3;
        wrong.objective.late_share = 1.0;
        wrong.signals[1].name = wrong.signals[0].name.clone();
        wrong.tuning.miss_price = f64::NAN;
        let message = wrong.check().unwrap_err();
        for part in [
            "pool cpu: replicas",
            "objective",
            "the name is taken",
            "tuning.miss_price",
        ] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }

    #[test]
    fn a_policy_from_a_file_is_checked() {
        let mut text = serde_json::to_value(draft()).unwrap();
        text["pools"][0]["slots"] = 0.into();
        let read: Result<Policy, _> = serde_json::from_value(text);
        assert!(read.unwrap_err().to_string().contains("slots must be 1 to 4096"));
    }
}
