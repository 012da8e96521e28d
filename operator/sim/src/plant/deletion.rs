//! Which pods go first when a Deployment shrinks.

use std::cmp::Reverse;

use super::pod::{Phase, Pod};

/// The order of deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeletionOrder {
    /// The ReplicaSet controller's (`ActivePodsWithRanks`): without a node, not ready, ready for the shortest time, youngest.
    ReplicaSet,
    /// The same with `controller.kubernetes.io/pod-deletion-cost` set to the requests in service: among ready pods the emptiest first.
    EmptiestFirst,
    /// Ready pods before starting ones, emptiest first: what no ReplicaSet does, for the bound of what is possible.
    ReadyFirst,
}

/// Places of the `count` pods that go.
pub fn victims(pods: &[Option<Pod>], count: usize, order: DeletionOrder) -> Vec<u32> {
    if count == 0 {
        return Vec::new();
    }
    let mut all: Vec<(u32, &Pod)> = pods
        .iter()
        .enumerate()
        .filter_map(|(place, pod)| pod.as_ref().map(|pod| (place as u32, pod)))
        .filter(|(_, pod)| pod.is_active())
        .collect();
    all.sort_by_key(|(_, pod)| {
        let phase = match (order, pod.phase) {
            (DeletionOrder::ReadyFirst, Phase::Ready) => 0,
            (_, Phase::Pending) => 1,
            (_, Phase::Starting | Phase::Draining) => 2,
            (_, Phase::Ready) => 3,
        };
        let cost = match order {
            DeletionOrder::ReplicaSet => 0,
            DeletionOrder::EmptiestFirst | DeletionOrder::ReadyFirst => pod.in_flight,
        };
        (
            phase,
            cost,
            Reverse(pod.ready_since),
            Reverse(pod.created),
            Reverse(pod.ordinal),
        )
    });
    all.into_iter().take(count).map(|(place, _)| place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(phase: Phase, ready_since: Option<u64>, in_flight: u32, created: u64) -> Pod {
        let mut pod = Pod::new(created, created);
        pod.phase = phase;
        pod.ready_since = ready_since;
        pod.in_flight = in_flight;
        pod
    }

    #[test]
    fn pods_go_in_the_order_of_their_owner() {
        let pods = [
            Some(pod(Phase::Ready, Some(5), 0, 1)),
            Some(pod(Phase::Ready, Some(9), 3, 2)),
            None,
            Some(pod(Phase::Starting, None, 0, 3)),
            Some(pod(Phase::Pending, None, 0, 4)),
            Some(pod(Phase::Draining, Some(6), 1, 0)),
            Some(pod(Phase::Ready, Some(7), 0, 5)),
            Some(pod(Phase::Starting, None, 0, 6)),
        ];
        let order = |order| victims(&pods, 9, order);
        assert_eq!(order(DeletionOrder::ReplicaSet), [4, 7, 3, 1, 6, 0]);
        assert_eq!(order(DeletionOrder::EmptiestFirst), [4, 7, 3, 6, 0, 1]);
        assert_eq!(order(DeletionOrder::ReadyFirst), [6, 0, 1, 4, 7, 3]);
        assert_eq!(victims(&pods, 2, DeletionOrder::ReplicaSet), [4, 7]);
    }
}
