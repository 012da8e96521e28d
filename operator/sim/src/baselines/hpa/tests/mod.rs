//! Upstream's table tests, and properties that hold for everything.

mod behavior;
mod calculator;
mod groups;
mod horizontal;
mod properties;
mod table;

use super::input::{ConditionStatus, Container, Phase, Pod, ReadyCondition, Requests};
use table::Row;

const SECOND_NS: i64 = 1_000_000_000;
/// Long after the epoch, which stands for "for ever".
const NOW_NS: i64 = 1_000_000 * SECOND_NS;

/// Pod `index` of a row: two containers with the same request, and whatever the row says of it.
fn pod(row: &Row, index: usize, request_milli: Option<i64>) -> Pod {
    let has = |key: &str| row.list(key).any(|entry| entry == index.to_string());
    let started: Option<i64> = row.list("started").nth(index).map(|age| age.parse().unwrap());
    let start_ns = started.map_or(0, |age| NOW_NS - age * SECOND_NS);
    let phase = match row.get("phase").and_then(|phases| phases.chars().nth(index)) {
        None | Some('R') => Phase::Running,
        Some('P') => Phase::Pending,
        Some('F') => Phase::Failed,
        Some(other) => panic!("phase {other}"),
    };
    let requests = Requests {
        cpu_milli: request_milli,
        memory_milli: None,
    };
    let container = |name: &str| Container {
        name: name.to_owned(),
        requests,
    };
    Pod {
        name: format!("test-pod-{index}").into(),
        phase,
        deleting: has("deleting"),
        start_ns: Some(start_ns),
        ready: Some(ReadyCondition {
            status: if has("unready") {
                ConditionStatus::False
            } else {
                ConditionStatus::True
            },
            last_transition_ns: start_ns,
        }),
        containers: vec![container("container1"), container("container2")],
        pod_level_requests: None,
    }
}
