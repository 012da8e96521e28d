//! Looking at a service: its conditions, its decision, and every change of its replicas with the time of it.
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use kube::{Api, Client};
use kube_runtime::{WatchStreamExt as _, watcher};
use tidewright_api::InferenceService;
use tidewright_api::status::DecisionStatus;
use tidewright_e2e::fixtures::{self, Scenario};
use tidewright_e2e::load::Report;
use tidewright_e2e::wait::{Seen, await_condition};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

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

/// What a Deployment wants and has, since an instant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Replicas {
    pub at: Instant,
    /// `spec.replicas`: what was decided.
    pub wanted: i32,
    pub ready: i32,
}

/// Every state of a Deployment, in order, by a watch: nothing between two looks is missed.
pub struct ReplicaWatch {
    states: watch::Receiver<Vec<Replicas>>,
    task: JoinHandle<()>,
}

impl Drop for ReplicaWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ReplicaWatch {
    /// Begins with the present state.
    pub async fn start(client: &Client, namespace: &str, deployment: &str) -> Result<Self> {
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
        let (sender, states) = watch::channel(Vec::new());
        let configuration = watcher::Config::default().fields(&format!("metadata.name={deployment}"));
        let task = tokio::spawn(async move {
            let mut stream = std::pin::pin!(watcher(deployments, configuration).default_backoff().applied_objects());
            while let Some(event) = stream.next().await {
                let Ok(deployment) = event else { continue };
                let ready = deployment.status.and_then(|status| status.ready_replicas).unwrap_or(0);
                let state = Replicas {
                    at: Instant::now(),
                    wanted: deployment.spec.replicas.unwrap_or(1),
                    ready,
                };
                sender.send_modify(|all| all.push(state));
            }
        });
        let replicas = Self { states, task };
        replicas
            .reach("a first look", Duration::from_secs(10), |_| true)
            .await?;
        Ok(replicas)
    }

    pub fn all(&self) -> Vec<Replicas> {
        self.states.borrow().clone()
    }

    pub fn last(&self) -> Replicas {
        self.all().pop().expect("the first look is waited for")
    }

    /// What was wanted, without repetitions.
    pub fn wanted(&self) -> Vec<Replicas> {
        let mut all = self.all();
        all.dedup_by_key(|state| state.wanted);
        all
    }

    /// The first state since `from` that satisfies, past or to come: the one in force at `from` counts too. None at the deadline.
    async fn find(
        &self,
        from: Instant,
        deadline: Duration,
        satisfies: impl Fn(Replicas) -> bool,
    ) -> Result<Option<Replicas>> {
        let mut states = self.states.clone();
        let end = Instant::now() + deadline;
        loop {
            states.mark_unchanged();
            let all = self.all();
            // The last one before `from` goes on until the next.
            let start = all.partition_point(|state| state.at <= from).saturating_sub(1);
            if let Some(found) = all[start..].iter().find(|state| satisfies(**state)) {
                return Ok(Some(*found));
            }
            match timeout_at(end, states.changed()).await {
                Ok(changed) => changed.context("the watch has ended")?,
                Err(_) => return Ok(None),
            }
        }
    }

    /// Waits for the first state since `from` that satisfies, the one in force at `from` included.
    pub async fn first_since(
        &self,
        from: Instant,
        what: &str,
        deadline: Duration,
        satisfies: impl Fn(Replicas) -> bool,
    ) -> Result<Replicas> {
        let found = self.find(from, deadline, satisfies).await?;
        found.with_context(|| {
            let seconds = deadline.as_secs_f64();
            format!("waited {seconds:.0} s for {what}; seen: {}", self.story(from))
        })
    }

    /// The first state from the present one on that satisfies.
    pub async fn reach(
        &self,
        what: &str,
        deadline: Duration,
        satisfies: impl Fn(Replicas) -> bool,
    ) -> Result<Replicas> {
        self.first_since(Instant::now(), what, deadline, satisfies).await
    }

    /// Fails as soon as other than `wanted` replicas are wanted within `duration`.
    pub async fn stays(&self, wanted: i32, duration: Duration) -> Result<()> {
        let from = Instant::now();
        let other = self.find(from, duration, |state| state.wanted != wanted).await?;
        ensure!(
            other.is_none(),
            "other than {wanted} replicas wanted: {}",
            self.story(from)
        );
        Ok(())
    }

    /// For failures.
    pub fn story(&self, from: Instant) -> String {
        let one = |state: &Replicas| {
            let seconds = state.at.saturating_duration_since(from).as_secs_f64();
            format!("{}/{} at {seconds:.1} s", state.ready, state.wanted)
        };
        self.all().iter().map(one).collect::<Vec<_>>().join(", ")
    }
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
