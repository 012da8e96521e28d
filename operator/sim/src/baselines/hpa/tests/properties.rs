//! Whatever the metrics say: bounds hold, the rules limit, and nothing panics.

use proptest::prelude::*;

use super::super::input::{Input, PodMetric, PodMetrics, Reading, Scale};
use super::super::reconcile::{Config, sync};
use super::super::spec::{Behavior, Metric, Resource, ResourceTarget, ScalingRules, SelectPolicy, Spec, ValueTarget};
use super::super::state::State;
use super::table::section;
use super::{NOW_NS, SECOND_NS, pod};

fn any_value() -> impl Strategy<Value = i64> {
    prop_oneof![
        Just(0),
        1..2_000_000_i64,
        Just(-1),
        Just(i64::MAX),
        Just(i64::MIN),
        any::<i64>()
    ]
}

fn any_rules() -> impl Strategy<Value = ScalingRules> {
    let select = prop_oneof![
        Just(SelectPolicy::Max),
        Just(SelectPolicy::Min),
        Just(SelectPolicy::Disabled)
    ];
    (
        proptest::option::of(0..600_i32),
        proptest::option::of(select),
        proptest::option::of(0.0..1.0),
    )
        .prop_map(
            |(stabilization_window_seconds, select_policy, tolerance)| ScalingRules {
                stabilization_window_seconds,
                select_policy,
                policies: None,
                tolerance,
            },
        )
}

fn spec(bounds: (i32, i32), target: i64, behavior: Option<Behavior>) -> Spec {
    let external = |target| Metric::External {
        name: "qps".to_owned(),
        selector: "nil".to_owned(),
        target,
    };
    Spec {
        namespace: String::new(),
        min_replicas: Some(bounds.0),
        max_replicas: bounds.1,
        metrics: vec![
            external(ValueTarget::Value(target)),
            external(ValueTarget::AverageValue(target)),
            Metric::Pods {
                name: "queue".to_owned(),
                average_milli: target,
            },
            Metric::Resource {
                resource: Resource::Cpu,
                target: ResourceTarget::Utilization(70),
            },
        ],
        behavior,
    }
}

proptest! {
    /// From within the bounds, no sync leaves them; a rule that is disabled is not crossed; and conditions say what was written.
    #[test]
    fn syncs_stay_within_their_bounds(
        min in 0..5_i32,
        width in 1..50_i32,
        start in 0..55_i32,
        target in 1..100_000_i64,
        values in proptest::collection::vec(proptest::option::weighted(0.9, any_value()), 1..40),
        behavior in proptest::option::of((any_rules(), any_rules())),
    ) {
        let behavior = behavior.map(|(scale_up, scale_down)| Behavior { scale_up, scale_down });
        let spec = spec((min, min + width), target, behavior);
        let template = &section("[T]\npods | n=1 | 1", "T")[0];
        let mut state = State::default();
        let mut current = (min + start % width).min(min + width);
        for (step, value) in values.iter().enumerate() {
            let now_ns = NOW_NS + i64::try_from(step).unwrap() * 15 * SECOND_NS;
            let pods: Vec<_> = (0..usize::try_from(current).unwrap()).map(|index| pod(template, index, Some(500))).collect();
            let sample = |value_milli| PodMetric { value_milli, timestamp_ns: now_ns, window_ns: SECOND_NS };
            let per_pod: PodMetrics = pods.iter().map(|pod| (pod.name.clone(), sample(value.unwrap_or(0)))).collect();
            let read = |reading: Reading| value.map(|_| reading).ok_or_else(|| "lost".to_owned());
            let external = read(Reading::External(vec![value.unwrap_or(0); 2]));
            let readings =
                [external.clone(), external, read(Reading::PerPod(per_pod.clone())), Ok(Reading::PerPod(per_pod))];
            let input = Input {
                now_ns,
                scale: Ok(Scale { spec_replicas: current, status_replicas: current }),
                pods: &pods,
                readings: &readings,
                update_error: None,
            };
            let outcome = sync(&Config::default(), &spec, &mut state, &input);
            let desired = state.status.desired_replicas;
            // A metric that is missing forbids to scale down.
            prop_assert!(value.is_some() || outcome.written.is_none_or(|written| written > current));
            if let Some(written) = outcome.written {
                prop_assert!((min..=min + width).contains(&written), "{written} is out of bounds");
                prop_assert_eq!(written, desired);
                prop_assert_ne!(written, current);
                let rules = spec.behavior.clone().unwrap_or_default();
                let direction = if written > current { rules.scale_up } else { rules.scale_down };
                prop_assert_ne!(direction.select_policy, Some(SelectPolicy::Disabled));
                let able = state.status.conditions.able_to_scale.as_ref().unwrap();
                prop_assert_eq!((able.is_true, able.reason), (true, "SucceededRescale"));
                current = written;
            }
        }
    }
}
