//! Numbers on their way to the API server. One that is slow to be taken holds up the service that it is of: the looks go on, and what is decided of that
//! service meanwhile is decided anew when the write has come to an end. Others wait only where there are as many slow ones as there may be at a time.

use std::collections::BTreeMap;
use std::future::pending;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use kube::Client;
use tokio::sync::Semaphore;

use super::Step;
use super::refusals::{Failure, Refusals};
use crate::cluster::deletion_cost::{self, DeletionCost};
use crate::cluster::may_write::MayWrite;
use crate::cluster::scale;
use crate::domain::published::ServiceKey;
use crate::error::Error;
use crate::metrics::Metrics;

/// Writes at a time.
const WRITES_AT_ONCE: usize = 16;
/// Longest time of one write.
const WRITE_TIMEOUT: Duration = Duration::from_secs(3);
/// Costs of pods that are written at a time before a pool shrinks.
const COSTS_AT_ONCE: usize = 8;
/// Longest time of all of them: the shrink does not wait for more.
const COSTS_TIMEOUT: Duration = Duration::from_secs(2);

/// One number to be written.
pub(super) struct Write {
    pub(super) key: ServiceKey,
    pub(super) deployment: String,
    pub(super) uid: String,
    pub(super) step: Step,
    /// What is said of its pods before: which of them go first.
    pub(super) costs: Vec<DeletionCost>,
}

/// Writes one number.
pub(super) struct Writer {
    client: Client,
    may_write: MayWrite,
    metrics: Metrics,
    turns: Semaphore,
    limit: Duration,
}

type Outcome = (ServiceKey, Option<Failure>);

/// All numbers on their way, and what has become of those before.
pub(super) struct Writes<'w> {
    writer: &'w Writer,
    running: FuturesUnordered<BoxFuture<'w, Outcome>>,
    /// How many of each service.
    under_way: BTreeMap<ServiceKey, usize>,
    /// Those that have come to an end since the last look.
    ended: Vec<Outcome>,
    refusals: Refusals,
    /// What people are told, by service.
    problems: BTreeMap<ServiceKey, String>,
}

impl<'w> Writes<'w> {
    pub(super) fn of(writer: &'w Writer) -> Self {
        Self {
            writer,
            running: FuturesUnordered::new(),
            under_way: BTreeMap::new(),
            ended: Vec::new(),
            refusals: Refusals::default(),
            problems: BTreeMap::new(),
        }
    }

    /// Begins those of services that have none under way: others are decided anew when theirs has come to an end.
    pub(super) fn begin(&mut self, wanted: Vec<Write>) {
        let is_busy = |write: &Write| self.under_way.contains_key(&write.key);
        let wanted: Vec<Write> = wanted.into_iter().filter(|write| !is_busy(write)).collect();
        for write in wanted {
            *self.under_way.entry(write.key.clone()).or_default() += 1;
            self.running.push(Box::pin(self.writer.write(write)));
        }
    }

    /// Lets them go on until one has come to an end; for ever while there is none.
    pub(super) async fn go_on(&mut self) {
        let Some(outcome) = self.running.next().await else {
            return pending().await;
        };
        if let Some(left) = self.under_way.get_mut(&outcome.0) {
            *left -= 1;
            if *left == 0 {
                self.under_way.remove(&outcome.0);
            }
        }
        self.ended.push(outcome);
    }

    /// Lets those that have been sent come to an end, which each does within its limit. Nothing more can be written afterwards.
    pub(super) async fn finish(&mut self) {
        self.writer.turns.close();
        while !self.running.is_empty() {
            self.go_on().await;
        }
    }

    /// What there is to tell of each service, once a look: what was told stays while the next attempt is under way.
    pub(super) fn problems(&mut self) -> &BTreeMap<ServiceKey, String> {
        let under_way = &self.under_way;
        self.problems.retain(|key, _| under_way.contains_key(key));
        // The pools of a service are judged together, as they were begun.
        let (ended, still): (Vec<_>, Vec<_>) = std::mem::take(&mut self.ended)
            .into_iter()
            .partition(|(key, _)| !under_way.contains_key(key));
        self.ended = still;
        for (key, _) in &ended {
            self.problems.remove(key);
        }
        self.problems
            .extend(self.refusals.told(ended, |key| under_way.contains_key(key)));
        &self.problems
    }
}

impl Writer {
    pub(super) fn new(client: Client, may_write: MayWrite, metrics: Metrics) -> Self {
        Self {
            client,
            may_write,
            metrics,
            turns: Semaphore::new(WRITES_AT_ONCE),
            limit: WRITE_TIMEOUT,
        }
    }

    /// Writes one number; why it was not written, unless that is left to whoever leads.
    async fn write(&self, write: Write) -> Outcome {
        let Write {
            key,
            deployment,
            uid,
            step,
            costs,
        } = write;
        let Ok(_turn) = self.turns.acquire().await else {
            return (key, None);
        };
        if self.may_write.now() {
            self.say_who_goes_first(&key, costs).await;
        }
        // What has not been sent at the end is left to whoever leads next.
        if !self.may_write.now() || self.turns.is_closed() {
            return (key, None);
        }
        let scaling = scale::scale(&self.client, &key.namespace, &deployment, &uid, step.from, step.to);
        let failure = match tokio::time::timeout(self.limit, scaling).await {
            Ok(Ok(())) => {
                tracing::info!(service = %key, pool = step.pool, from = step.from, to = step.to, "scaled");
                self.metrics.wrote("scale", 1);
                None
            }
            Ok(Err(error)) => Some(Failure::of(&step, &error)),
            Err(_) => Some(Failure::Problem(format!(
                "scaling Deployment {}/{deployment} took longer than {:?}",
                key.namespace, self.limit
            ))),
        };
        (key, failure)
    }

    /// Writes the costs of pods. Those that cannot be written keep nothing from shrinking: others may go then, as without them.
    async fn say_who_goes_first(&self, key: &ServiceKey, costs: Vec<DeletionCost>) {
        let mut left = costs.len();
        let writing = futures::stream::iter(costs).map(|wanted| async move {
            if !self.may_write.now() {
                return Err(Error::NotLeader);
            }
            deletion_cost::set(&self.client, &key.namespace, &wanted).await
        });
        let mut writing = writing.buffer_unordered(COSTS_AT_ONCE);
        let end = tokio::time::Instant::now() + COSTS_TIMEOUT;
        let mut failure = None;
        while let Ok(Some(outcome)) = tokio::time::timeout_at(end, writing.next()).await {
            left -= 1;
            let outcome = match outcome {
                Ok(true) => "Ok",
                Ok(false) => "Conflict",
                Err(error) => {
                    let category = error.category();
                    failure = Some(error);
                    category
                }
            };
            self.metrics.costs_written(outcome, 1);
        }
        self.metrics.costs_written("Timeout", left);
        if let Some(error) = failure {
            tracing::warn!(service = %key, %error, "which pods go first is left to Kubernetes");
        } else if left > 0 {
            tracing::warn!(service = %key, left, "which pods go first is left to Kubernetes: the API server is slow");
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::json;
    use tokio::sync::watch;

    use super::*;
    use crate::cluster::may_write::Term;

    const LIMIT: Duration = Duration::from_secs(2);

    /// An API server that never answers about `silent-…`, forbids what is asked of `forbidden-…`, and takes what it is told of everything else.
    fn writer() -> Writer {
        let service = tower::service_fn(|request: Request<Body>| async move {
            if request.uri().path().contains("/silent-") {
                pending::<()>().await;
            }
            if request.uri().path().contains("/forbidden-") {
                let status = json!({"kind": "Status", "status": "Failure", "reason": "Forbidden", "message": "no right", "code": 403});
                let body = Body::from(serde_json::to_vec(&status)?);
                return Ok(Response::builder().status(403).body(body)?);
            }
            let scale = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "a"}, "spec": {"replicas": 3}});
            let body = Body::from(serde_json::to_vec(&scale)?);
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(Response::new(body))
        });
        let (_, term) = watch::channel(Term::Unlimited);
        Writer {
            limit: LIMIT,
            ..Writer::new(Client::new(service, "default"), MayWrite::new(term), Metrics::default())
        }
    }

    fn write(name: &str, to: i32) -> Write {
        Write {
            key: ServiceKey::new("demo", name),
            deployment: format!("{name}-cpu"),
            uid: "u".to_owned(),
            step: Step {
                pool: "cpu".to_owned(),
                from: 1,
                to,
            },
            costs: Vec::new(),
        }
    }

    #[tokio::test]
    async fn a_write_that_is_not_answered_holds_up_its_own_service_alone() {
        let writer = writer();
        let mut writes = Writes::of(&writer);
        let (silent, prompt) = (ServiceKey::new("demo", "silent"), ServiceKey::new("demo", "prompt"));
        let begun = tokio::time::Instant::now();
        for look in 0..3 {
            writes.begin(vec![write("silent", 3 + look), write("prompt", 3)]);
            // The prompt one; the silent one is the same as at the first look.
            writes.go_on().await;
            assert_eq!(writes.under_way.keys().collect::<Vec<_>>(), [&silent], "look {look}");
            assert_eq!(writes.running.len(), 1, "look {look}");
            assert!(writes.problems().is_empty());
        }

        writes.go_on().await;
        assert!(begun.elapsed() >= LIMIT);
        let told = writes.problems().clone();
        assert!(told[&silent].contains("took longer than 2s"), "{told:?}");
        assert!(!told.contains_key(&prompt));
        // What was told stays while it is tried again, and goes with a look that wants nothing.
        writes.begin(vec![write("silent", 3)]);
        assert_eq!(*writes.problems(), told);
        writes.go_on().await;
        assert_eq!(*writes.problems(), told);
        assert!(writes.problems().is_empty());
    }

    #[tokio::test]
    async fn no_more_are_sent_at_a_time_than_there_are_turns() {
        let writer = writer();
        let mut writes = Writes::of(&writer);
        let many = |more: usize| {
            let all = (0..WRITES_AT_ONCE + more).map(|number| Write {
                key: ServiceKey::new("demo", format!("s{number}")),
                ..write("silent", 3)
            });
            all.collect()
        };
        let begun = tokio::time::Instant::now();
        writes.begin(many(1));
        for _ in 0..=WRITES_AT_ONCE {
            writes.go_on().await;
        }
        assert!(begun.elapsed() >= 2 * LIMIT);
        assert_eq!(writes.problems().len(), WRITES_AT_ONCE + 1);

        // At the end those that wait for a turn are left to whoever leads next.
        writes.begin(many(3));
        let sent = tokio::time::timeout(LIMIT / 2, writes.go_on()).await;
        assert!(sent.is_err(), "none is answered");
        writes.finish().await;
        assert_eq!(writes.problems().len(), WRITES_AT_ONCE);
    }

    #[tokio::test]
    async fn what_is_told_of_one_pool_stays_while_another_of_its_service_is_slow() {
        let writer = writer();
        let mut writes = Writes::of(&writer);
        let of_pool = |deployment: &str| Write {
            deployment: deployment.to_owned(),
            ..write("two", 3)
        };
        let both = || vec![of_pool("forbidden-cpu"), of_pool("silent-gpu")];
        let mut told = Vec::new();
        for _ in 0..3 {
            writes.begin(both());
            // Two looks: the first when one pool has been refused, the second when the other has not been answered.
            for _ in 0..2 {
                writes.go_on().await;
                told.push(writes.problems().values().cloned().collect::<Vec<_>>().join("; "));
            }
        }
        let said: Vec<bool> = told.iter().map(|text| !text.is_empty()).collect();
        assert_eq!(said, [false, true, true, true, true, true], "{told:?}");
        assert!(told[1..].iter().all(|text| *text == told[1]), "{told:?}");
    }

    #[tokio::test]
    async fn at_the_end_a_write_that_is_still_at_its_pods_is_not_sent() {
        let writer = writer();
        let mut writes = Writes::of(&writer);
        let costs = vec![DeletionCost {
            pod: "silent-pod".to_owned(),
            uid: "p".to_owned(),
            cost: Some(-1),
        }];
        writes.begin(vec![Write {
            costs,
            ..write("silent", 1)
        }]);
        let begun = tokio::time::timeout(LIMIT / 4, writes.go_on()).await;
        assert!(begun.is_err(), "the pod is silent");
        writes.finish().await;
        assert!(writes.problems().is_empty(), "it was sent, and not answered");
    }
}
