//! Bounds of fields whose types are Kubernetes' own. Their schemas say little: what is wrong would be found only when a child is refused.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

/// A label's value, as Kubernetes defines it.
const LABEL_VALUE_PATTERN: &str = "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$";
const LABEL_VALUE_CHARS_MAX: i64 = 63;
/// A year: longer than any pod stays on a node that it must leave.
const TOLERATION_SECONDS_MAX: f64 = 31_536_000.0;
/// More pods, or percent, than any step has.
const STEP_MAX: f64 = 100_000.0;

/// Whole numbers: name of the field and of what it stands in (any, where that is empty), least and largest.
const NUMBERS: [(&str, &str, f64, f64); 5] = [
    ("policies", "periodSeconds", 1.0, 1800.0),
    ("policies", "value", 1.0, STEP_MAX),
    ("", "stabilizationWindowSeconds", 0.0, 3600.0),
    ("preferredDuringSchedulingIgnoredDuringExecution", "weight", 1.0, 100.0),
    ("tolerations", "tolerationSeconds", 0.0, TOLERATION_SECONDS_MAX),
];

/// Words.
const WORDS: [(&str, &str, &[&str]); 6] = [
    ("", "selectPolicy", &["Max", "Min", "Disabled"]),
    ("policies", "type", &["Pods", "Percent"]),
    ("tolerations", "operator", &["Exists", "Equal", "Lt", "Gt"]),
    (
        "tolerations",
        "effect",
        &["NoSchedule", "PreferNoSchedule", "NoExecute"],
    ),
    (
        "matchExpressions",
        "operator",
        &["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"],
    ),
    ("matchFields", "operator", &["In", "NotIn"]),
];

/// Maps whose values are labels' values.
const LABELS: [&str; 3] = ["labels", "nodeSelector", "matchLabels"];

/// Puts the bounds in, everywhere below `schema`, which is the schema of a field `name`.
pub(crate) fn bound(schema: &mut JSONSchemaProps, name: &str) {
    if LABELS.contains(&name)
        && let Some(JSONSchemaPropsOrBool::Schema(value)) = schema.additional_properties.as_mut()
    {
        value.max_length = Some(LABEL_VALUE_CHARS_MAX);
        value.pattern = Some(LABEL_VALUE_PATTERN.to_owned());
    }
    for (child, property) in schema.properties.iter_mut().flatten() {
        let is = |of: &str, field: &str| field == child && (of.is_empty() || of == name);
        if let Some((.., least, largest)) = NUMBERS.iter().find(|(of, field, ..)| is(of, field)) {
            property.minimum = Some(*least);
            property.maximum = Some(*largest);
        }
        if let Some((.., words)) = WORDS.iter().find(|(of, field, _)| is(of, field)) {
            property.enum_ = Some(words.iter().map(|word| JSON((*word).into())).collect());
        }
        bound(property, child);
    }
    // The items of a list stand in what the list is called.
    match schema.items.as_mut() {
        Some(JSONSchemaPropsOrArray::Schema(items)) => bound(items, name),
        Some(JSONSchemaPropsOrArray::Schemas(all)) => all.iter_mut().for_each(|items| bound(items, name)),
        None => {}
    }
}
