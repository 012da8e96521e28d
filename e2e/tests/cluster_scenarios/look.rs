//! Looking at a service: its conditions, its decision, and what was sent to it.
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use kube::{Api, Client};
use tidewright_api::InferenceService;
use tidewright_api::status::DecisionStatus;
pub use tidewright_e2e::conditions::{await_reason, condition};
use tidewright_e2e::fixtures::{self, Scenario};
use tidewright_e2e::load::Report;
pub use tidewright_e2e::replicas::ReplicaWatch;
use tidewright_e2e::wait::{Seen, await_condition};

/// Waits until events of these reasons tell of the service, as `kubectl describe` and `kubectl events` show them.
pub async fn await_events(client: &Client, scenario: &Scenario, reasons: &[&str], deadline: Duration) -> Result<()> {
    let events: Api<Event> = Api::namespaced(client.clone(), &scenario.namespace);
    let of_service = ListParams::default().fields(&format!(
        "regarding.kind=InferenceService,regarding.name={}",
        scenario.name
    ));
    await_condition(&format!("events {reasons:?}"), deadline, || async {
        let all = events.list(&of_service).await?.items;
        let told: Vec<&str> = all.iter().filter_map(|event| event.reason.as_deref()).collect();
        Ok(if reasons.iter().all(|reason| told.contains(reason)) {
            Seen::Done(())
        } else {
            Seen::not_yet(format!("{told:?}"))
        })
    })
    .await
}

/// The decision about the only pool.
pub fn decision(service: &InferenceService) -> Option<DecisionStatus> {
    service.status.as_ref()?.pools.first()?.decision.clone()
}

/// Waits until the decision about the only pool has a reason.
pub async fn await_decision(
    client: &Client,
    scenario: &Scenario,
    reason: &str,
    deadline: Duration,
) -> Result<DecisionStatus> {
    let what = format!("the decision about {} to be by {reason}", scenario.name);
    await_condition(&what, deadline, || async {
        let service = scenario.api(client).get(&scenario.name).await?;
        Ok(match decision(&service) {
            Some(decision) if decision.reason == reason => Seen::Done(decision),
            other => Seen::not_yet(format!("{other:?}; {}", fixtures::conditions(&service))),
        })
    })
    .await
}

/// What one signal proposes, in a decision's sentence.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    /// As `26.7 req/s / 10 per replica`.
    pub text: String,
    pub replicas: Option<i32>,
    pub wins: bool,
}

/// Reads `CPU 3 % of 70 % → 1; 26.7 req/s / 10 per replica → 3 (winner); at most 3`.
pub fn proposals(message: &str) -> Vec<Proposal> {
    let parts = message.split("; ").filter(|part| !part.starts_with("at "));
    parts
        .map(|part| {
            let (text, wins) = part
                .strip_suffix(" (winner)")
                .map_or((part, false), |text| (text, true));
            let (text, replicas) = text
                .split_once(" → ")
                .map_or((text, None), |(text, replicas)| (text, replicas.parse().ok()));
            Proposal {
                text: text.to_owned(),
                replicas,
                wins,
            }
        })
        .collect()
}

/// Waits until the winner of the only pool's decision is the signal whose part contains `text`, and proposes so many replicas. All proposals.
///
/// The sentence is of the instant of the decision: a value that swung for a moment is gone from it with the next decision.
pub async fn await_winner(
    client: &Client,
    scenario: &Scenario,
    (text, replicas): (&str, i32),
    deadline: Duration,
) -> Result<Vec<Proposal>> {
    let what = format!("{text:?} to win with {replicas}");
    await_condition(&what, deadline, || async {
        let service = scenario.api(client).get(&scenario.name).await?;
        let message = decision(&service).context("no decision")?.message;
        let all = proposals(&message);
        let mut winners = all.iter().filter(|proposal| proposal.wins);
        let is_so = winners
            .next()
            .is_some_and(|winner| winner.text.contains(text) && winner.replicas == Some(replicas))
            && winners.next().is_none();
        Ok(if is_so { Seen::Done(all) } else { Seen::not_yet(message) })
    })
    .await
}

/// Every request was answered, and rightly.
pub fn assert_nothing_failed(report: &Report) -> Result<()> {
    let totals = &report.totals;
    ensure!(
        totals.failed() == 0 && totals.wrong == 0 && totals.due == totals.ok && totals.ok > 0,
        "{totals:?}, first failures: {:?}",
        report.failures
    );
    Ok(())
}
