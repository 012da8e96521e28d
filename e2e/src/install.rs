//! Installs and uninstalls our charts with helm, as a user would.
use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::access::Access;
use crate::dump::OPERATOR_NAMESPACE;
use crate::{images, paths};

/// Installs a chart of this repository or upgrades it, and waits until it is ready.
pub async fn chart(access: &Access, release: &str, chart: &str, namespace: &str, values: &Value) -> Result<()> {
    let path = paths::repository_dir().join("charts").join(chart).display().to_string();
    let arguments = [
        "upgrade",
        "--install",
        release,
        &path,
        "--namespace",
        namespace,
        "--create-namespace",
        "--values=-",
        "--wait",
        "--timeout=2m",
    ];
    access
        .program("helm", arguments, Some(&values.to_string()))
        .await
        .with_context(|| format!("installing the chart {chart}"))?;
    Ok(())
}

/// Installs the CRDs and the operator with the images of this checkout. `values` are merged over ours.
pub async fn tidewright(access: &Access, values: &Value) -> Result<()> {
    chart(
        access,
        "tidewright-crds",
        "tidewright-crds",
        OPERATOR_NAMESPACE,
        &json!({}),
    )
    .await?;
    let mut merged = json!({
        "images": {"operator": images::OPERATOR, "server": images::INFERENCE_SERVER, "redis": images::REDIS, "pullPolicy": "IfNotPresent"},
    });
    merge(&mut merged, values);
    chart(access, "tidewright", "tidewright", OPERATOR_NAMESPACE, &merged).await
}

/// Installs the CRDs alone, for an operator that runs as a process of the machine.
pub async fn crds(access: &Access) -> Result<()> {
    chart(
        access,
        "tidewright-crds",
        "tidewright-crds",
        OPERATOR_NAMESPACE,
        &json!({}),
    )
    .await
}

/// Uninstalls a release and waits until its objects are gone.
pub async fn uninstall(access: &Access, release: &str, namespace: &str) -> Result<()> {
    let arguments = ["uninstall", release, "--namespace", namespace, "--wait", "--timeout=2m"];
    access
        .program("helm", arguments, None)
        .await
        .with_context(|| format!("uninstalling {release}"))?;
    Ok(())
}

/// Lays `over` on `base`: objects are merged, everything else is replaced.
fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_merged_by_key() {
        let mut base = json!({"a": {"b": 1, "c": 2}, "d": [1, 2]});
        merge(&mut base, &json!({"a": {"c": 3}, "d": [4], "e": null}));
        assert_eq!(base, json!({"a": {"b": 1, "c": 3}, "d": [4], "e": null}));
    }
}
