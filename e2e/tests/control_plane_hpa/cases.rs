//! Scripts: what an autoscaler asks for, and what its metrics say at each sync.
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use tidewright_sim::baselines::hpa::spec::{
    Behavior, Metric, Policy, PolicyKind, ScalingRules, SelectPolicy, Spec, ValueTarget,
};

/// Of the syncs, those that have to be compared; one more shows what became of the last.
const STEPS: usize = 34;
/// Per replica, in thousandths.
const TARGET_MILLI: i64 = 10_000;

pub struct Case {
    pub name: String,
    pub metrics: usize,
    pub min: i32,
    pub max: i32,
    pub behavior: Option<Behavior>,
    /// Per sync, per metric: its value in thousandths, or nothing where the metrics API has none.
    pub steps: Vec<Vec<Option<i64>>>,
}

fn rules(window: i32, policies: &[(PolicyKind, i32, i32)], select: SelectPolicy) -> ScalingRules {
    let one = |(kind, value, period_seconds): &(PolicyKind, i32, i32)| Policy {
        kind: *kind,
        value: *value,
        period_seconds: *period_seconds,
    };
    ScalingRules {
        stabilization_window_seconds: Some(window),
        select_policy: Some(select),
        policies: (!policies.is_empty()).then(|| policies.iter().map(one).collect()),
        tolerance: None,
    }
}

/// Each with other rules; the values are drawn, and the same in every run.
pub fn all() -> Vec<Case> {
    let at_once = || rules(0, &[(PolicyKind::Percent, 900, 1)], SelectPolicy::Max);
    let behavior = |scale_up: ScalingRules, scale_down: ScalingRules| Some(Behavior { scale_up, scale_down });
    let tolerant = ScalingRules {
        tolerance: Some(0.3),
        ..at_once()
    };
    let all: Vec<(&str, usize, i32, Option<Behavior>)> = vec![
        ("legacy", 1, 1, None),
        ("defaults", 1, 2, Some(Behavior::default())),
        ("at-once", 1, 1, behavior(at_once(), at_once())),
        (
            "stabilized",
            1,
            1,
            behavior(
                rules(3, &[(PolicyKind::Percent, 900, 1)], SelectPolicy::Max),
                rules(6, &[], SelectPolicy::Max),
            ),
        ),
        (
            "stepwise",
            1,
            1,
            behavior(
                rules(
                    0,
                    &[(PolicyKind::Pods, 2, 3), (PolicyKind::Percent, 50, 6)],
                    SelectPolicy::Max,
                ),
                rules(
                    0,
                    &[(PolicyKind::Pods, 1, 3), (PolicyKind::Percent, 20, 6)],
                    SelectPolicy::Min,
                ),
            ),
        ),
        (
            "never-down",
            1,
            1,
            behavior(at_once(), rules(0, &[], SelectPolicy::Disabled)),
        ),
        ("tolerant", 1, 1, behavior(tolerant.clone(), tolerant)),
        ("two-metrics", 2, 1, behavior(at_once(), at_once())),
    ];
    let case = |(index, (name, metrics, min, behavior)): (usize, (&str, usize, i32, Option<Behavior>))| {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(7 + index as u64);
        Case {
            name: name.to_owned(),
            metrics,
            min,
            max: 12,
            behavior,
            steps: (0..STEPS).map(|_| step(&mut random, metrics)).collect(),
        }
    };
    all.into_iter().enumerate().map(case).collect()
}

/// Values from nothing to more than the maximum, often near a whole number of replicas, and now and then none at all.
fn step(random: &mut Xoshiro256PlusPlus, metrics: usize) -> Vec<Option<i64>> {
    let one = |_| {
        if random.random_range(0.0..1.0) < 0.12 {
            return None;
        }
        let replicas: i64 = random.random_range(0..15);
        let off: i64 = random.random_range(-1_500..1_500);
        Some((replicas * TARGET_MILLI + off).max(0))
    };
    (0..metrics).map(one).collect()
}

impl Case {
    fn metric(index: usize) -> String {
        format!("load-{index}")
    }

    pub fn deployment(&self, namespace: &str) -> Value {
        let labels = json!({"app": self.name});
        // Nobody runs them: the number of pods is all that counts here.
        let pod = json!({"nodeSelector": {"nowhere": "true"}, "containers": [{"name": "none", "image": "nowhere.invalid/none"}],
            "automountServiceAccountToken": false});
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": self.name, "namespace": namespace},
            // From the minimum on: a sync that brings it there reads no metric, and would not be seen.
            "spec": {"replicas": self.min, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}}})
    }

    pub fn autoscaler(&self, namespace: &str) -> Value {
        let metric = |index: usize| {
            json!({"type": "Object", "object": {
                "describedObject": {"apiVersion": "v1", "kind": "Service", "name": self.name},
                "metric": {"name": Self::metric(index)},
                "target": {"type": "AverageValue", "averageValue": format!("{TARGET_MILLI}m")}}})
        };
        let metrics: Vec<Value> = (0..self.metrics).map(metric).collect();
        json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": self.name, "namespace": namespace},
            "spec": {"minReplicas": self.min, "maxReplicas": self.max, "metrics": metrics, "behavior": self.behavior.as_ref().map(written),
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": self.name}}})
    }

    /// The same for the simulator.
    pub fn spec(&self, namespace: &str) -> Spec {
        let metric = |index: usize| Metric::Object {
            name: Self::metric(index),
            kind: "Service".to_owned(),
            object: self.name.clone(),
            selector: "nil".to_owned(),
            target: ValueTarget::AverageValue(TARGET_MILLI),
        };
        Spec {
            namespace: namespace.to_owned(),
            min_replicas: Some(self.min),
            max_replicas: self.max,
            metrics: (0..self.metrics).map(metric).collect(),
            behavior: self.behavior.clone(),
        }
    }
}

fn written(behavior: &Behavior) -> Value {
    let rules = |rules: &ScalingRules| {
        let policy = |policy: &Policy| {
            let kind = match policy.kind {
                PolicyKind::Pods => "Pods",
                PolicyKind::Percent => "Percent",
            };
            json!({"type": kind, "value": policy.value, "periodSeconds": policy.period_seconds})
        };
        let select = rules.select_policy.map(|select| match select {
            SelectPolicy::Max => "Max",
            SelectPolicy::Min => "Min",
            SelectPolicy::Disabled => "Disabled",
        });
        let mut all = serde_json::Map::new();
        let mut add = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                all.insert(name.to_owned(), value);
            }
        };
        add(
            "stabilizationWindowSeconds",
            rules.stabilization_window_seconds.map(Value::from),
        );
        add("selectPolicy", select.map(Value::from));
        add(
            "policies",
            rules.policies.as_ref().map(|all| all.iter().map(policy).collect()),
        );
        add(
            "tolerance",
            rules.tolerance.map(|share| Value::from(format!("{share}"))),
        );
        Value::Object(all)
    };
    json!({"scaleUp": rules(&behavior.scale_up), "scaleDown": rules(&behavior.scale_down)})
}
