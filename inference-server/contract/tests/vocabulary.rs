//! The metric and route vocabularies are consistent: names follow Prometheus' rules, nothing stands twice.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;

use tidewright_contract::exit::{Reason, TerminationMessage};
use tidewright_contract::metrics::{self, Kind};
use tidewright_contract::routes;
use tidewright_contract::signals::{self, Signals};

#[test]
fn names_are_unique_and_carry_the_suffix_of_their_kind() {
    let mut names = HashSet::new();
    for metric in metrics::ALL {
        assert!(names.insert(metric.name), "{} stands twice", metric.name);
        assert_eq!(
            metric.kind == Kind::Counter,
            metric.name.ends_with("_total"),
            "{}",
            metric.name
        );
        assert!(
            metric
                .name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
            "{}",
            metric.name
        );
        assert!(!metric.registered_name().ends_with("_total"), "{}", metric.name);
        assert!(!metric.help.is_empty());
    }
}

#[test]
fn route_templates_are_unique() {
    let routes: HashSet<_> = routes::ALL.into_iter().collect();
    assert_eq!(routes.len(), routes::ALL.len());
}

#[test]
fn golden_of_the_termination_message() {
    let message = TerminationMessage {
        reason: Reason::DigestMismatch,
        message: "the file has another digest".to_owned(),
        model: Some("digits".to_owned()),
    };
    let text = r#"{"reason":"DigestMismatch","message":"the file has another digest","model":"digits"}"#;
    assert_eq!(serde_json::to_string(&message).unwrap(), text);
    assert_eq!(serde_json::from_str::<TerminationMessage>(text).unwrap(), message);
    assert_eq!(message.reason.as_str(), "DigestMismatch");
    assert_eq!(message.reason.exit_code(), 4);
}

#[test]
fn golden_of_the_signals() {
    let signals = Signals {
        version: signals::VERSION,
        process: 1_800_000_000_000,
        arrivals: 9,
        completions: 7,
        service_seconds: 0.5,
        queued: 1,
        in_flight: 2,
    };
    let text = r#"{"version":1,"process":1800000000000,"arrivals":9,"completions":7,"serviceSeconds":0.5,"queued":1,"inFlight":2}"#;
    assert_eq!(serde_json::to_string(&signals).unwrap(), text);
    let with_more = text.replace('{', r#"{"later":[1],"#);
    assert_eq!(serde_json::from_str::<Signals>(&with_more).unwrap(), signals);
}

#[test]
fn the_readme_names_every_metric_and_reason() {
    let readme = include_str!("../../README.md");
    for metric in metrics::ALL {
        assert!(
            readme.contains(&format!("`{}`", metric.name)),
            "{} is not in the README",
            metric.name
        );
    }
    for reason in [
        Reason::InvalidConfig,
        Reason::ModelNotFound,
        Reason::DigestMismatch,
        Reason::ModelLoadFailed,
        Reason::UnsupportedOperator,
        Reason::ModelTooLarge,
        Reason::UnsafeExternalData,
        Reason::UnsupportedModel,
        Reason::WarmupFailed,
        Reason::ProviderUnavailable,
        Reason::RuntimeUnavailable,
    ] {
        assert!(
            readme.contains(&format!("`{}`", reason.as_str())),
            "{} is not in the README",
            reason.as_str()
        );
    }
}
