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

/// Whole numbers: what the field stands in (anything, where that is empty), its name, least and largest.
const NUMBERS: [(&str, &str, f64, f64); 5] = [
    ("policies", "periodSeconds", 1.0, 1800.0),
    ("policies", "value", 1.0, STEP_MAX),
    ("", "stabilizationWindowSeconds", 0.0, 3600.0),
    ("preferredDuringSchedulingIgnoredDuringExecution", "weight", 1.0, 100.0),
    ("tolerations", "tolerationSeconds", 0.0, TOLERATION_SECONDS_MAX),
];

/// Of a selector of labels.
const LABEL_OPERATORS: [&str; 4] = ["In", "NotIn", "Exists", "DoesNotExist"];

/// Words.
const WORDS: [(&str, &str, &[&str]); 8] = [
    ("", "selectPolicy", &["Max", "Min", "Disabled"]),
    ("policies", "type", &["Pods", "Percent"]),
    // Lt and Gt need a feature gate of the API server's.
    ("tolerations", "operator", &["Exists", "Equal"]),
    (
        "tolerations",
        "effect",
        &["NoSchedule", "PreferNoSchedule", "NoExecute"],
    ),
    // The first that fits counts: these stand in nodeAffinity.
    ("matchFields", "operator", &["In", "NotIn"]),
    (
        "nodeAffinity",
        "operator",
        &["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"],
    ),
    ("podAffinity", "operator", &LABEL_OPERATORS),
    ("podAntiAffinity", "operator", &LABEL_OPERATORS),
];

/// Maps whose values are labels' values.
const LABELS: [&str; 3] = ["labels", "nodeSelector", "matchLabels"];

/// Puts the bounds in, everywhere below `schema`.
pub(crate) fn bound(schema: &mut JSONSchemaProps) {
    below(schema, &mut Vec::new());
}

/// `within` are the names of the fields that `schema` stands in, its own last. The items of a list have none.
fn below(schema: &mut JSONSchemaProps, within: &mut Vec<String>) {
    if within.last().is_some_and(|name| LABELS.contains(&name.as_str()))
        && let Some(JSONSchemaPropsOrBool::Schema(value)) = schema.additional_properties.as_mut()
    {
        value.max_length = Some(LABEL_VALUE_CHARS_MAX);
        value.pattern = Some(LABEL_VALUE_PATTERN.to_owned());
    }
    for (child, property) in schema.properties.iter_mut().flatten() {
        let is = |of: &str, field: &str| field == child && (of.is_empty() || within.iter().any(|name| name == of));
        if let Some((.., least, largest)) = NUMBERS.iter().find(|(of, field, ..)| is(of, field)) {
            property.minimum = Some(*least);
            property.maximum = Some(*largest);
        }
        if let Some((.., words)) = WORDS.iter().find(|(of, field, _)| is(of, field)) {
            property.enum_ = Some(words.iter().map(|word| JSON((*word).into())).collect());
        }
        within.push(child.clone());
        below(property, within);
        within.pop();
    }
    match schema.items.as_mut() {
        Some(JSONSchemaPropsOrArray::Schema(items)) => below(items, within),
        Some(JSONSchemaPropsOrArray::Schemas(all)) => all.iter_mut().for_each(|items| below(items, within)),
        None => {}
    }
}
