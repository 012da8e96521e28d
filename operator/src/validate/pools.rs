//! Pools: what each takes from the predictor, and the share of a fixed total.

use std::collections::BTreeSet;

use tidewright_api::model::Resources;
use tidewright_api::pools::{ExecutionProvider, Pool as Spec};
use tidewright_api::{InferenceServiceSpec, defaults, names};

use super::quantity;
use crate::domain::problem::Problem;
use crate::domain::validated::Pool;

pub(super) fn validate(spec: &InferenceServiceSpec, problems: &mut Vec<Problem>) -> Vec<Pool> {
    let implied = [Spec {
        name: names::DEFAULT_POOL.to_owned(),
        ..Spec::default()
    }];
    let given = if spec.pools.is_empty() {
        &implied[..]
    } else {
        &spec.pools[..]
    };
    let mut seen = BTreeSet::new();
    let mut pools = Vec::with_capacity(given.len());
    for (index, pool) in given.iter().enumerate() {
        let path = if spec.pools.is_empty() {
            "spec.predictor".to_owned()
        } else {
            format!("spec.pools[{index}]")
        };
        if !seen.insert(pool.name.as_str()) {
            problems.push(Problem::new(
                format!("{path}.name"),
                format!("{:?} is the name of another pool already", pool.name),
            ));
        }
        pools.push(one(pool, spec, &path, problems));
    }
    if spec.predictor.replicas > 0 {
        share(spec.predictor.replicas, &mut pools);
    }
    pools
}

fn one(pool: &Spec, spec: &InferenceServiceSpec, path: &str, problems: &mut Vec<Problem>) -> Pool {
    let predictor = &spec.predictor;
    let replicas_min = pool.min_replicas.unwrap_or(predictor.min_replicas);
    let replicas_max = pool.max_replicas.unwrap_or(predictor.max_replicas);
    if replicas_min > replicas_max {
        problems.push(Problem::new(
            format!("{path}.minReplicas"),
            format!("{replicas_min} is greater than maxReplicas, {replicas_max}"),
        ));
    }
    let (resources, resources_path) = match &pool.resources {
        Some(own) => (Some(own), format!("{path}.resources")),
        None => (
            predictor.model.resources.as_ref(),
            "spec.predictor.model.resources".to_owned(),
        ),
    };
    check_resources(resources, &resources_path, problems);
    if let (Some(accelerator), Some(resources)) = (&pool.accelerator, resources)
        && (resources.requests.contains_key(&accelerator.resource)
            || resources.limits.contains_key(&accelerator.resource))
    {
        problems.push(Problem::new(
            &resources_path,
            format!(
                "names {}, which the pool's accelerator names too: leave it to `accelerator`",
                accelerator.resource
            ),
        ));
    }
    let providers = match (&pool.execution_providers[..], &pool.accelerator) {
        ([], Some(_)) => vec![ExecutionProvider::Cuda],
        ([], None) => vec![ExecutionProvider::Cpu],
        (given, _) => given.to_vec(),
    };
    if pool.accelerator.is_none() && !providers.contains(&ExecutionProvider::Cpu) {
        problems.push(Problem::new(
            format!("{path}.executionProviders"),
            "needs a GPU, and the pool has no accelerator: name one, or add cpu to the list",
        ));
    }
    Pool {
        name: pool.name.clone(),
        replicas_min,
        replicas_max,
        floor: None,
        fixed: None,
        resources: defaults::resources(resources),
        accelerator: pool.accelerator.clone(),
        providers,
        node_selector: if pool.node_selector.is_empty() {
            predictor.node_selector.clone()
        } else {
            pool.node_selector.clone()
        },
        tolerations: if pool.tolerations.is_empty() {
            predictor.tolerations.clone()
        } else {
            pool.tolerations.clone()
        },
        affinity: pool.affinity.clone().or_else(|| predictor.affinity.clone()),
    }
}

fn check_resources(resources: Option<&Resources>, path: &str, problems: &mut Vec<Problem>) {
    let Some(resources) = resources else { return };
    for (name, requested) in &resources.requests {
        let requested_path = format!("{path}.requests[{name}]");
        let Some(amount) = quantity::positive(requested, &requested_path, problems) else {
            continue;
        };
        if let Some(limit) = resources.limits.get(name)
            && let Some(most) = quantity::number(limit)
            && amount > most
        {
            problems.push(Problem::new(
                requested_path,
                format!("{} is more than the limit, {}", requested.0, limit.0),
            ));
        }
    }
    for (name, limit) in &resources.limits {
        quantity::positive(limit, &format!("{path}.limits[{name}]"), problems);
    }
}

/// Shares a fixed total: first every pool's fewest, then up to each pool's most, in the order of the spec; what is left goes to the last pool,
/// because the user asked for exactly that many.
fn share(total: i32, pools: &mut [Pool]) {
    let mut left = total;
    for pool in pools.iter_mut() {
        let taken = pool.replicas_min.min(left);
        pool.fixed = Some(taken);
        left -= taken;
    }
    for pool in pools.iter_mut() {
        let has = pool.fixed.unwrap_or(0);
        let more = (pool.replicas_max - has).max(0).min(left);
        pool.fixed = Some(has + more);
        left -= more;
    }
    if let Some(last) = pools.last_mut() {
        last.fixed = last.fixed.map(|has| has + left);
    }
}
