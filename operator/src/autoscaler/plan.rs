//! From a validated service to what a decision needs: the policy, and where each of its signals is read. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tidewright_api::scaling::Mode;
use tidewright_scaling::Policy;
use tidewright_scaling::observation::Floor;
use tidewright_scaling::policy::{Balancing, Draft, Fallback, Objective, Pool, Tuning, default_down_limits};

use super::observe::moment;
use super::signals::{self, Source, Use};
use crate::domain::calendar::{self, Window};
use crate::domain::published::ServiceKey;
use crate::domain::validated::Validated;

/// Seconds of one request until somebody says: only what is promised to callers is sized by it, and that names it.
const SERVICE_SECONDS_PRIOR: f64 = 0.05;
/// Seconds from the creation of a pod to ready, until it has been measured: an image that is there, and a small model.
const START_SECONDS_PRIOR: f64 = 15.0;
/// A promise where none was made; no signal is sized for it.
const NO_PROMISE: Objective = Objective {
    latency_seconds: 1.0,
    late_share: 0.05,
};

/// How old readings may be, what they are the average of, which there are, and for how long they have to be seen.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// Window of the request rate.
    pub rate_window: Duration,
    /// Age from which a published reading is not believed any more. A net below the metrics source, which judges the age of each signal by itself.
    pub stale_after: Duration,
    /// How long nothing shrinks from the first decision about a service on.
    pub relearn: Duration,
    /// Whether there is a Prometheus.
    pub has_prometheus: bool,
    /// Time between two looks at which pods are asked; none where they are not.
    pub asks_pods: Option<Duration>,
}

/// What is decided about a service, and from what.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The policy.
    pub policy: Policy,
    /// One per signal of the policy, but for those of `uses`.
    pub sources: Vec<Source>,
    /// CPU and memory, which are the last signals of the policy.
    pub uses: Vec<Use>,
    /// Whether rate and queue, sized for a promise, are all that it looks at.
    pub is_sized_for_promise: bool,
    /// Whether the decision is carried out.
    pub is_carried_out: bool,
    /// Whether nobody has asked for it (mode Hpa): it is made only where something is measured.
    pub is_unasked: bool,
    /// Times of schedules, those that are and those that come next.
    pub windows: Vec<Window>,
    /// The window of rates that pods are asked for; none where they are not asked.
    pub asks_window: Option<Duration>,
    /// Whether a slot is one request: only then do requests in work say how many replicas have work, and their time how many a replica can do. Without
    /// a limit of its own a replica takes any number.
    pub counts_in_flight: bool,
    /// UID of the service: of a new one of the same name nothing is remembered.
    pub owner_uid: String,
    /// The plan where no pod can be asked, because their servers are of an earlier version; none without a Prometheus, which alone decides then.
    pub without_pods: Option<Box<Plan>>,
}

impl Plan {
    /// What schedules ask for at a time, by pool of the policy; nothing where there are none.
    pub fn floors(&self, now: Timestamp) -> Vec<Option<Floor>> {
        floors(&self.policy, &self.windows, now)
    }
}

/// What these times of schedules ask for, by pool of the policy; nothing where there are none.
pub fn floors(policy: &Policy, windows: &[Window], now: Timestamp) -> Vec<Option<Floor>> {
    let pools = policy.pools.iter().filter(|_| !windows.is_empty());
    let floors = pools.map(|pool| {
        let window = calendar::floor(windows, &pool.name, now)?;
        Some(Floor {
            name: window.name.clone(),
            replicas: u32::try_from(window.replicas).ok()?,
            until: moment(window.until),
        })
    });
    floors.collect()
}

/// The plan of a service; `None` where the operator does not decide.
///
/// With an objective the rate is sized for it and what waits is drained in time; without one, and for what is named beside it, each signal asks for its
/// amount per replica, pool by pool, as a HorizontalPodAutoscaler would.
///
/// What the pods can be asked for is a signal of its own beside that of Prometheus: so the larger of the two makes a pool grow, and only if both are
/// there and ask for less does it shrink. Without a Prometheus the pods alone are believed.
pub fn plan(service: &Validated, times: &Times) -> Option<Plan> {
    if service.is_fixed || (service.mode == Mode::Hpa && !service.is_decidable()) {
        return None;
    }
    let times = Times {
        // What nobody has asked for is no reason to ask every pod.
        asks_pods: times.asks_pods.filter(|_| service.mode != Mode::Hpa),
        ..*times
    };
    let mut plan = of_sources(service, &times)?;
    if times.asks_pods.is_some() && times.has_prometheus {
        let alone = Times {
            asks_pods: None,
            ..times
        };
        plan.without_pods = of_sources(service, &alone).map(Box::new);
    }
    Some(plan)
}

fn of_sources(service: &Validated, times: &Times) -> Option<Plan> {
    let signals::List {
        signals, sources, uses, ..
    } = signals::list(service, times);
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
        tuning: Tuning {
            relearn_seconds: times.relearn.as_secs_f64(),
            ..Tuning::default()
        },
    };
    match draft.check() {
        Ok(policy) => Some(Plan {
            policy,
            is_sized_for_promise: service.objective.is_some() && service.are_metrics_implied,
            sources,
            uses,
            is_carried_out: service.mode == Mode::Direct && !service.is_paused,
            is_unasked: service.mode == Mode::Hpa,
            windows: service.windows.clone(),
            asks_window: times.asks_pods.map(|interval| signals::window(service, interval)),
            counts_in_flight: service.server.concurrency_max > 0,
            owner_uid: service.owner.uid.clone(),
            without_pods: None,
        }),
        Err(problem) => {
            tracing::warn!(namespace = service.namespace, name = service.name, %problem, "nothing to decide by");
            None
        }
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
        relearn: Duration::from_secs(300),
        has_prometheus: true,
        asks_pods: None,
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
    fn what_the_operator_can_decide_has_a_plan_and_mode_direct_alone_carries_it_out() {
        let total = json!([{"type": "QueueDepth", "target": {"type": "Value", "value": "70"}}]);
        assert_eq!(
            of(json!({"mode": "Hpa", "metrics": total})),
            None,
            "no amount per replica"
        );
        let hpa = of(json!({"mode": "Hpa"})).unwrap();
        assert!(hpa.is_unasked && !hpa.is_carried_out);
        assert_eq!(names(&hpa), ["request_rate", "queue_depth"]);
        let fixed = json!({"spec": {"predictor": {"replicas": 3, "autoScaling": {"mode": "Direct"}}}});
        assert_eq!(plan(&validated(fixed), &TIMES), None);
        let advise = of(json!({"mode": "Advise"})).unwrap();
        assert!(!advise.is_carried_out && !advise.is_unasked);
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
    fn a_schedule_is_a_floor_of_its_pool_while_it_lasts() {
        let spec = json!({"spec": {"pools": [{"name": "a"}, {"name": "b"}], "predictor": {"autoScaling": {"mode": "Direct", "schedules":
            [{"name": "day", "schedule": "0 8 * * *", "timeZone": "UTC", "duration": "2h", "minReplicas": 4, "pool": "b"}]}}}});
        let at = |time: &str| -> Timestamp { time.parse().unwrap() };
        // Looked at before it begins: the autoscaler follows without being told again.
        let plan = plan(&validated(spec).at(at("2026-02-02T07:59:00Z")), &TIMES).unwrap();
        let floors = |time: &str| -> Vec<Option<u32>> {
            let floors = plan.floors(at(time)).into_iter();
            floors.map(|floor| floor.map(|floor| floor.replicas)).collect()
        };
        assert_eq!(floors("2026-02-02T07:59:59Z"), [None, None]);
        assert_eq!(floors("2026-02-02T08:00:00Z"), [None, Some(4)]);
        assert_eq!(floors("2026-02-02T10:00:00Z"), [None, None]);
        let floor = plan.floors(at("2026-02-02T09:00:00Z")).remove(1).unwrap();
        assert_eq!(
            (floor.name.as_str(), floor.until.time_of_day().as_str()),
            ("day", "10:00:00")
        );
        assert_eq!(
            of(json!({"mode": "Direct"}))
                .unwrap()
                .floors(at("2026-02-02T09:00:00Z")),
            []
        );
    }

    #[test]
    fn how_long_nothing_shrinks_at_first_is_the_operators() {
        let times = Times {
            relearn: Duration::from_secs(20),
            ..TIMES
        };
        let service = validated(json!({"spec": {"predictor": {"autoScaling": {"mode": "Direct"}}}}));
        let tuning = plan(&service, &times).unwrap().policy.tuning;
        let expected = Tuning {
            relearn_seconds: 20.0,
            ..Tuning::default()
        };
        assert_eq!(tuning, expected, "and nothing else is");
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
