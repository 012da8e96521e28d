//! Every change of a Deployment's replicas with the time of it, by a watch.
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, Client};
use kube_runtime::{WatchStreamExt as _, watcher};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

/// Until what there is has been listed.
const FIRST_LOOK: Duration = Duration::from_secs(10);

/// What a Deployment wants and has, since an instant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Replicas {
    pub at: Instant,
    /// `spec.replicas`: what was decided.
    pub wanted: i32,
    pub ready: i32,
}

/// Every state of a Deployment, in order, by a watch: nothing between two looks is missed.
#[derive(Debug)]
pub struct ReplicaWatch {
    first: Replicas,
    states: watch::Receiver<Vec<Replicas>>,
    _task: Ending,
}

/// Ends with its owner.
#[derive(Debug)]
struct Ending(JoinHandle<()>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl ReplicaWatch {
    /// Begins with the present state.
    pub async fn start(client: &Client, namespace: &str, deployment: &str) -> Result<Self> {
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
        let (sender, mut states) = watch::channel(Vec::new());
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
        let task = Ending(task);
        let looked = tokio::time::timeout(FIRST_LOOK, states.wait_for(|all| !all.is_empty())).await;
        let first = looked.ok().and_then(Result::ok).and_then(|all| all.first().copied());
        let first = first.with_context(|| format!("no first look at Deployment {namespace}/{deployment}"))?;
        Ok(Self {
            first,
            states,
            _task: task,
        })
    }

    pub fn all(&self) -> Vec<Replicas> {
        self.states.borrow().clone()
    }

    pub fn last(&self) -> Replicas {
        self.states.borrow().last().copied().unwrap_or(self.first)
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
            let since = all.get(start..).unwrap_or_default();
            if let Some(found) = since.iter().find(|state| satisfies(**state)) {
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
