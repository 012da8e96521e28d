//! The conditions of an InferenceService, and waiting for one.
use std::time::Duration;

use anyhow::Result;
use kube::Client;
use tidewright_api::InferenceService;

use crate::fixtures::{self, Scenario};
use crate::wait::{Seen, await_condition};

/// Status, reason and message of a condition.
pub fn condition(service: &InferenceService, kind: &str) -> Option<(String, String, String)> {
    let conditions = &service.status.as_ref()?.conditions;
    let found = conditions.iter().find(|condition| condition.type_ == kind)?;
    Some((found.status.clone(), found.reason.clone(), found.message.clone()))
}

/// Waits until a condition of the present generation has a status and a reason. Its message.
pub async fn await_reason(
    client: &Client,
    scenario: &Scenario,
    (kind, status, reason): (&str, &str, &str),
    deadline: Duration,
) -> Result<String> {
    let what = format!("{kind}={status} {reason} of {}", scenario.name);
    await_condition(&what, deadline, || async {
        let service = scenario.api(client).get(&scenario.name).await?;
        let is_current =
            service.status.as_ref().and_then(|status| status.observed_generation) == service.metadata.generation;
        Ok(match condition(&service, kind) {
            Some((s, r, message)) if is_current && s == status && r == reason => Seen::Done(message),
            _ => Seen::not_yet(fixtures::conditions(&service)),
        })
    })
    .await
}
