//! The CustomResourceDefinition as it is installed: the derived schema, bounded everywhere, with its CEL rules.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool, ValidationRule,
};
use kube::CustomResourceExt;

use crate::borrowed;
use crate::rules::{RULES, Rule, TARGET_PATHS, TARGET_RULE};

/// Longest list, text and map where a field says nothing itself. Everything must have a bound: the API server estimates
/// the cost of CEL rules from them, and an object without bounds is a way to hurt whoever reads it.
const ITEMS_MAX: i64 = 64;
const CHARS_MAX: i64 = 1024;
const PROPERTIES_MAX: i64 = 64;
const QUANTITY_CHARS_MAX: i64 = 32;
/// Kubernetes' own grammar of quantities: without it nonsense would be found only when a child is refused.
const QUANTITY_PATTERN: &str =
    r"^\+?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";
/// Kubernetes describes a quantity by its whole grammar wherever one stands.
const DESCRIPTION_CHARS_MAX: usize = 1500;
/// A condition's message may be long: Kubernetes' own bound.
const CONDITION_MESSAGE_CHARS_MAX: i64 = 32_768;

/// Every CustomResourceDefinition of this group.
pub fn all_crds() -> Vec<CustomResourceDefinition> {
    vec![inference_service()]
}

fn inference_service() -> CustomResourceDefinition {
    let mut crd = crate::InferenceService::crd();
    for version in &mut crd.spec.versions {
        let Some(root) = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut()) else {
            continue;
        };
        bound(root);
        borrowed::bound(root);
        // `metadata` must say what it is for a rule to read the name.
        for rule in RULES {
            add_rule(root, rule.path, rule);
        }
        for path in TARGET_PATHS {
            add_rule(root, path, &TARGET_RULE);
        }
    }
    crd
}

fn add_rule(root: &mut JSONSchemaProps, path: &str, rule: &Rule) {
    if let Some(schema) = find(root, path) {
        schema
            .x_kubernetes_validations
            .get_or_insert_default()
            .push(ValidationRule {
                rule: rule.rule.to_owned(),
                message: Some(rule.message.to_owned()),
                ..ValidationRule::default()
            });
    }
}

/// The schema at a path such as `spec.pools[].name`; the empty path is the root.
pub fn find<'a>(root: &'a mut JSONSchemaProps, path: &str) -> Option<&'a mut JSONSchemaProps> {
    let mut at = root;
    for step in path.split('.').filter(|s| !s.is_empty()) {
        let (name, into_items) = step.strip_suffix("[]").map_or((step, false), |name| (name, true));
        at = at.properties.as_mut()?.get_mut(name)?;
        if into_items {
            at = match at.items.as_mut()? {
                JSONSchemaPropsOrArray::Schema(items) => items,
                JSONSchemaPropsOrArray::Schemas(_) => return None,
            };
        }
    }
    Some(at)
}

/// Gives every text, list and map without a bound of its own a general one.
fn bound(schema: &mut JSONSchemaProps) {
    let is_int_or_string = schema.x_kubernetes_int_or_string == Some(true);
    match schema.type_.as_deref() {
        Some("string") if schema.enum_.is_none() && schema.format.as_deref() != Some("date-time") => {
            schema.max_length.get_or_insert(CHARS_MAX);
        }
        Some("array") => {
            schema.max_items.get_or_insert(ITEMS_MAX);
        }
        Some("object") if schema.additional_properties.is_some() => {
            schema.max_properties.get_or_insert(PROPERTIES_MAX);
        }
        _ => {}
    }
    if is_int_or_string {
        schema.max_length.get_or_insert(QUANTITY_CHARS_MAX);
        schema.pattern.get_or_insert_with(|| QUANTITY_PATTERN.to_owned());
        if schema
            .description
            .as_ref()
            .is_some_and(|d| d.len() > DESCRIPTION_CHARS_MAX)
        {
            schema.description = Some("Amount, as Kubernetes writes it: 500m, 1, 64Mi.".to_owned());
        }
    }
    if schema.default.is_some() {
        // The API server keeps a null where it may stand, and does not fill in the default: the operator could not read such an object, nor list any.
        schema.nullable = None;
    }
    for (name, child) in schema.properties.iter_mut().flatten() {
        if name == "message" {
            child.max_length.get_or_insert(CONDITION_MESSAGE_CHARS_MAX);
        }
        bound(child);
    }
    match schema.items.as_mut() {
        Some(JSONSchemaPropsOrArray::Schema(items)) => bound(items),
        Some(JSONSchemaPropsOrArray::Schemas(all)) => all.iter_mut().for_each(bound),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = schema.additional_properties.as_mut() {
        bound(values);
    }
}

/// The definition as YAML text, as it is committed and printed.
///
/// # Errors
/// If the definition cannot be written as YAML; it always can, but the library does not promise it.
pub fn to_yaml(crd: &CustomResourceDefinition) -> Result<String, serde_saphyr::ser_error::Error> {
    serde_saphyr::to_string(crd)
}
