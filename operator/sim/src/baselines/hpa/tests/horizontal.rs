//! `horizontal_test.go`: whole syncs, with the conditions they leave.

use super::super::input::{Input, Pod, PodMetric, Reading, Scale};
use super::super::reconcile::{Config, Outcome, sync};
use super::super::samples::{self, PodUsage};
use super::super::spec::{Behavior, Metric, Resource, ResourceTarget, ScalingRules, Spec, ValueTarget};
use super::super::state::{Condition, Conditions, Recommendation, State};
use super::behavior::{policies, recommendations};
use super::table::{Row, section};
use super::{NOW_NS, SECOND_NS, pod};

const TABLE: &str = include_str!("horizontal.txt");

fn spec(row: &Row) -> Spec {
    let number = |value: &str| value.parse().unwrap();
    let metric = |(key, value): (&str, &str)| {
        let (name, selector) = ("qps".to_owned(), "nil".to_owned());
        let value_target = || match key.split_once('.') {
            Some((_, "value")) => ValueTarget::Value(number(value)),
            _ => ValueTarget::AverageValue(number(value)),
        };
        let percent = || ResourceTarget::Utilization(value.parse().unwrap());
        Some(match key.split('.').next()? {
            "cpu" => Metric::Resource {
                resource: Resource::Cpu,
                target: percent(),
            },
            container @ ("container1" | "container2") => Metric::ContainerResource {
                resource: Resource::Cpu,
                container: container.to_owned(),
                target: percent(),
            },
            "pods" => Metric::Pods {
                name,
                average_milli: number(value),
            },
            "object" => Metric::Object {
                name,
                kind: "Deployment".to_owned(),
                object: "some-deployment".to_owned(),
                selector,
                target: value_target(),
            },
            "external" => Metric::External {
                name,
                selector,
                target: value_target(),
            },
            _ => return None,
        })
    };
    let rules = |key: &str| ScalingRules {
        policies: policies(row, key),
        tolerance: row.number(&format!("{key}-tolerance")),
        ..ScalingRules::default()
    };
    let behavior = Behavior {
        scale_up: rules("up"),
        scale_down: rules("down"),
    };
    Spec {
        namespace: "test-namespace".to_owned(),
        min_replicas: row.number("min"),
        max_replicas: row.number("max").unwrap(),
        metrics: row.fields().filter_map(metric).collect(),
        behavior: (behavior != Behavior::default()).then_some(behavior),
    }
}

/// The pods; each of the two containers requests one half.
fn pods(row: &Row, status_replicas: i32) -> Vec<Pod> {
    let requests = match row.get("requests") {
        None => vec![1000; usize::try_from(status_replicas).unwrap()],
        Some("none") => Vec::new(),
        Some(_) => row.numbers("requests"),
    };
    let pod = |(index, request)| pod(row, index, Some(request / 2));
    requests.into_iter().enumerate().map(pod).collect()
}

fn reading(row: &Row, metric: &Metric) -> Result<Reading, String> {
    let fails = row.get("fails");
    let levels = row.numbers("levels");
    if fails == Some("metrics") {
        return Err("something went wrong".to_owned());
    }
    let name = |index| format!("test-pod-{index}").into();
    let container = match metric {
        Metric::ContainerResource { container, .. } => Some(container.as_str()),
        _ => None,
    };
    match metric {
        Metric::Resource { .. } | Metric::ContainerResource { .. } => {
            let item = |(index, level): (usize, &i64)| PodUsage {
                pod: name(index),
                timestamp_ns: NOW_NS,
                window_ns: 60 * SECOND_NS,
                containers: ["container1", "container2"]
                    .map(|name| (name.to_owned(), Some(level / 2)))
                    .to_vec(),
            };
            let items: Vec<_> = levels.iter().enumerate().map(item).collect();
            samples::from_resource_api(&items, container)
        }
        Metric::Pods { .. } => {
            let sample = |(index, value_milli)| {
                let metric = PodMetric {
                    value_milli,
                    timestamp_ns: NOW_NS,
                    window_ns: 60 * SECOND_NS,
                };
                (name(index), metric)
            };
            samples::from_custom_api(levels.into_iter().enumerate().map(sample).collect())
        }
        Metric::Object { .. } => Ok(Reading::Object(levels[0])),
        Metric::External { .. } if fails == Some("external") => samples::from_external_api(Vec::new()),
        Metric::External { .. } => samples::from_external_api(levels),
    }
}

fn state(row: &Row) -> State {
    let recommendations = match row.get("recent") {
        // Some entry that is too old to count, or the controller puts the current count there.
        Some("none") => vec![Recommendation {
            replicas: 1_000_000,
            at_ns: 0,
        }],
        _ => recommendations(row),
    };
    let scaled_to_zero = row.number("zero").map(|is_true| Condition {
        is_true,
        reason: "ScaledToZero",
        message: String::new(),
        last_transition_ns: 0,
    });
    let mut state = State {
        recommendations,
        ..State::default()
    };
    state.status.conditions.scaled_to_zero = scaled_to_zero;
    state.status.desired_replicas = row.number("spec").unwrap();
    state
}

fn run(row: &Row) -> (State, Outcome) {
    let spec = spec(row);
    let spec_replicas = row.number("spec").unwrap();
    let scale = Scale {
        spec_replicas,
        status_replicas: row.number("status").unwrap_or(spec_replicas),
    };
    let fails = |what| (row.get("fails") == Some(what)).then(|| "something went wrong".to_owned());
    let config = Config {
        cpu_initialization_period_ns: 120 * SECOND_NS,
        initial_readiness_delay_ns: 10 * SECOND_NS,
        has_scale_to_zero: row.get("gate").is_none(),
        scale_up_limit_factor: 8.0,
        ..Config::default()
    };
    let readings: Vec<_> = spec.metrics.iter().map(|metric| reading(row, metric)).collect();
    let input = Input {
        now_ns: NOW_NS,
        scale: fails("scale").map_or(Ok(scale), Err),
        pods: &pods(row, scale.status_replicas),
        readings: &readings,
        update_error: fails("update"),
    };
    let mut state = state(row);
    let outcome = sync(&config, &spec, &mut state, &input);
    (state, outcome)
}

/// Truth and reason of each condition that is set, sorted.
fn summary(conditions: &Conditions) -> Vec<String> {
    let all = [
        &conditions.able_to_scale,
        &conditions.scaling_active,
        &conditions.scaling_limited,
        &conditions.scaled_to_zero,
    ];
    let show = |condition: &Condition| format!("{}{}", if condition.is_true { '+' } else { '-' }, condition.reason);
    let mut shown: Vec<_> = all.into_iter().flatten().map(show).collect();
    shown.sort();
    shown
}

#[test]
fn syncs() {
    for row in section(TABLE, "Horizontal") {
        let (state, outcome) = run(&row);
        let mut expected = row.expected.split(' ').map(str::to_owned);
        let replicas: i32 = expected.next().unwrap().parse().unwrap();
        let current: i32 = row.number("spec").unwrap();
        assert_eq!(state.status.desired_replicas, replicas, "{} {outcome:?}", row.name);
        assert_eq!(
            outcome.written,
            (replicas != current).then_some(replicas),
            "{}",
            row.name
        );
        let mut conditions: Vec<_> = expected.collect();
        conditions.sort();
        if !conditions.is_empty() {
            assert_eq!(summary(&state.status.conditions), conditions, "{}", row.name);
        }
    }
}

fn named(name: &str) -> Row {
    section(TABLE, "Horizontal")
        .into_iter()
        .find(|row| row.name == name)
        .unwrap()
}

/// The words that a user reads.
#[test]
fn errors_and_reasons_are_said_as_upstream_says_them() {
    let (state, outcome) = run(&named("NoScaleDownOneMetricEmpty"));
    let message = state.status.conditions.scaling_active.unwrap().message;
    let cause = "unable to get external metric test-namespace/qps/nil: no metrics returned from external metrics API";
    assert_eq!(
        message,
        format!("the HPA was unable to compute the replica count: {cause}")
    );
    assert_eq!(
        outcome.error.unwrap(),
        format!(
            "failed to compute desired number of replicas based on listed metrics: invalid metrics (1 invalid out of 2), \
             first error is: failed to get qps external metric value: failed to get external metric qps: {cause}"
        )
    );
    let (state, outcome) = run(&named("EventCreated"));
    assert_eq!(
        outcome.rescale_reason,
        "cpu resource utilization (percentage of request) above target"
    );
    assert_eq!(
        state.status.conditions.able_to_scale.unwrap().message,
        "the HPA controller was able to update the target scale to 2"
    );
}

/// A metric that works scales up although another one does not, and the failure is told.
#[test]
fn one_invalid_metric_does_not_stop_a_scale_up() {
    let (_, outcome) = run(&named("ScaleUpOneMetricEmpty"));
    assert_eq!(outcome.written, Some(4));
    assert!(
        outcome
            .error
            .unwrap()
            .starts_with("invalid metrics (1 invalid out of 2)")
    );
}

/// Without its memory the controller takes the current count as its only recommendation.
#[test]
fn a_restart_forgets_recommendations_and_keeps_the_status() {
    let (state, _) = run(&named(
        "ScaleDownCM: scale down to zero external metric with HPAScaleToZero enabled",
    ));
    let restarted = state.clone().after_restart();
    assert!(restarted.recommendations.is_empty() && restarted.scale_down_events.is_empty());
    assert_eq!(restarted.status, state.status);
}
