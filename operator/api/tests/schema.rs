//! What every part of the schema must have: a description, a bound, a place for each rule; and the whole must stay small.

#![allow(clippy::unwrap_used, clippy::panic)]

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use tidewright_api::crd::{all_crds, find};
use tidewright_api::rules::{RULES, TARGET_PATHS};

/// `kubectl apply` keeps the whole object in an annotation, and annotations may have 256 KiB.
const CRD_BYTES_MAX: usize = 256 * 1024;

fn root() -> JSONSchemaProps {
    all_crds()
        .remove(0)
        .spec
        .versions
        .remove(0)
        .schema
        .unwrap()
        .open_api_v3_schema
        .unwrap()
}

fn walk(path: &str, schema: &JSONSchemaProps, visit: &mut impl FnMut(&str, &JSONSchemaProps)) {
    visit(path, schema);
    for (name, child) in schema.properties.iter().flatten() {
        walk(&format!("{path}.{name}"), child, visit);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        walk(&format!("{path}[]"), items, visit);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &schema.additional_properties {
        walk(&format!("{path}{{}}"), values, visit);
    }
}

#[test]
fn each_rule_has_its_place() {
    let mut root = root();
    for path in RULES.iter().map(|r| r.path).chain(TARGET_PATHS) {
        let found = find(&mut root, path).unwrap_or_else(|| panic!("no schema at {path}"));
        assert!(
            found.x_kubernetes_validations.as_ref().is_some_and(|v| !v.is_empty()),
            "no rule at {path}"
        );
    }
}

#[test]
fn each_field_is_described() {
    walk("", &root(), &mut |path, schema| {
        let is_field = !path.is_empty() && !path.ends_with("[]") && !path.ends_with("{}") && path.contains('.');
        let is_root_of_kind = matches!(path, ".spec" | ".status");
        if is_field && !is_root_of_kind {
            assert!(
                schema.description.as_ref().is_some_and(|d| d.len() > 5),
                "{path} has no description"
            );
        }
    });
}

#[test]
fn each_field_is_bounded() {
    walk("", &root(), &mut |path, schema| {
        let bounded = match schema.type_.as_deref() {
            Some("string") => {
                schema.max_length.is_some() || schema.enum_.is_some() || schema.format.as_deref() == Some("date-time")
            }
            Some("array") => schema.max_items.is_some(),
            Some("object") => schema.additional_properties.is_none() || schema.max_properties.is_some(),
            Some("integer")
                if path.starts_with(".spec.predictor.affinity") || path.starts_with(".spec.pools[].affinity") =>
            {
                true
            }
            Some("integer")
                if path.starts_with(".spec") && !path.contains("toleration") && !path.contains("behavior") =>
            {
                schema.minimum.is_some() && schema.maximum.is_some()
            }
            _ => true,
        };
        assert!(bounded, "{path} has no bound");
        assert!(
            schema.x_kubernetes_preserve_unknown_fields.is_none(),
            "{path} takes unknown fields"
        );
        assert!(
            schema.type_.is_some() || schema.x_kubernetes_int_or_string == Some(true),
            "{path} has no type: the schema would not be structural"
        );
    });
}

#[test]
fn the_definition_fits_an_annotation() {
    for crd in all_crds() {
        let bytes = serde_json::to_string(&crd).unwrap().len();
        assert!(bytes < CRD_BYTES_MAX, "{bytes} bytes");
    }
}
