//! What a decision looks at, from caches and published readings. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use kube::ResourceExt;
use tidewright_api::labels;
use tidewright_scaling::observation::{
    Absence, Observations, Phase, Pod as SeenPod, PoolView, Reading, Sample, ServiceTime,
};
use tidewright_scaling::units::{Moment, Raw};

use super::plan::{Plan, Times};
use super::signals::{Source, Use, Via};
use crate::domain::published::{self, Reason, Signal};
use crate::pods::Figures;

/// Variability of service times where only their sum is known: between constant (0) and exponential (1).
const SERVICE_SCV: f64 = 0.25;
/// Seconds of a request that its server does not see: the connection, HTTP, the kernel. Without them a model of some microseconds
/// would seem to need nothing.
const UNSEEN_SECONDS: f64 = 0.000_2;
/// Seconds from the start of a container to ready that can be a start. What took longer had been ready before.
const START_SECONDS_MAX: f64 = 600.0;

/// What the pods of a service said in this round, by pool; nothing where they are not asked.
pub type Said = BTreeMap<String, Figures>;

/// What is seen of a service, from `read` (Prometheus), from what its servers have `used` and from what its pods `said`; `None` while a Deployment of it,
/// or its number of replicas, is unknown: then there is nothing to decide from. The same holds for a decision that nobody has asked for, where nothing is
/// measured.
pub fn observe(
    plan: &Plan,
    times: &Times,
    read: impl Fn(&Source) -> published::Reading,
    used: impl Fn(&Use) -> Reading,
    deployments: &BTreeMap<String, Arc<Deployment>>,
    pods: &[Arc<Pod>],
    said: &Said,
) -> Option<Observations> {
    let pools = plan.policy.pools.iter().map(|pool| {
        view(
            plan,
            deployments.get(&pool.name)?,
            &pool.name,
            pods,
            said.get(&pool.name),
        )
    });
    let signals = plan.sources.iter().map(|source| match source.via {
        Via::Prometheus => reading(source, read(source), times),
        Via::Pods => heard(plan, source, said),
    });
    let mut signals: Vec<Reading> = signals.collect();
    let is_read = signals.iter().any(|signal| *signal != Err(Absence::NotAsked));
    let used: Vec<Reading> = plan.uses.iter().map(used).collect();
    // That a cluster is without metrics-server its own autoscaler tells.
    let nobody = [Err(Absence::NotAsked), Err(Absence::QueryFailed)];
    if plan.is_unasked && !is_read && used.iter().all(|used| nobody.contains(used)) {
        return None;
    }
    signals.extend(used);
    Some(Observations {
        signals,
        pools: pools.collect::<Option<_>>()?,
        ..Observations::default()
    })
}

/// A moment of the decision's own clock.
pub fn moment(at: Timestamp) -> Moment {
    Moment::from_millis(u64::try_from(at.as_millisecond()).unwrap_or_default())
}

/// The time of such a moment; none beyond the calendar.
pub fn timestamp(at: Moment) -> Option<Timestamp> {
    Timestamp::from_millisecond(i64::try_from(at.as_millis()).ok()?).ok()
}

fn reading(source: &Source, reading: published::Reading, times: &Times) -> Reading {
    let sample = reading.map_err(|unavailable| absence(unavailable.reason))?;
    let is_rate = source.signal == Signal::RequestRate;
    Ok(Sample {
        value: Raw(sample.value),
        at: moment(sample.at),
        window_seconds: if is_rate { times.rate_window.as_secs_f64() } else { 0.0 },
        // The metrics source has judged how much of the pool it was taken from, and has made up for what was missing.
        targets_up: 1,
        targets_all: 1,
        targets_covered: is_rate.then_some(1),
    })
}

/// What the pods of one pool, or of all of them, say. One that does not answer makes it partial.
fn heard(plan: &Plan, source: &Source, said: &Said) -> Reading {
    let is_rate = source.signal == Signal::RequestRate;
    let of_pools = said
        .iter()
        .filter(|(pool, _)| source.pool.as_ref().is_none_or(|of| of == *pool))
        .map(|(_, figures)| figures);
    let (mut value, mut at) = (0.0, None);
    let (mut up, mut all, mut covered) = (0, 0, 0);
    for figures in of_pools {
        value += match source.signal {
            Signal::RequestRate => figures.rate,
            Signal::Concurrency => figures.concurrency,
            // External ones are not asked for here.
            Signal::QueueDepth | Signal::External(_) => figures.queued,
        };
        at = at.into_iter().chain(figures.at).min();
        up += figures.up;
        all += figures.all;
        covered += figures.covered;
    }
    match at {
        _ if all == 0 => Err(Absence::NoTargets),
        None => Err(Absence::QueryFailed),
        Some(at) => Ok(Sample {
            value: Raw(value),
            at: moment(at),
            window_seconds: plan.asks_window.map_or(0.0, |window| window.as_secs_f64()),
            targets_up: up,
            targets_all: all,
            targets_covered: is_rate.then_some(covered),
        }),
    }
}

fn absence(reason: Reason) -> Absence {
    match reason {
        Reason::NotYetRead | Reason::NotConfigured | Reason::Unknown => Absence::NotAsked,
        Reason::NoReadyPods | Reason::NoTargets => Absence::NoTargets,
        Reason::WarmingUp
        | Reason::WindowNotFilled
        | Reason::NoSamples
        | Reason::StaleSamples
        | Reason::PartialTargets
        | Reason::DuplicateTargets => Absence::SeriesMissing,
        Reason::Ambiguous | Reason::NotFinite | Reason::Negative | Reason::Implausible => Absence::Invalid,
        Reason::SourceStalled
        | Reason::PrometheusUnreachable
        | Reason::PrometheusTimeout
        | Reason::PrometheusForbidden
        | Reason::PrometheusThrottled
        | Reason::PrometheusRedirected
        | Reason::PrometheusError
        | Reason::AnswerTooLarge
        | Reason::AnswerMalformed
        | Reason::AnswerPartial
        | Reason::ClockSkew
        | Reason::QueryRefused => Absence::QueryFailed,
    }
}

fn view(
    plan: &Plan,
    deployment: &Deployment,
    pool: &str,
    pods: &[Arc<Pod>],
    said: Option<&Figures>,
) -> Option<PoolView> {
    let replicas = deployment.spec.replicas?;
    let in_flight = |pod: &Pod| -> Option<u32> {
        let of_pods = said.filter(|_| plan.counts_in_flight)?;
        of_pods.in_flight.get(pod.metadata.uid.as_ref()?).copied()
    };
    Some(PoolView {
        replicas: u32::try_from(replicas).ok()?,
        pods: pods
            .iter()
            .filter(|pod| pod.labels().get(labels::POOL).is_some_and(|of| of == pool))
            .filter_map(|pod| seen(pod, in_flight(pod)))
            .collect(),
        // Where a replica takes any number of requests at a time, those of a batch or in parallel share its seconds: the time of one does not say how
        // many it can do.
        service: said
            .filter(|said| plan.counts_in_flight && said.completions > 0)
            .map(|said| ServiceTime {
                mean_seconds: said.service_seconds / said.completions as f64 + UNSEEN_SECONDS,
                scv: SERVICE_SCV,
                completions: said.completions,
            }),
    })
}

/// A condition of a pod.
pub fn condition<'p>(pod: &'p Pod, kind: &str) -> Option<&'p PodCondition> {
    let all = pod.status.as_ref()?.conditions.as_ref()?;
    all.iter().find(|condition| condition.type_ == kind)
}

fn ready(pod: &Pod) -> Option<&PodCondition> {
    condition(pod, "Ready").filter(|condition| condition.status == "True")
}

/// What a pod is doing.
pub fn phase(pod: &Pod) -> Phase {
    let is_unschedulable = condition(pod, "PodScheduled")
        .is_some_and(|c| c.status == "False" && c.reason.as_deref() == Some("Unschedulable"));
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    match phase {
        _ if pod.metadata.deletion_timestamp.is_some() => Phase::Terminating,
        Some("Failed" | "Succeeded") => Phase::Failed,
        _ if ready(pod).is_some() => Phase::Ready,
        _ if is_unschedulable => Phase::Unschedulable,
        _ => Phase::Starting,
    }
}

fn seen(pod: &Pod, in_flight: Option<u32>) -> Option<SeenPod> {
    let phase = phase(pod);
    let ready = ready(pod);
    let changed_at = |of: &PodCondition| Some(moment(of.last_transition_time.as_ref()?.0));
    let created_at = moment(pod.metadata.creation_timestamp.as_ref()?.0);
    // The wait for a node is no part of a start: one of an hour would say nothing of the next replica that finds a node at once.
    let has_node_since = condition(pod, "PodScheduled")
        .filter(|condition| condition.status == "True")
        .and_then(changed_at)
        .map_or(created_at, |at| at.max(created_at));
    let containers = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref());
    let has_restarted = containers.is_some_and(|all| all.iter().any(|container| container.restart_count > 0));
    let running = containers
        .into_iter()
        .flatten()
        .filter_map(|container| container.state.as_ref()?.running.as_ref()?.started_at.as_ref());
    let started_at = running.map(|time| moment(time.0)).max().unwrap_or(created_at);
    let is_start = |ready_at: &Moment| ready_at.seconds_since(started_at) <= START_SECONDS_MAX;
    Some(SeenPod {
        id: identity(&pod.uid()?)?,
        // One that was ready once is on its way since then: it has not been late all the while.
        created_at: match phase {
            Phase::Starting => condition(pod, "Ready")
                .and_then(changed_at)
                .map_or(has_node_since, |at| at.max(has_node_since)),
            _ => has_node_since,
        },
        // Of one that has restarted, or turned ready again, it is not known when it became ready for the first time.
        ready_at: ready.filter(|_| !has_restarted).and_then(changed_at).filter(is_start),
        phase,
        in_flight,
    })
}

/// The first half of a UUID: enough to tell the pods of a service apart.
fn identity(uid: &str) -> Option<u64> {
    let digits: String = uid.chars().filter(|c| *c != '-').take(16).collect();
    u64::from_str_radix(&digits, 16).ok()
}

#[cfg(test)]
#[path = "observe_tests.rs"]
mod tests;
