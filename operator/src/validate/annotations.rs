//! KServe's annotations that decide how a service runs: what they ask for is what happens here anyway, or they are refused by name.
use std::collections::BTreeMap;

use tidewright_api::labels::KSERVE_PREFIX;

use crate::domain::problem::Problem;

/// Name below it, the values that mean what is done here, and what to do instead.
const DECIDING: [(&str, &[&str], &str); 5] = [
    (
        "deploymentMode",
        &["Standard", "RawDeployment"],
        "services run as Deployments; Standard and RawDeployment mean that",
    ),
    (
        "autoscalerClass",
        &["hpa"],
        "hpa is what scales; spec.predictor.replicas, or kubectl scale, sets a fixed number",
    ),
    ("stop", &["false"], "a service is stopped by deleting it"),
    (
        "metric",
        &[],
        "spec.predictor.autoScaling.metrics says what to scale on",
    ),
    (
        "targetUtilizationPercentage",
        &[],
        "spec.predictor.autoScaling.metrics says what to scale on",
    ),
];

pub(super) fn validate(annotations: &BTreeMap<String, String>, problems: &mut Vec<Problem>) {
    for (name, honoured, instead) in DECIDING {
        let key = format!("{KSERVE_PREFIX}{name}");
        if let Some(value) = annotations.get(&key)
            && !honoured.contains(&value.as_str())
        {
            let shown: String = value.chars().take(40).collect();
            problems.push(Problem::new(
                format!("metadata.annotations[{key}]"),
                format!("{shown:?} is not supported: {instead}"),
            ));
        }
    }
}
