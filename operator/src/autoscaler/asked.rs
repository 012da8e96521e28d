//! The pods that are asked for a decision, what they said, and how far each signal is believed.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::ResourceExt;
use tidewright_api::labels;
use tidewright_scaling::record::Record;

use super::observe::Said;
use super::plan::Plan;
use crate::cluster::caches::Caches;
use crate::domain::published::ServiceKey;
use crate::metrics::Trusted;
use crate::pods::{Pods, Target, Targets, target};

/// The pods of every service whose pods are asked. What is not listed yet has none.
pub fn targets(plans: &BTreeMap<ServiceKey, Arc<Plan>>, caches: &Caches) -> Targets {
    let asked = plans.iter().filter(|(_, plan)| plan.asks_window.is_some());
    asked
        .filter_map(|(key, plan)| {
            let deployments = caches.deployments.controlled_if_listed(key, &plan.owner_uid)?;
            let pods = caches.pods(key)?;
            let pools = Caches::by_pool(deployments).into_iter().map(|(pool, deployment)| {
                let deployment = deployment.name_any();
                let of_pool = pods.iter().filter(|pod| pod.labels().get(labels::POOL) == Some(&pool));
                let all: Vec<Target> = of_pool.filter_map(|pod| target(pod, &deployment)).collect();
                (pool, all)
            });
            Some((key.clone(), pools.collect()))
        })
        .collect()
}

/// What the pods of a service said in this round.
pub fn said(plan: &Plan, targets: Option<&BTreeMap<String, Vec<Target>>>, pods: &Pods) -> Said {
    let Some((window, targets)) = plan.asks_window.zip(targets) else {
        return Said::default();
    };
    let pools = targets.iter();
    pools
        .map(|(pool, targets)| (pool.clone(), pods.figures(targets, window)))
        .collect()
}

/// The plan to go by. Where not one ready pod of the service can be asked, because the servers are of an earlier version, there is no such source, which is
/// not the same as one that is silent: Prometheus decides alone.
pub fn believed<'p>(plan: &'p Plan, said: &Said) -> &'p Plan {
    let all: u32 = said.values().map(|figures| figures.all).sum();
    let older: u32 = said.values().map(|figures| figures.older).sum();
    let alone = plan.without_pods.as_deref();
    alone.filter(|_| all > 0 && older == all).unwrap_or(plan)
}

/// What each signal of a decision was worth, and how old it was.
pub fn trusted(record: &Record) -> Vec<Trusted> {
    let signals = record.decision.signals.iter().zip(&record.seen.signals);
    signals
        .map(|(signal, reading)| Trusted {
            signal: signal.name.clone(),
            state: signal.trust.as_str(),
            age_seconds: reading.as_ref().ok().map(|sample| record.at.seconds_since(sample.at)),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::super::plan::{Times, plan};
    use super::super::signals::Via;
    use super::*;
    use crate::pods::Figures;
    use crate::test_support::validated;

    #[test]
    fn where_no_pod_can_be_asked_prometheus_decides_alone() {
        let of = |has_prometheus| {
            let times = Times {
                rate_window: Duration::from_secs(30),
                stale_after: Duration::from_secs(33),
                relearn: Duration::from_secs(300),
                has_prometheus,
                asks_pods: Some(Duration::from_secs(1)),
            };
            let service = json!({"spec": {"predictor": {"autoScaling": {"mode": "Direct"}}}});
            plan(&validated(service), &times).unwrap()
        };
        let pool = |all, older| Figures {
            all,
            older,
            ..Figures::default()
        };
        let said = |cpu, gpu| Said::from([("cpu".to_owned(), cpu), ("gpu".to_owned(), gpu)]);
        let asks = |plan: &Plan, said: &Said| {
            let sources = &believed(plan, said).sources;
            let are_there = [Via::Prometheus, Via::Pods].map(|via| sources.iter().any(|source| source.via == via));
            (are_there[0], are_there[1])
        };
        let both = of(true);
        assert_eq!(asks(&both, &said(pool(2, 2), pool(1, 1))), (true, false));
        assert_eq!(asks(&both, &said(pool(2, 2), pool(0, 0))), (true, false));
        assert_eq!(
            asks(&both, &said(pool(2, 2), pool(1, 0))),
            (true, true),
            "one is silent"
        );
        assert_eq!(
            asks(&both, &said(pool(0, 0), pool(0, 0))),
            (true, true),
            "nobody is ready"
        );
        let alone = of(false);
        assert_eq!(
            asks(&alone, &said(pool(2, 2), pool(1, 1))),
            (false, true),
            "nothing else is there"
        );
    }
}
