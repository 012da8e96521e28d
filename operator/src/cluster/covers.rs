//! Whether an object as it is has everything that we want of it. Pure.
//!
//! The API server fills in defaults, others own fields of their own: what it has and we do not want is no difference. What we wanted once and
//! no longer do shows in the hash of what was applied, which is one of the fields that we want.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube_quantity::ParsedQuantity;
use serde_json::Value;

/// Whether `live` has every field of `wanted`, with an equal value.
pub fn covers(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => wanted.iter().all(|(key, want)| match live.get(key) {
            Some(have) => covers(have, want),
            None => is_empty(want),
        }),
        (Value::Array(live), Value::Array(wanted)) => match by_name(live, wanted) {
            Some(pairs) => pairs.into_iter().all(|(have, want)| covers(have, want)),
            None => live.len() == wanted.len() && live.iter().zip(wanted).all(|(have, want)| covers(have, want)),
        },
        (Value::String(live), Value::String(wanted)) => live == wanted || same_amount(live, wanted),
        _ => live == wanted,
    }
}

/// Items of a list that the API server merges by name (containers, their environment, volumes, ports): each wanted one with the live one of its
/// name. An item that somebody else added is none of ours: applying would leave it there, every time anew.
fn by_name<'a>(live: &'a [Value], wanted: &'a [Value]) -> Option<Vec<(&'a Value, &'a Value)>> {
    let name = |item: &'a Value| item.get("name").and_then(Value::as_str);
    if wanted.is_empty() {
        return None;
    }
    wanted
        .iter()
        .map(|want| {
            let named = name(want)?;
            Some((live.iter().find(|have| name(have) == Some(named))?, want))
        })
        .collect()
}

/// The API server drops what is empty.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.values().all(is_empty),
        Value::Array(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The API server writes amounts in its own way: 1000m as 1.
fn same_amount(a: &str, b: &str) -> bool {
    let parse = |text: &str| {
        ParsedQuantity::try_from(Quantity(text.to_owned()))
            .ok()
            .and_then(|q| q.to_bytes_f64())
    };
    matches!((parse(a), parse(b)), (Some(a), Some(b)) if (a - b).abs() <= f64::EPSILON * a.abs())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::covers;

    #[test]
    fn defaults_and_foreign_fields_are_no_difference() {
        let live = json!({"spec": {"replicas": 3, "paused": false, "cpu": "1", "args": ["--save", ""]}, "status": {}});
        assert!(covers(
            &live,
            &json!({"spec": {"cpu": "1000m", "args": ["--save", ""], "labels": {}}})
        ));
    }

    #[test]
    fn items_that_others_add_to_a_list_of_names_are_no_difference() {
        let live = json!([{"name": "a", "value": "1"}, {"name": "other"}, {"name": "b", "value": ""}]);
        assert!(covers(&live, &json!([{"name": "b"}, {"name": "a", "value": "1"}])));
        assert!(!covers(&live, &json!([{"name": "a", "value": "2"}])));
        assert!(!covers(&live, &json!([{"name": "c"}])));
    }

    #[test]
    fn a_changed_missing_or_longer_value_is_one() {
        let live = json!({"a": 1, "list": [1, 2], "text": "x"});
        assert!(!covers(&live, &json!({"a": 2})));
        assert!(!covers(&live, &json!({"b": 1})));
        assert!(!covers(&live, &json!({"list": [1]})));
        assert!(!covers(&live, &json!({"text": "y"})));
    }
}
