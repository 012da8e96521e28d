//! Which model it is.
use tidewright_api::status::InferenceServiceStatus;

use crate::domain::observed::Observed;
use crate::domain::validated::Validated;

/// The one that the spec asks for, or else the one that is served, kept until all pods serve another. Of a changed spec the digest before says nothing,
/// unless its pods are seen to be on their way.
pub(super) fn of(service: &Validated, observed: &Observed, previous: &InferenceServiceStatus) -> Option<String> {
    let mut served = observed.digests.iter();
    let only = match (served.next(), served.next()) {
        (Some(only), None) => Some(only.clone()),
        _ => None,
    };
    let asked = service.model.digest.clone();
    let is_rolling = observed.digests.len() > 1;
    let is_same_spec = previous.observed_generation == Some(service.generation);
    let before = || previous.model.as_ref()?.digest.clone();
    asked
        .or(only)
        .or_else(|| before().filter(|_| is_rolling || is_same_spec))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::status::summarise;
    use crate::test_support::{inference_service, validated};

    #[test]
    fn the_digest_is_the_pinned_one_or_the_served_one_kept_while_two_are_served() {
        let name = |digit: &str| format!("sha256:{}", digit.repeat(64));
        let seen = |generation: i64, pinned: Option<&str>, served: &[&str], before: Option<&str>| {
            let model = json!({"digest": before.map(name), "transitionStatus": "UpToDate"});
            let spec = json!({"predictor": {"model": {"digest": pinned.map(name)}}});
            let status = json!({"observedGeneration": generation, "model": model});
            let object = inference_service(json!({"spec": spec, "status": status}));
            let observed = Observed {
                digests: served.iter().map(|digit| name(digit)).collect(),
                ..Observed::default()
            };
            let status = summarise(
                &object,
                &validated(json!({"spec": spec})),
                &observed,
                Timestamp::UNIX_EPOCH,
            );
            status.model.unwrap().digest
        };
        let generation = validated(json!({})).generation;
        let digest = |pinned, served: &[&str], before| seen(generation, pinned, served, before);
        assert_eq!(digest(None, &[], None), None);
        assert_eq!(digest(None, &["a"], None), Some(name("a")));
        assert_eq!(digest(Some("b"), &["a"], Some("a")), Some(name("b")));
        assert_eq!(digest(None, &[], Some("a")), Some(name("a")), "prometheus is down");
        assert_eq!(digest(None, &["a", "b"], Some("a")), Some(name("a")), "rolling out");
        assert_eq!(digest(None, &["b"], Some("a")), Some(name("b")));
        let changed = |served: &[&str]| seen(generation - 1, None, served, Some("a"));
        assert_eq!(changed(&[]), None, "another spec, perhaps another model");
        assert_eq!(changed(&["a", "b"]), Some(name("a")), "rolling out");
    }
}
