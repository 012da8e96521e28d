//! What the metrics source is told to measure for a service. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;

use crate::domain::subscriptions::{ExternalQuery, PoolExpectation, Subscription};
use crate::domain::validated::{ScalingMetric, Validated};

/// A service's Deployments by pool. Where they are optional, `None` stands for not listed yet.
type Deployments = BTreeMap<String, Arc<Deployment>>;

/// For a spec that is acted on.
pub(super) fn of_valid(service: &Validated, deployments: Option<&Deployments>) -> Subscription {
    let external = service.metrics.iter().filter_map(|metric| match metric {
        ScalingMetric::External {
            name,
            query,
            server_address,
            ..
        } => Some(ExternalQuery {
            name: name.clone(),
            query: query.clone(),
            server_address: server_address.clone(),
        }),
        _ => None,
    });
    Subscription {
        pools: service
            .pools
            .iter()
            .map(|pool| (pool.name.clone(), expectation(&pool.name, deployments)))
            .collect(),
        external: external.collect(),
    }
}

/// For a spec that cannot be acted on, where none before it is known: after a start of the operator nothing is known of what runs but the pools that
/// there are. Queries of its own are missing then, which the autoscalers are told.
pub(super) fn of_running(deployments: Option<&Deployments>) -> Subscription {
    let running = deployments.into_iter().flat_map(BTreeMap::keys);
    Subscription {
        pools: running
            .map(|pool| (pool.clone(), expectation(pool, deployments)))
            .collect(),
        external: Vec::new(),
    }
}

/// Pods of a pool that are ready. Unknown until the Deployments are listed: a zero would be remembered as the least number of the last while, and
/// a part of the pods believed to be all of them. Once they are listed, a pool without one has no pods.
fn expectation(pool: &str, deployments: Option<&Deployments>) -> PoolExpectation {
    let ready_pods = deployments.and_then(|all| {
        let ready = all.get(pool).and_then(|d| d.status.as_ref()?.ready_replicas);
        u32::try_from(ready.unwrap_or(0)).ok()
    });
    PoolExpectation { ready_pods }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::test_support::{deployment, validated};

    fn listed(ready: i32) -> Deployments {
        let status = json!({"observedGeneration": 1, "replicas": ready, "readyReplicas": ready});
        BTreeMap::from([("cpu".to_owned(), Arc::new(deployment("cpu", 1, ready, status)))])
    }

    #[test]
    fn ready_pods_are_unknown_until_the_deployments_are_listed() {
        let ready =
            |deployments: Option<&Deployments>| of_valid(&validated(json!({})), deployments).pools["cpu"].ready_pods;
        assert_eq!(ready(None), None, "never zero");
        assert_eq!(ready(Some(&BTreeMap::new())), Some(0), "a new service has none");
        assert_eq!(ready(Some(&listed(10))), Some(10));
    }

    #[test]
    fn after_a_start_a_refused_spec_keeps_the_pools_that_there_are() {
        let seen = of_running(Some(&listed(3)));
        assert_eq!((seen.pools["cpu"].ready_pods, seen.external.len()), (Some(3), 0));
        assert_eq!(of_running(None), Subscription::default());
    }
}
