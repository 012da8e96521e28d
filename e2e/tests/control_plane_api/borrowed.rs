//! Bounds of the fields whose types are Kubernetes' own: what a Deployment or an autoscaler would refuse is refused here, with the name of the field.
use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::rules::with;
use super::{cluster, try_create};

#[tokio::test]
async fn fields_of_kubernetes_own_types_are_bounded_as_kubernetes_bounds_them() -> Result<()> {
    let client = cluster().await?.client().await?;
    let behavior = |window: i64, policy: Value, select: &str| json!({"behavior": {"scaleDown": {"stabilizationWindowSeconds": window, "selectPolicy": select, "policies": [policy]}}});
    let policy = |of: &str, value: i64, period: i64| json!({"type": of, "value": value, "periodSeconds": period});
    let preferred = |weight: i64, operator: &str| {
        json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": weight,
            "preference": {"matchExpressions": [{"key": "disk", "operator": operator, "values": ["1"]}]}}]}})
    };
    let tolerated = |operator: &str, effect: &str, seconds: i64| json!([{"key": "gpu", "operator": operator, "effect": effect, "tolerationSeconds": seconds}]);
    let scaling = "/spec/predictor/autoScaling";
    let affinity = "/spec/predictor/affinity";
    let tolerations = "/spec/predictor/tolerations";
    let good = policy("Pods", 1, 15);
    let cases = [
        (
            scaling,
            behavior(3601, good.clone(), "Max"),
            "less than or equal to 3600",
        ),
        (scaling, behavior(-1, good.clone(), "Max"), "greater than or equal to 0"),
        (scaling, behavior(0, good.clone(), "Most"), "supported values"),
        (
            scaling,
            behavior(0, policy("Replicas", 1, 15), "Max"),
            "supported values",
        ),
        (
            scaling,
            behavior(0, policy("Pods", 0, 15), "Max"),
            "greater than or equal to 1",
        ),
        (
            scaling,
            behavior(0, policy("Pods", 1, 1801), "Max"),
            "less than or equal to 1800",
        ),
        (affinity, preferred(101, "In"), "less than or equal to 100"),
        (affinity, preferred(1, "Is"), "supported values"),
        (
            affinity,
            json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchFields": [{"key": "metadata.name", "operator": "Exists"}]}]}}}),
            "supported values",
        ),
        (
            affinity,
            json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone",
                "labelSelector": {"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]}}]}}),
            "supported values",
        ),
        (tolerations, tolerated("Maybe", "NoExecute", 1), "supported values"),
        (tolerations, tolerated("Exists", "Never", 1), "supported values"),
        (
            tolerations,
            tolerated("Exists", "NoExecute", -1),
            "greater than or equal to 0",
        ),
        ("/spec/predictor/nodeSelector", json!({"disk": "s s d"}), "should match"),
        (
            "/spec/predictor/labels",
            json!({"team": "a".repeat(64)}),
            "may not be more than 63",
        ),
        (
            "/spec/pools",
            json!([{"name": "a", "nodeSelector": {"disk": "-"}}]),
            "should match",
        ),
    ];
    let mut wrong = Vec::new();
    for (at, value, part) in cases {
        match try_create(&client, &with(at, &value)).await {
            Err(message) if message.contains(part) => {}
            other => wrong.push(format!("{at} {value}: {other:?}")),
        }
    }
    let accepted = [
        (scaling, behavior(3600, policy("Percent", 100, 1800), "Disabled")),
        (affinity, preferred(100, "Gt")),
        (tolerations, tolerated("Exists", "NoExecute", 30)),
        ("/spec/predictor/nodeSelector", json!({"disk": ""})),
        ("/spec/predictor/labels", json!({"example.com/team": "a".repeat(63)})),
    ];
    for (at, value) in accepted {
        if let Err(message) = try_create(&client, &with(at, &value)).await {
            wrong.push(format!("{at} {value} is refused: {message}"));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}
