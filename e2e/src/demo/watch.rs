//! Looks at a service once a second: what its HorizontalPodAutoscaler decides and why, what is ready, what waits.
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Event;
use kube::api::ListParams;
use kube::{Api, Client};
use tidewright_api::{InferenceService, names};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::fixtures;
use crate::signals::multiple;

/// One look. Signals are per replica, as multiples of their targets: above 1 there are too few replicas.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    /// Since the first request.
    pub seconds: f64,
    pub desired: Option<i32>,
    pub ready: Option<i32>,
    pub queue: Option<f64>,
    pub request_rate: Option<f64>,
    pub cpu: Option<f64>,
    pub queue_depth: Option<f64>,
    /// Reason and message of the decision in the InferenceService's status.
    pub reason: String,
    pub message: String,
}

/// One decision of the HorizontalPodAutoscaler to scale up.
#[derive(Debug, Clone, PartialEq)]
pub struct ScaleUp {
    pub seconds: f64,
    /// Replicas that it asks for.
    pub replicas: i32,
    /// `RequestRate`, `CPU`, `QueueDepth`, or the event's own word.
    pub cause: String,
    /// The event, whole.
    pub message: String,
}

#[derive(Debug, Default)]
struct Seen {
    samples: Vec<Sample>,
    scale_ups: Vec<ScaleUp>,
    /// Occurrences of each event that are known.
    events: HashMap<String, i32>,
    last_error: Option<String>,
}

/// Looks that go on until the value is dropped.
#[derive(Debug)]
pub struct Watch {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

/// What is looked at.
struct Subject {
    client: Client,
    namespace: String,
    name: String,
    autoscaler: String,
    prometheus: SocketAddr,
    start: Instant,
}

impl Watch {
    /// Begins to look at the only pool of a service. Seconds count from `start`.
    pub async fn start(
        client: Client,
        namespace: &str,
        name: &str,
        prometheus: SocketAddr,
        start: Instant,
    ) -> Result<Self> {
        let autoscaler = names::pool(name, names::DEFAULT_POOL);
        let subject = Subject {
            client,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            autoscaler,
            prometheus,
            start,
        };
        let seen = Arc::new(Mutex::new(Seen::default()));
        // What happened before is no news.
        for (event, count, _) in subject.rescales().await? {
            lock(&seen).events.insert(event, count);
        }
        let task = tokio::spawn({
            let seen = seen.clone();
            async move {
                let mut ticks = interval(Duration::from_secs(1));
                ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
                loop {
                    ticks.tick().await;
                    let outcome = tokio::time::timeout(Duration::from_secs(5), subject.look(&seen)).await;
                    let mut seen = lock(&seen);
                    seen.last_error = match outcome {
                        Ok(Ok(())) => None,
                        Ok(Err(error)) => Some(format!("{error:#}")),
                        Err(_) => Some("a look took more than 5 s".to_owned()),
                    };
                }
            }
        });
        Ok(Self { seen, task })
    }

    /// The newest look.
    pub fn last(&self) -> Sample {
        lock(&self.seen).samples.last().cloned().unwrap_or_default()
    }

    pub fn samples(&self) -> Vec<Sample> {
        lock(&self.seen).samples.clone()
    }

    pub fn scale_ups(&self) -> Vec<ScaleUp> {
        lock(&self.seen).scale_ups.clone()
    }

    /// Why the last look failed, if it did.
    pub fn last_error(&self) -> Option<String> {
        lock(&self.seen).last_error.clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Subject {
    async fn look(&self, seen: &Mutex<Seen>) -> Result<()> {
        let autoscalers: Api<HorizontalPodAutoscaler> = Api::namespaced(self.client.clone(), &self.namespace);
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), &self.namespace);
        let services: Api<InferenceService> = Api::namespaced(self.client.clone(), &self.namespace);
        let queue = format!(
            "sum(ml_queue_depth{{namespace=\"{}\",inferenceservice=\"{}\"}})",
            self.namespace, self.name
        );
        let (autoscaler, deployment, service, queue, events) = tokio::join!(
            autoscalers.get(&self.autoscaler),
            deployments.get(&self.autoscaler),
            services.get(&self.name),
            fixtures::query(self.prometheus, &queue),
            self.rescales(),
        );
        let (autoscaler, deployment, service) = (autoscaler?, deployment?, service?);
        let decision = service
            .status
            .and_then(|status| status.pools.into_iter().next())
            .and_then(|pool| pool.decision);
        let (reason, message) = decision.map_or_else(Default::default, |decision| (decision.reason, decision.message));
        let seconds = self.start.elapsed().as_secs_f64();
        let sample = Sample {
            seconds,
            // 0 until it has decided for the first time.
            desired: autoscaler
                .status
                .as_ref()
                .map(|status| status.desired_replicas)
                .filter(|desired| *desired > 0),
            ready: Some(deployment.status.and_then(|status| status.ready_replicas).unwrap_or(0)),
            queue: queue.ok().flatten(),
            request_rate: multiple(&autoscaler, "request_rate"),
            cpu: multiple(&autoscaler, "cpu"),
            queue_depth: multiple(&autoscaler, "queue_depth"),
            reason,
            message,
        };
        let events = events?;
        let mut seen = lock(seen);
        seen.samples.push(sample);
        for (event, count, message) in events {
            let known = seen.events.insert(event, count).unwrap_or(0);
            if count > known
                && let Some((replicas, cause)) = scale_up(&message)
            {
                seen.scale_ups.push(ScaleUp {
                    seconds,
                    replicas,
                    cause,
                    message,
                });
            }
        }
        Ok(())
    }

    /// (name, occurrences, message) of the events with which the HorizontalPodAutoscaler controller reports new sizes.
    async fn rescales(&self) -> Result<Vec<(String, i32, String)>> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let selector = format!(
            "involvedObject.kind=HorizontalPodAutoscaler,involvedObject.name={},reason=SuccessfulRescale",
            self.autoscaler
        );
        let list = events.list(&ListParams::default().fields(&selector)).await?;
        let one = |event: Event| {
            let count = event
                .count
                .or(event.series.and_then(|series| series.count))
                .unwrap_or(1);
            (
                event.metadata.name.unwrap_or_default(),
                count,
                event.message.unwrap_or_default(),
            )
        };
        Ok(list.items.into_iter().map(one).collect())
    }
}

/// Reads `New size: 3; reason: InferenceService metric request_rate above target`; None for scaling down.
fn scale_up(message: &str) -> Option<(i32, String)> {
    // After ten of them, Kubernetes writes further ones into one event.
    let message = message
        .strip_prefix("(combined from similar events): ")
        .unwrap_or(message);
    let (size, reason) = message.strip_prefix("New size: ")?.split_once("; reason: ")?;
    let cause = reason.strip_suffix(" above target")?;
    let word = match cause {
        _ if cause.contains("request_rate") => "RequestRate",
        _ if cause.contains("queue_depth") => "QueueDepth",
        _ if cause.starts_with("cpu ") => "CPU",
        other => other,
    };
    Some((size.parse().ok()?, word.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_the_controller_name_the_cause() {
        let read = |message: &str| scale_up(message).map(|(replicas, cause)| format!("{replicas} {cause}"));
        assert_eq!(
            read("New size: 3; reason: InferenceService metric request_rate above target").as_deref(),
            Some("3 RequestRate")
        );
        assert_eq!(
            read("New size: 4; reason: InferenceService metric queue_depth above target").as_deref(),
            Some("4 QueueDepth")
        );
        let cpu = "New size: 2; reason: cpu container resource utilization (percentage of request) above target";
        assert_eq!(read(cpu).as_deref(), Some("2 CPU"));
        assert_eq!(
            read(&format!("(combined from similar events): {cpu}")).as_deref(),
            Some("2 CPU")
        );
        assert_eq!(read("New size: 1; reason: All metrics below target"), None);
        assert_eq!(read("something else"), None);
    }
}
