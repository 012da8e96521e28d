//! `horizontal_test.go`: the rules, from a recommendation to a permitted count.

use super::super::behavior::{self, Bounds, Events};
use super::super::spec::{Behavior, Policy, PolicyKind, ScalingRules, SelectPolicy};
use super::super::state::{Recommendation, ScaleEvent, State};
use super::table::{Row, section};
use super::{NOW_NS, SECOND_NS};

const TABLE: &str = include_str!("behavior.txt");

/// A little older than the age says, as in the source, which looks at the clock again.
fn ago(seconds: i64) -> i64 {
    NOW_NS - seconds * SECOND_NS - 1
}

pub fn policies(row: &Row, key: &str) -> Option<Vec<Policy>> {
    let one = |entry: &str| {
        let (kind, rest) = entry.split_at(1);
        let (value, period) = rest.split_once('/').unwrap();
        Policy {
            kind: if kind == "%" {
                PolicyKind::Percent
            } else {
                PolicyKind::Pods
            },
            value: value.parse().unwrap(),
            period_seconds: period.parse().unwrap(),
        }
    };
    row.get(key).map(|value| value.split(',').map(one).collect())
}

fn events(row: &Row, key: &str) -> Vec<ScaleEvent> {
    let one = |(change, age)| ScaleEvent {
        change,
        at_ns: ago(age),
        is_outdated: false,
    };
    row.aged(key).into_iter().map(one).collect()
}

pub fn recommendations(row: &Row) -> Vec<Recommendation> {
    let one = |(replicas, age)| Recommendation {
        replicas,
        at_ns: ago(age),
    };
    row.aged("recent").into_iter().map(one).collect()
}

fn bounds(row: &Row) -> Bounds {
    Bounds {
        now_ns: NOW_NS,
        current: row.number("n").unwrap_or(0),
        min: row.number("min").unwrap_or(0),
        max: row.number("max").unwrap_or(0),
        downscale_stabilization_ns: 300 * SECOND_NS,
        scale_up_limit_factor: 2.0,
    }
}

fn with_policies(policies: Option<Vec<Policy>>) -> ScalingRules {
    ScalingRules {
        policies,
        ..ScalingRules::default()
    }
}

#[test]
fn scaling_with_rules() {
    for row in section(TABLE, "ScalingWithRules") {
        let state = State {
            scale_up_events: events(&row, "added"),
            scale_down_events: events(&row, "removed"),
            ..State::default()
        };
        let behavior = Behavior {
            scale_up: with_policies(policies(&row, "up")),
            scale_down: with_policies(policies(&row, "down")),
        };
        let limited = behavior::limit(&state, bounds(&row), &behavior, row.number("wanted").unwrap());
        assert_eq!(
            format!("{} {}", limited.replicas, limited.reason),
            row.expected,
            "{}",
            row.name
        );
    }
}

#[test]
fn normalize_desired_replicas_with_behavior() {
    for row in section(TABLE, "NormalizeDesiredReplicasWithBehavior") {
        let mut list = recommendations(&row);
        let window = |key| ScalingRules {
            stabilization_window_seconds: row.number(key),
            ..ScalingRules::default()
        };
        let behavior = Behavior {
            scale_up: window("up"),
            scale_down: window("down"),
        };
        let stable = behavior::stabilize(&mut list, bounds(&row), &behavior, row.number("wanted").unwrap());
        let kept = list
            .iter()
            .map(|entry| entry.replicas.to_string())
            .collect::<Vec<_>>()
            .join(",");
        match row.expected.split_once(' ') {
            Some(_) => assert_eq!(format!("{stable} {kept}"), row.expected, "{}", row.name),
            None => assert_eq!(stable.to_string(), row.expected, "{}", row.name),
        }
    }
}

#[test]
fn store_scale_events() {
    for row in section(TABLE, "StoreScaleEvents") {
        let change: i32 = row.number("change").unwrap();
        for is_up in [true, false] {
            let old = events(&row, "events");
            let mut state = State::default();
            let events = |state: &mut State| {
                std::mem::take(if is_up {
                    &mut state.scale_up_events
                } else {
                    &mut state.scale_down_events
                })
            };
            let within: i32 = old
                .iter()
                .filter(|event| event.at_ns > NOW_NS - 60 * SECOND_NS)
                .map(|event| event.change)
                .sum();
            if is_up {
                state.scale_up_events = old;
            } else {
                state.scale_down_events = old;
            }
            // Without behavior nothing is stored.
            if let Some(policies) = policies(&row, "rules") {
                let rules = with_policies(Some(policies));
                let behavior = Behavior {
                    scale_up: rules.clone(),
                    scale_down: rules,
                };
                let new = if is_up { 10 + change } else { 10 - change };
                behavior::store_event(&mut state, &behavior, NOW_NS, 10, new);
            }
            let show = |event: &ScaleEvent| format!("{}{}", event.change, if event.is_outdated { "!" } else { "" });
            let kept = events(&mut state).iter().map(show).collect::<Vec<_>>().join(",");
            assert_eq!(format!("{within} {kept}").trim(), row.expected, "{}", row.name);
        }
    }
}

#[test]
fn normalize_desired_replicas() {
    for row in section(TABLE, "NormalizeDesiredReplicas") {
        let mut list = recommendations(&row);
        let stable = behavior::stabilize_legacy(&mut list, bounds(&row), row.number("wanted").unwrap());
        assert_eq!(format!("{stable} {}", list.len()), row.expected, "{}", row.name);
    }
}

#[test]
fn convert_desired_replicas_with_rules() {
    for row in section(TABLE, "ConvertDesiredReplicasWithRules") {
        let limited = behavior::limit_legacy(bounds(&row), row.number("wanted").unwrap());
        assert_eq!(
            format!("{} {}", limited.replicas, limited.reason),
            row.expected,
            "{}",
            row.name
        );
    }
}

/// `TestCalculateScaleUpLimitWithScalingRules`, `TestCalculateScaleDownLimitWithBehaviors`; and what `Disabled` means.
#[test]
fn the_smallest_change_or_none() {
    let rules = |select| ScalingRules {
        select_policy: Some(select),
        policies: Some(vec![
            Policy {
                kind: PolicyKind::Pods,
                value: 2,
                period_seconds: 60,
            },
            Policy {
                kind: PolicyKind::Percent,
                value: 50,
                period_seconds: 60,
            },
        ]),
        ..ScalingRules::default()
    };
    let events = Events {
        up: &[],
        down: &[],
        now_ns: NOW_NS,
    };
    for (select, up, down) in [
        (SelectPolicy::Min, 2, 3),
        (SelectPolicy::Max, 3, 2),
        (SelectPolicy::Disabled, 1, 5),
    ] {
        let behavior = Behavior {
            scale_up: rules(select),
            scale_down: rules(select),
        };
        assert_eq!(events.up_limit(1, &behavior), up, "{select:?}");
        assert_eq!(events.down_limit(5, &behavior), down, "{select:?}");
    }
}
