//! From a validated service to what a decision needs: the policy, and where each of its signals is read. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tidewright_api::scaling::Mode;
use tidewright_scaling::Policy;
use tidewright_scaling::policy::{
    Balancing, Draft, Fallback, Objective, Pool, Signal as PolicySignal, SignalKind, Tuning, default_down_limits,
};

use crate::domain::published::{ServiceKey, Signal};
use crate::domain::quantity::number;
use crate::domain::validated::{ScalingMetric, Target, Validated};

/// Seconds of one request until somebody says: only what is promised to callers is sized by it, and that names it.
const SERVICE_SECONDS_PRIOR: f64 = 0.05;
/// Seconds from the creation of a pod to ready, until it has been measured: an image that is there, and a small model.
const START_SECONDS_PRIOR: f64 = 15.0;
/// A promise where none was made; no signal is sized for it.
const NO_PROMISE: Objective = Objective {
    latency_seconds: 1.0,
    late_share: 0.05,
};

/// How old readings may be, and what they are the average of.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// Window of the request rate.
    pub rate_window: Duration,
    /// Age from which a published reading is not believed any more. A net below the metrics source, which judges the age of each signal by itself.
    pub stale_after: Duration,
}

/// Where a signal of the policy is read.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// Of this pool, or of all of them.
    pub pool: Option<String>,
    /// What.
    pub signal: Signal,
}

/// What is decided about a service, and from what.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The policy.
    pub policy: Policy,
    /// One per signal of the policy.
    pub sources: Vec<Source>,
    /// Whether rate and queue, sized for a promise, are all that it looks at.
    pub is_sized_for_promise: bool,
    /// Whether the decision is carried out.
    pub is_carried_out: bool,
    /// UID of the service: of a new one of the same name nothing is remembered.
    pub owner_uid: String,
}

/// The plan of a service; `None` where the operator does not decide.
///
/// With an objective the rate is sized for it and what waits is drained in time; without one, and for what is named beside it, each signal asks for its
/// amount per replica, pool by pool, as a HorizontalPodAutoscaler would.
pub fn plan(service: &Validated, times: &Times) -> Option<Plan> {
    if service.is_fixed || service.mode == Mode::Hpa {
        return None;
    }
    let mut signals = Vec::new();
    let mut sources = Vec::new();
    let mut add = |name: String, kind, pool: Option<&str>, signal| {
        signals.push(PolicySignal {
            name,
            kind,
            stale_after_seconds: times.stale_after.as_secs_f64(),
        });
        sources.push(Source {
            pool: pool.map(ToOwned::to_owned),
            signal,
        });
    };
    if service.objective.is_some() {
        add("rate".to_owned(), SignalKind::ArrivalRate, None, Signal::RequestRate);
        add("queue".to_owned(), SignalKind::Queued, None, Signal::QueueDepth);
    }
    // What nobody named does not compete with a promise that somebody made.
    let named = service
        .metrics
        .iter()
        .filter(|_| service.objective.is_none() || !service.are_metrics_implied);
    for metric in named {
        let (Some(signal), Some(target)) = (metric.signal(), per_replica(metric)) else {
            continue;
        };
        for (index, pool) in service.pools.iter().enumerate() {
            let name = match service.pools.len() {
                1 => signal.metric_name(),
                _ => format!("{}/{}", signal.metric_name(), pool.name),
            };
            let kind = SignalKind::PerReplica { pool: index, target };
            add(name, kind, Some(&pool.name), signal.clone());
        }
    }
    let draft = Draft {
        pools: service.pools.iter().map(|pool| policy_pool(service, pool)).collect(),
        signals,
        objective: service.objective.map_or(NO_PROMISE, |objective| Objective {
            latency_seconds: objective.latency_seconds,
            late_share: objective.late_share,
        }),
        // A Service spreads connections by chance.
        balancing: Balancing::Random,
        fallback: Fallback::default(),
        up_limits: Vec::new(),
        down_limits: default_down_limits(),
        tuning: Tuning::default(),
    };
    match draft.check() {
        Ok(policy) => Some(Plan {
            policy,
            is_sized_for_promise: service.objective.is_some() && service.are_metrics_implied,
            sources,
            is_carried_out: service.mode == Mode::Direct && !service.is_paused,
            owner_uid: service.owner.uid.clone(),
        }),
        Err(problem) => {
            tracing::warn!(namespace = service.namespace, name = service.name, %problem, "nothing to decide by");
            None
        }
    }
}

fn per_replica(metric: &ScalingMetric) -> Option<f64> {
    match metric {
        ScalingMetric::RequestRate(Target::AverageValue(amount))
        | ScalingMetric::QueueDepth(Target::AverageValue(amount))
        | ScalingMetric::External {
            target: Target::AverageValue(amount),
            ..
        } => number(amount).filter(|amount| *amount > 0.0),
        _ => None,
    }
}

fn policy_pool(service: &Validated, pool: &crate::domain::validated::Pool) -> Pool {
    Pool {
        name: pool.name.clone(),
        replicas_min: u32::try_from(pool.replicas_min).unwrap_or(1),
        replicas_max: u32::try_from(pool.replicas_max).unwrap_or(1),
        slots: service.server.concurrency_max.max(1),
        cost: 1.0,
        service_seconds_prior: service
            .objective
            .map_or(SERVICE_SECONDS_PRIOR, |objective| objective.service_seconds),
        start_seconds_prior: START_SECONDS_PRIOR,
    }
}

/// What to decide about: written by the controller, read by the autoscaler. Readers never wait.
#[derive(Debug, Default)]
pub struct Plans(ArcSwap<BTreeMap<ServiceKey, Arc<Plan>>>);

impl Plans {
    /// All of them.
    pub fn all(&self) -> Arc<BTreeMap<ServiceKey, Arc<Plan>>> {
        self.0.load_full()
    }

    /// Sets, replaces or removes a service's plan.
    pub fn set(&self, key: &ServiceKey, plan: Option<Plan>) {
        if self.0.load().get(key).map(AsRef::as_ref) == plan.as_ref() {
            return;
        }
        let plan = plan.map(Arc::new);
        self.0.rcu(|all| {
            let mut all = BTreeMap::clone(all);
            match &plan {
                Some(plan) => all.insert(key.clone(), Arc::clone(plan)),
                None => all.remove(key),
            };
            all
        });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::test_support::validated;

    const TIMES: Times = Times {
        rate_window: Duration::from_secs(30),
        stale_after: Duration::from_secs(33),
    };

    fn of(auto_scaling: Value) -> Option<Plan> {
        plan(
            &validated(json!({"spec": {"predictor": {"autoScaling": auto_scaling}}})),
            &TIMES,
        )
    }

    fn names(plan: &Plan) -> Vec<&str> {
        plan.policy.signals.iter().map(|signal| signal.name.as_str()).collect()
    }

    #[test]
    fn only_what_the_operator_decides_has_a_plan() {
        assert_eq!(of(json!({"mode": "Hpa"})), None);
        let fixed = json!({"spec": {"predictor": {"replicas": 3, "autoScaling": {"mode": "Direct"}}}});
        assert_eq!(plan(&validated(fixed), &TIMES), None);
        assert!(!of(json!({"mode": "Advise"})).unwrap().is_carried_out);
        assert!(of(json!({"mode": "Direct"})).unwrap().is_carried_out);
        assert!(!of(json!({"mode": "Direct", "paused": true})).unwrap().is_carried_out);
    }

    #[test]
    fn a_promise_is_sized_for_and_what_is_named_beside_it_counts_too() {
        let slo = json!({"latency": "200ms", "percentile": 90, "serviceTime": "20ms"});
        let rate = json!([{"type": "RequestRate", "target": {"type": "AverageValue", "averageValue": "50"}}]);
        let plain = of(json!({"mode": "Direct"})).unwrap();
        assert_eq!(names(&plain), ["request_rate", "queue_depth"]);
        let promised = of(json!({"mode": "Direct", "slo": slo})).unwrap();
        assert_eq!(names(&promised), ["rate", "queue"]);
        assert!((promised.policy.objective.late_share - 0.1).abs() < 1e-9);
        assert!((promised.policy.pools[0].service_seconds_prior - 0.02).abs() < 1e-9);
        let both = of(json!({"mode": "Direct", "slo": slo, "metrics": rate})).unwrap();
        assert_eq!(names(&both), ["rate", "queue", "request_rate"]);
        assert_eq!(both.sources[2].pool.as_deref(), Some("cpu"));
    }

    #[test]
    fn a_plan_is_told_only_when_it_changes() {
        let plans = Plans::default();
        let key = ServiceKey::new("demo", "digits");
        plans.set(&key, of(json!({"mode": "Direct"})));
        let before = plans.all();
        plans.set(&key, of(json!({"mode": "Direct"})));
        assert!(Arc::ptr_eq(&before, &plans.all()));
        plans.set(&key, None);
        assert!(plans.all().is_empty());
    }
}
