//! What is decided about services, from what, and how it is carried out.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;

use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Metrics, Outcome, add};
use crate::domain::decided::{Decided, DecidedPool};
use crate::domain::published::ServiceKey;

/// A gauge of any number.
type Number = Gauge<f64, AtomicU64>;

/// A pool.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoolLabels {
    namespace: String,
    inferenceservice: String,
    pool: String,
}

/// A pool, and what determined its number.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    #[prometheus(flatten)]
    of: PoolLabels,
    reason: &'static str,
}

/// A pool, and a signal that asks something of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProposalLabels {
    #[prometheus(flatten)]
    of: PoolLabels,
    signal: String,
}

/// A pool, and what would change its number.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ThresholdLabels {
    #[prometheus(flatten)]
    of: PoolLabels,
    kind: &'static str,
}

/// A signal that is decided from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SignalLabels {
    namespace: String,
    inferenceservice: String,
    signal: String,
}

/// A signal, and what it is worth.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SignalStateLabels {
    namespace: String,
    inferenceservice: String,
    signal: String,
    state: &'static str,
}

/// What a signal of a decision was worth.
#[derive(Debug, Clone, PartialEq)]
pub struct Trusted {
    /// Its name in the policy.
    pub signal: String,
    /// The word for its state.
    pub state: &'static str,
    /// Seconds since it was true; none where there is no number.
    pub age_seconds: Option<f64>,
}

#[derive(Debug, Clone)]
pub(super) struct Decisions {
    desired_replicas: Family<ReasonLabels, Gauge>,
    stuck_replicas: Family<PoolLabels, Gauge>,
    proposal_replicas: Family<ProposalLabels, Gauge>,
    hold_seconds: Family<PoolLabels, Number>,
    threshold: Family<ThresholdLabels, Number>,
    pods_asked: Family<Outcome, Counter>,
    deletion_costs: Family<Outcome, Counter>,
    signal_state: Family<SignalStateLabels, Gauge>,
    signal_age_seconds: Family<SignalLabels, Number>,
}

impl Decisions {
    pub(super) fn register(registry: &mut Registry) -> Self {
        Self {
            desired_replicas: add(
                registry,
                "desired_replicas",
                "Replicas that the operator's own decision asks for, carried out in mode Direct alone, and what determined them",
                Family::default(),
            ),
            stuck_replicas: add(
                registry,
                "stuck_replicas",
                "Replicas that take too long to become ready, and are not counted on",
                Family::default(),
            ),
            proposal_replicas: add(
                registry,
                "proposal_replicas",
                "Replicas that each signal of the operator's own decision asks for; the largest wins",
                Family::default(),
            ),
            hold_seconds: add(
                registry,
                "hold_seconds",
                "Seconds for which more replicas are still kept than any signal asks for; none where nothing is kept, or until nobody knows when",
                Family::default(),
            ),
            threshold: add(
                registry,
                "threshold",
                "What would change the number: a rate or a queue above which it grows, a rate below which it shrinks",
                Family::default(),
            ),
            pods_asked: add(
                registry,
                "pods_asked",
                "Questions to pods about their load (modes Advise and Direct), by outcome",
                Family::default(),
            ),
            deletion_costs: add(
                registry,
                "deletion_costs",
                "Pods of which it was said how early they go when their pool shrinks (mode Direct), by outcome",
                Family::default(),
            ),
            signal_state: add(
                registry,
                "signal_state",
                "1 for what each signal of the operator's own decision is worth; only with Ok and Idle does anything shrink",
                Family::default(),
            ),
            signal_age_seconds: add(
                registry,
                "signal_age_seconds",
                "Seconds since the number behind each signal of the operator's own decision was true",
                Family::default(),
            ),
        }
    }
}

impl Decisions {
    fn note(&self, labels: &PoolLabels, pool: &DecidedPool, now: Timestamp) {
        let desired = self.desired_replicas.get_or_create(&ReasonLabels {
            of: labels.clone(),
            reason: pool.reason,
        });
        desired.set(i64::from(pool.replicas));
        self.stuck_replicas.get_or_create(labels).set(i64::from(pool.stuck));
        for (signal, replicas) in &pool.proposals {
            let proposal = self.proposal_replicas.get_or_create(&ProposalLabels {
                of: labels.clone(),
                signal: signal.clone(),
            });
            proposal.set(i64::from(*replicas));
        }
        let left = pool.held_until.map(|until| until.duration_since(now).as_secs_f64());
        if let Some(left) = left.filter(|left| *left > 0.0) {
            self.hold_seconds.get_or_create(labels).set(left);
        }
        for (kind, number) in pool.thresholds.iter().filter(|(_, number)| number.is_finite()) {
            let of = labels.clone();
            self.threshold.get_or_create(&ThresholdLabels { of, kind }).set(*number);
        }
    }
}

impl Metrics {
    /// Notes what is decided at the moment. What is not named is not decided about any more.
    pub fn decided(&self, all: &BTreeMap<ServiceKey, Decided>, now: Timestamp) {
        // Nobody reads while some are missing.
        let _encoding = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let decisions = &self.decisions;
        decisions.desired_replicas.clear();
        decisions.stuck_replicas.clear();
        decisions.proposal_replicas.clear();
        decisions.hold_seconds.clear();
        decisions.threshold.clear();
        for (service, decided) in all {
            for (name, pool) in &decided.pools {
                let labels = PoolLabels {
                    namespace: service.namespace.clone(),
                    inferenceservice: service.name.clone(),
                    pool: name.clone(),
                };
                decisions.note(&labels, pool, now);
            }
        }
    }

    /// Counts what came of questions to pods.
    pub fn asked(&self, outcomes: &BTreeMap<&'static str, u64>) {
        for (outcome, count) in outcomes {
            let asked = self.decisions.pods_asked.get_or_create(&Outcome { outcome });
            asked.inc_by(*count);
        }
    }

    /// Counts what came of saying which pods go first.
    pub fn costs_written(&self, outcome: &'static str, pods: usize) {
        if pods > 0 {
            let written = self.decisions.deletion_costs.get_or_create(&Outcome { outcome });
            written.inc_by(u64::try_from(pods).unwrap_or(u64::MAX));
        }
    }

    /// Notes what the signals of all decisions are worth; what is not named is not decided from any more.
    pub fn trusted(&self, signals: &[(ServiceKey, Trusted)]) {
        // Nobody reads while some are missing.
        let _encoding = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let decisions = &self.decisions;
        decisions.signal_state.clear();
        decisions.signal_age_seconds.clear();
        for (service, trusted) in signals {
            let state = SignalStateLabels {
                namespace: service.namespace.clone(),
                inferenceservice: service.name.clone(),
                signal: trusted.signal.clone(),
                state: trusted.state,
            };
            decisions.signal_state.get_or_create(&state).set(1);
            let Some(age_seconds) = trusted.age_seconds else {
                continue;
            };
            let labels = SignalLabels {
                namespace: service.namespace.clone(),
                inferenceservice: service.name.clone(),
                signal: trusted.signal.clone(),
            };
            decisions.signal_age_seconds.get_or_create(&labels).set(age_seconds);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    /// The decisions of which the metrics tell, one a line.
    fn told(metrics: &Metrics, pool: Option<DecidedPool>, now: Timestamp) -> Vec<String> {
        let decided = pool.map(|pool| Decided {
            pools: BTreeMap::from([("cpu".to_owned(), pool)]),
            ..Decided::default()
        });
        let key = ServiceKey::new("demo", "digits");
        metrics.decided(&decided.map(|decided| (key, decided)).into_iter().collect(), now);
        let text = metrics.encode().unwrap();
        let lines = text.lines().filter(|line| line.contains("inferenceservice="));
        lines
            .map(|line| {
                line.replace("tidewright_operator_", "")
                    .replace("namespace=\"demo\",inferenceservice=\"digits\",pool=\"cpu\"", "CPU")
            })
            .collect()
    }

    #[test]
    fn a_pool_that_is_not_decided_about_any_more_is_gone() {
        let metrics = Metrics::default();
        let pool = |reason| DecidedPool {
            replicas: 3,
            reason,
            stuck: 2,
            ..DecidedPool::default()
        };
        let all = told(&metrics, Some(pool("RateSizing")), at(0));
        assert_eq!(
            all,
            ["desired_replicas{CPU,reason=\"RateSizing\"} 3", "stuck_replicas{CPU} 2"]
        );
        let other = told(&metrics, Some(pool("MaxReplicas")), at(1));
        assert_eq!(
            other,
            [
                "desired_replicas{CPU,reason=\"MaxReplicas\"} 3",
                "stuck_replicas{CPU} 2"
            ],
            "the old reason is gone"
        );
        assert!(told(&metrics, None, at(2)).is_empty());
    }

    #[test]
    fn what_each_signal_asks_for_what_is_held_and_what_would_change_it_is_told() {
        let metrics = Metrics::default();
        let pool = DecidedPool {
            replicas: 4,
            reason: "KeepAlive",
            proposals: vec![("rate".to_owned(), 2), ("queue_direct".to_owned(), 1)],
            held_until: Some(at(90)),
            thresholds: vec![("up_above_rate", 48.5), ("down_below_rate", f64::INFINITY)],
            ..DecidedPool::default()
        };
        let all = |pool: &DecidedPool, second| {
            let mut all = told(&metrics, Some(pool.clone()), at(second));
            all.retain(|line| !line.starts_with("desired") && !line.starts_with("stuck"));
            all.sort();
            all
        };
        let proposals = [
            "proposal_replicas{CPU,signal=\"queue_direct\"} 1",
            "proposal_replicas{CPU,signal=\"rate\"} 2",
        ];
        let threshold = "threshold{CPU,kind=\"up_above_rate\"} 48.5";
        assert_eq!(
            all(&pool, 30),
            ["hold_seconds{CPU} 60.0", proposals[0], proposals[1], threshold]
        );
        assert_eq!(
            all(&pool, 90),
            [proposals[0], proposals[1], threshold],
            "nothing is held any more"
        );
        assert!(all(&DecidedPool::default(), 91).is_empty());
    }

    #[test]
    fn a_signal_has_one_state_and_no_age_while_it_is_missing() {
        let metrics = Metrics::default();
        let said = |state, age_seconds| {
            let signal = "rate_direct".to_owned();
            metrics.trusted(&[(
                ServiceKey::new("demo", "digits"),
                Trusted {
                    signal,
                    state,
                    age_seconds,
                },
            )]);
            let text = metrics.encode().unwrap();
            let lines = text.lines().filter(|line| line.contains("rate_direct"));
            lines
                .map(|line| line.replace("tidewright_operator_", ""))
                .collect::<Vec<_>>()
        };
        let labels = "namespace=\"demo\",inferenceservice=\"digits\",signal=\"rate_direct\"";
        assert_eq!(
            said("Ok", Some(0.5)),
            [
                format!("signal_state{{{labels},state=\"Ok\"}} 1"),
                format!("signal_age_seconds{{{labels}}} 0.5")
            ]
        );
        assert_eq!(
            said("QueryFailed", None),
            [format!("signal_state{{{labels},state=\"QueryFailed\"}} 1")]
        );
        metrics.asked(&BTreeMap::from([("Timeout", 2)]));
        assert!(
            metrics
                .encode()
                .unwrap()
                .contains("pods_asked_total{outcome=\"Timeout\"} 2")
        );
    }
}
