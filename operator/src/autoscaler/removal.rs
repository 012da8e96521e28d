//! Which pods of a pool go first when it shrinks: those with the least work. Pure.
//!
//! The ReplicaSet controller removes pods that are not ready first, and then those of the lowest cost. Only the emptiest pods are given one, below zero: so a
//! pod that did not answer, one that has just come, and one whose cost could not be written are never taken for empty ones. Nearly all that are given one go,
//! and so does what is said of them; what is left of it is taken back before the next shrink.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tidewright_api::labels;

use crate::cluster::deletion_cost::DeletionCost;
use crate::pods;

/// Costs that are written before one shrink of one pool: where more pods are to go, the emptiest of them.
const COSTS_MAX: usize = 128;

/// The costs to write before so many pods are `removed` from a Deployment: `in_flight` is what those of its pods that answered have to do, by UID.
/// Pods with equally much have equal costs: which of them goes stays with the ReplicaSet controller, which looks at nodes and ages.
pub fn costs(
    pods: &[Arc<Pod>],
    deployment: &str,
    in_flight: &BTreeMap<String, u32>,
    removed: usize,
) -> Vec<DeletionCost> {
    if removed == 0 {
        return Vec::new();
    }
    let ready = pods.iter().filter_map(|pod| {
        let target = pods::target(pod, deployment).filter(|target| target.is_ready)?;
        let work = in_flight.get(&target.uid).copied().map(i64::from);
        Some((pod, target.uid, work))
    });
    let ready: Vec<_> = ready.collect();
    let mut works: Vec<i64> = ready.iter().filter_map(|(_, _, work)| *work).collect();
    works.sort_unstable();
    // The most work of a pod that is to go.
    let most = works.get(removed - 1).or(works.last()).copied().unwrap_or(0);
    // What is below this has a cost. Where all ready pods would have one, those with most are told apart as well by having none.
    let is_everyone = ready.iter().all(|(_, _, work)| work.is_some_and(|work| work <= most));
    let free = if is_everyone { most } else { most + 1 };
    let costs = ready.into_iter().filter_map(|(pod, uid, work)| {
        let cost = work.map(|work| work - free).filter(|cost| *cost < 0);
        let cost = cost.map(|cost| i32::try_from(cost).unwrap_or(i32::MIN));
        let said = pod.annotations().get(labels::DELETION_COST);
        let said = said.and_then(|cost| cost.parse::<i32>().ok());
        // Ours are below zero; another is somebody else's.
        let is_news = match cost {
            Some(_) => said != cost,
            None => said.is_some_and(|said| said < 0),
        };
        is_news.then(|| DeletionCost {
            pod: pod.name_any(),
            uid,
            cost,
        })
    });
    let mut costs: Vec<DeletionCost> = costs.collect();
    // First what must not mislead, then the emptiest.
    costs.sort_by_key(|wanted| wanted.cost);
    costs.truncate(COSTS_MAX);
    costs
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A pod: its name, which is its UID too; the cost that it has; whether it is ready.
    fn pod(name: &str, said: Option<&str>, is_ready: bool) -> Arc<Pod> {
        let ready = if is_ready { "True" } else { "False" };
        let mut pod = json!({
            "metadata": {"name": name, "uid": name, "labels": {"pod-template-hash": "5d8f"}, "annotations": {}, "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "digits-cpu-5d8f", "uid": "r", "controller": true}]},
            "spec": {"containers": []},
            "status": {"podIP": "10.1.2.3", "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        });
        if let Some(said) = said {
            pod["metadata"]["annotations"][labels::DELETION_COST] = json!(said);
        }
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn ready(name: &str) -> Arc<Pod> {
        pod(name, None, true)
    }

    /// Names with costs, in the order in which they are written.
    fn written(pods: &[Arc<Pod>], in_flight: &[(&str, u32)], removed: usize) -> Vec<(String, Option<i32>)> {
        let in_flight = in_flight.iter().map(|(uid, count)| ((*uid).to_owned(), *count));
        let costs = costs(pods, "digits-cpu", &in_flight.collect(), removed);
        costs.into_iter().map(|wanted| (wanted.pod, wanted.cost)).collect()
    }

    fn said(name: &str, cost: impl Into<Option<i32>>) -> (String, Option<i32>) {
        (name.to_owned(), cost.into())
    }

    #[test]
    fn the_emptiest_have_the_lowest_costs_and_the_busy_none() {
        let all = ["a", "b", "c", "d"].map(ready);
        let work = [("a", 9), ("b", 0), ("c", 3), ("d", 5)];
        assert_eq!(written(&all, &work, 1), [said("b", -1)]);
        assert_eq!(written(&all, &work, 2), [said("b", -4), said("c", -1)]);
        // All but the busiest: it is told apart by having none.
        assert_eq!(written(&all, &work, 3), [said("b", -6), said("c", -3), said("d", -1)]);
        assert_eq!(written(&all, &work, 0), [], "it does not shrink");
    }

    #[test]
    fn a_pod_that_did_not_answer_is_not_taken_for_an_empty_one() {
        let all = ["silent", "empty", "busy"].map(ready);
        assert_eq!(written(&all, &[("empty", 0), ("busy", 2)], 1), [said("empty", -1)]);
        // Rather one that is known to be busy than one of which nothing is known.
        let both = [said("empty", -3), said("busy", -1)];
        assert_eq!(written(&all, &[("empty", 0), ("busy", 2)], 2), both);
        assert_eq!(written(&all, &[], 2), [], "nobody has answered");
    }

    #[test]
    fn equal_pods_are_left_to_the_replica_set_controller() {
        let all = ["a", "b", "c"].map(ready);
        assert_eq!(written(&all, &[("a", 2), ("b", 2), ("c", 2)], 1), []);
        let two = [said("a", -1), said("b", -1)];
        assert_eq!(written(&all, &[("a", 0), ("b", 0), ("c", 2)], 1), two);
    }

    #[test]
    fn what_was_said_before_an_earlier_shrink_is_taken_back_first() {
        let all = [pod("a", Some("-7"), true), ready("b"), pod("c", Some("-1"), true)];
        let work = [("a", 9), ("b", 0), ("c", 0)];
        assert_eq!(
            written(&all, &work, 1),
            [said("a", None), said("b", -1)],
            "that of c is right"
        );
        assert_eq!(written(&all, &[], 1), [said("a", None), said("c", None)]);
    }

    #[test]
    fn what_somebody_else_says_of_a_pod_stays() {
        let all = [pod("kept", Some("100"), true), ready("b"), pod("odd", Some("x"), true)];
        assert_eq!(written(&all, &[("kept", 9), ("b", 9), ("odd", 9)], 1), []);
    }

    #[test]
    fn only_ready_pods_of_this_deployment_are_counted() {
        let all = [pod("starting", Some("-1"), false), ready("a"), ready("b")];
        // Those that are not ready go first anyway.
        assert_eq!(
            written(&all, &[("starting", 0), ("a", 1), ("b", 2)], 1),
            [said("a", -1)]
        );
        let strangers = costs(&all, "other-cpu", &BTreeMap::from([("a".to_owned(), 0)]), 1);
        assert_eq!(strangers, []);
    }

    #[test]
    fn they_are_bounded_in_number_and_the_emptiest_come_first() {
        let names: Vec<String> = (0..500).map(|n| format!("pod-{n:03}")).collect();
        let all: Vec<Arc<Pod>> = names.iter().map(|name| ready(name)).collect();
        let work: Vec<(&str, u32)> = names.iter().map(String::as_str).zip((0..500).rev()).collect();
        let costs = written(&all, &work, 400);
        assert_eq!(costs.len(), COSTS_MAX);
        assert_eq!(costs.first(), Some(&said("pod-499", -400)));
        // Whatever a pod says: a cost is a number that Kubernetes knows.
        assert_eq!(
            written(
                &["a", "b", "c"].map(ready),
                &[("a", 0), ("b", u32::MAX), ("c", u32::MAX)],
                2
            ),
            [said("a", i32::MIN)]
        );
    }
}
