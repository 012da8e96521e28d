//! The signals of a plan: what each means, and who says it. Pure.

use std::time::Duration;

use tidewright_api::scaling::ResourceName;
use tidewright_scaling::Policy;
use tidewright_scaling::policy::{Signal as PolicySignal, SignalKind};

use super::plan::Times;
use super::usage;
use crate::domain::published::Signal;
use crate::domain::quantity::number;
use crate::domain::validated::{Pool, ResourceTarget, ScalingMetric, Validated};

/// Longest window of a rate that pods are asked for; what is remembered of them holds it.
const WINDOW_MAX: Duration = Duration::from_secs(60);
/// A rate that pods are asked for is of so many looks at least.
const WINDOW_LOOKS: u32 = 2;
/// What pods are asked for is of this look, or it is missing; so much only bounds a look that took long.
const SAID_STALE_AFTER: Duration = Duration::from_secs(5);
/// End of the names of signals that pods are asked for.
const DIRECT: &str = "_direct";

/// Who says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// Prometheus.
    Prometheus,
    /// The pods, when they are asked directly.
    Pods,
}

/// Where a signal of the policy is read.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// Of this pool, or of all of them.
    pub pool: Option<String>,
    /// What.
    pub signal: Signal,
    /// By whom.
    pub via: Via,
}

/// What the servers of a pool use, as metrics.k8s.io says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// Of this pool.
    pub pool: String,
    /// What.
    pub resource: ResourceName,
    /// Whether it is told as a share of what was requested; otherwise as an amount per replica.
    pub is_share: bool,
}

/// The signals that a service is decided from, and where each is read.
#[derive(Debug)]
pub struct List<'t> {
    times: &'t Times,
    /// Those of `sources`, and then those of `uses`.
    pub signals: Vec<PolicySignal>,
    /// Those of Prometheus come first: what was remembered of them stays theirs when the pods are asked from now on.
    pub sources: Vec<Source>,
    /// Of CPU and memory, where they are named.
    pub uses: Vec<Use>,
}

/// Lists them.
pub fn list<'t>(service: &Validated, times: &'t Times) -> List<'t> {
    let mut list = List {
        times,
        signals: Vec::new(),
        sources: Vec::new(),
        uses: Vec::new(),
    };
    for via in [Via::Prometheus, Via::Pods] {
        if service.objective.is_some() {
            list.add(via, "rate", SignalKind::ArrivalRate, None, &Signal::RequestRate);
            list.add(via, "queue", SignalKind::Queued, None, &Signal::QueueDepth);
        }
        // What nobody named does not compete with a promise that somebody made.
        let named = service
            .metrics
            .iter()
            .filter(|_| service.objective.is_none() || !service.are_metrics_implied);
        for metric in named {
            let (Some(signal), Some(target)) = (metric.signal(), metric.per_replica()) else {
                continue;
            };
            for (pool, of) in service.pools.iter().enumerate() {
                let kind = match (via, &signal) {
                    (Via::Pods, Signal::RequestRate) => SignalKind::ArrivalsPerReplica { pool, target },
                    _ => SignalKind::PerReplica { pool, target },
                };
                let is_of_one = service.pools.len() == 1;
                list.add(via, &signal.metric_name(), kind, Some((&of.name, is_of_one)), &signal);
            }
        }
    }
    for metric in service.metrics.iter().filter(|_| service.names_resource()) {
        let ScalingMetric::Resource { name, target } = metric else {
            continue;
        };
        for pool in 0..service.pools.len() {
            list.add_use(&service.pools, pool, *name, target);
        }
    }
    list
}

/// The end of a signal's name that tells its pool from the others.
fn of_pool(name: &str, is_only: bool) -> String {
    if is_only { String::new() } else { format!("/{name}") }
}

impl List<'_> {
    /// Adds what the servers of the pool at `index` use.
    fn add_use(&mut self, pools: &[Pool], index: usize, resource: ResourceName, target: &ResourceTarget) {
        let Some(pool) = pools.get(index) else { return };
        let (kind, is_share) = match target {
            ResourceTarget::Utilization(percent) => {
                let target = f64::from(*percent) / 100.0;
                (SignalKind::Utilization { pool: index, target }, true)
            }
            ResourceTarget::AverageValue(amount) => {
                let Some(target) = number(amount) else { return };
                (SignalKind::MeanUse { pool: index, target }, false)
            }
        };
        self.signals.push(PolicySignal {
            name: format!("{}{}", resource.as_str(), of_pool(&pool.name, pools.len() == 1)),
            kind,
            stale_after_seconds: usage::STALE_AFTER.as_secs_f64(),
        });
        self.uses.push(Use {
            pool: pool.name.clone(),
            resource,
            is_share,
        });
    }

    /// Adds a signal, if this source has it. `pool` comes with whether it is the only one.
    fn add(&mut self, via: Via, name: &str, kind: SignalKind, pool: Option<(&str, bool)>, signal: &Signal) {
        let is_ours = !matches!(signal, Signal::External(_));
        let (is_there, end, stale_after) = match via {
            // Without a Prometheus what pods cannot be asked for is missing, and says so; what they can be asked for is theirs.
            Via::Prometheus => (
                self.times.has_prometheus || self.times.asks_pods.is_none() || !is_ours,
                "",
                self.times.stale_after,
            ),
            Via::Pods => (self.times.asks_pods.is_some() && is_ours, DIRECT, SAID_STALE_AFTER),
        };
        if !is_there {
            return;
        }
        let pool_name = pool.map(|(pool, _)| pool.to_owned());
        let of_pool = pool.map_or_else(String::new, |(pool, is_only)| of_pool(pool, is_only));
        self.signals.push(PolicySignal {
            name: format!("{name}{end}{of_pool}"),
            kind,
            stale_after_seconds: stale_after.as_secs_f64(),
        });
        self.sources.push(Source {
            pool: pool_name,
            signal: signal.clone(),
            via,
        });
    }
}

/// Which sources a recorded policy read: whether Prometheus, and whether the pods.
pub fn sources_of(policy: &Policy) -> (bool, bool) {
    let asked = || policy.signals.iter().filter(|signal| !signal.kind.is_mean());
    let names = || asked().map(|signal| signal.name.as_str());
    let ours = || names().filter(|name| !name.starts_with("external-"));
    (ours().any(|name| !is_direct(name)), ours().any(is_direct))
}

/// Whether a signal of this name is one that pods are asked for.
pub fn is_direct(name: &str) -> bool {
    !name.starts_with("external-") && name.split('/').next().is_some_and(|name| name.ends_with(DIRECT))
}

/// Half of the time that a request may wait, for noise matters less where it can wait for long; and no shorter than two looks.
pub fn window(service: &Validated, interval: Duration) -> Duration {
    let slack = service
        .objective
        .map_or(0.0, |promise| promise.latency_seconds - promise.service_seconds);
    let half = Duration::try_from_secs_f64(slack / 2.0).unwrap_or_default();
    half.max(interval * WINDOW_LOOKS).min(WINDOW_MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::plan::{Plan, plan};
    use super::*;
    use crate::test_support::validated;

    fn names(plan: &Plan) -> Vec<&str> {
        plan.policy.signals.iter().map(|signal| signal.name.as_str()).collect()
    }

    #[test]
    fn what_pods_can_be_asked_for_is_a_signal_of_its_own() {
        let of = |has_prometheus, asks_pods, auto_scaling: Value| {
            let times = Times {
                has_prometheus,
                asks_pods,
                rate_window: Duration::from_secs(30),
                stale_after: Duration::from_secs(33),
                relearn: Duration::from_secs(300),
            };
            plan(
                &validated(json!({"spec": {"predictor": {"autoScaling": auto_scaling}}})),
                &times,
            )
            .unwrap()
        };
        let second = Some(Duration::from_secs(1));
        let plain = || json!({"mode": "Direct"});
        let both = of(true, second, plain());
        let all = [
            "request_rate",
            "queue_depth",
            "request_rate_direct",
            "queue_depth_direct",
        ];
        assert_eq!(names(&both), all);
        assert_eq!(both.sources[2].via, Via::Pods);
        assert!(matches!(
            both.policy.signals[2].kind,
            SignalKind::ArrivalsPerReplica { .. }
        ));
        assert_eq!(sources_of(&both.policy), (true, true));
        let concurrency = json!([{"type": "Concurrency", "target": {"type": "AverageValue", "averageValue": "8"}}]);
        let in_work = of(true, second, json!({"mode": "Direct", "metrics": concurrency}));
        assert_eq!(names(&in_work), ["concurrency", "concurrency_direct"]);
        assert!(matches!(
            in_work.policy.signals[1].kind,
            SignalKind::PerReplica { target, .. } if (target - 8.0).abs() < 1e-9
        ));
        let alone = of(false, second, plain());
        assert_eq!(names(&alone), ["request_rate_direct", "queue_depth_direct"]);
        assert_eq!(sources_of(&alone.policy), (false, true));
        let hpa = of(true, second, json!({"mode": "Hpa"}));
        assert_eq!(names(&hpa), ["request_rate", "queue_depth"], "nobody has asked for it");
        assert_eq!(hpa.asks_window, None);
        // Nobody is asked: the signals are there, and missing.
        let none = of(false, None, plain());
        assert_eq!(names(&none), ["request_rate", "queue_depth"]);
        let external = json!({"mode": "Direct", "metrics": [{"type": "External", "external":
            {"metric": {"name": "x_direct", "query": "q"}, "target": {"type": "AverageValue", "averageValue": "5"}}}]});
        let external = of(false, second, external);
        assert_eq!(names(&external), ["external-x_direct"], "missing, and not left out");
        assert_eq!(sources_of(&external.policy), (false, false));
        assert_eq!((plain_window(&both), both.counts_in_flight), (2, false));
        let slo = json!({"mode": "Direct", "slo": {"latency": "20s", "percentile": 90, "serviceTime": "2s"}});
        let promised = of(true, second, slo);
        assert_eq!(names(&promised), ["rate", "queue", "rate_direct", "queue_direct"]);
        assert_eq!(plain_window(&promised), 9);
    }

    #[test]
    fn what_the_servers_use_is_a_signal_where_it_is_named() {
        let times = Times {
            has_prometheus: true,
            asks_pods: Some(Duration::from_secs(1)),
            rate_window: Duration::from_secs(30),
            stale_after: Duration::from_secs(33),
            relearn: Duration::from_secs(300),
        };
        let of = |pools: Value, auto_scaling: Value| {
            let spec = json!({"spec": {"pools": pools, "predictor": {"autoScaling": auto_scaling}}});
            plan(&validated(spec), &times).unwrap()
        };
        let one = || json!([{"name": "cpu"}]);
        let resource =
            |name: &str, target: Value| json!({"type": "Resource", "resource": {"name": name, "target": target}});
        let cpu = resource("cpu", json!({"type": "Utilization", "averageUtilization": 70}));
        let memory = resource("memory", json!({"type": "AverageValue", "averageValue": "512Mi"}));
        for mode in ["Hpa", "Advise", "Direct"] {
            let alone = of(one(), json!({"mode": mode, "metrics": [cpu, memory]}));
            assert_eq!(names(&alone), ["cpu", "memory"]);
            let kinds: Vec<_> = alone.policy.signals.iter().map(|signal| signal.kind.clone()).collect();
            let (pool, target) = (0, 0.7);
            assert_eq!(kinds[0], SignalKind::Utilization { pool, target });
            let target = 536_870_912.0;
            assert_eq!(kinds[1], SignalKind::MeanUse { pool, target });
            assert_eq!(
                sources_of(&alone.policy),
                (false, false),
                "neither Prometheus nor the pods"
            );
            let implied = of(one(), json!({"mode": mode}));
            assert!(implied.uses.is_empty(), "nobody has named CPU: {:?}", names(&implied));
        }
        let slo = json!({"latency": "1s", "percentile": 90, "serviceTime": "20ms"});
        let beside = of(
            json!([{"name": "a"}, {"name": "b"}]),
            json!({"mode": "Direct", "slo": slo, "metrics": [cpu]}),
        );
        let all = ["rate", "queue", "rate_direct", "queue_direct", "cpu/a", "cpu/b"];
        assert_eq!(names(&beside), all);
        assert_eq!(beside.uses[1].pool, "b");
        let alone = beside.without_pods.unwrap();
        assert_eq!(names(&alone), ["rate", "queue", "cpu/a", "cpu/b"]);
    }

    fn plain_window(plan: &Plan) -> u64 {
        plan.asks_window.unwrap().as_secs()
    }
}
