//! What a decision looks at, from caches and published readings. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use kube::ResourceExt;
use tidewright_api::labels;
use tidewright_scaling::observation::{Absence, Observations, Phase, Pod as SeenPod, PoolView, Reading, Sample};
use tidewright_scaling::units::{Moment, Raw};

use super::plan::{Plan, Source, Times};
use crate::domain::published::{self, Reason, Signal};

/// What is seen of a service; `None` while a Deployment of it, or its number of replicas, is unknown: then there is nothing to decide from.
pub fn observe(
    plan: &Plan,
    times: &Times,
    read: impl Fn(&Source) -> published::Reading,
    deployments: &BTreeMap<String, Arc<Deployment>>,
    pods: &[Arc<Pod>],
) -> Option<Observations> {
    let pools = plan
        .policy
        .pools
        .iter()
        .map(|pool| view(deployments.get(&pool.name)?, &pool.name, pods));
    Some(Observations {
        signals: plan
            .sources
            .iter()
            .map(|source| reading(source, read(source), times))
            .collect(),
        pools: pools.collect::<Option<_>>()?,
        ..Observations::default()
    })
}

/// A moment of the decision's own clock.
pub fn moment(at: Timestamp) -> Moment {
    Moment::from_millis(u64::try_from(at.as_millisecond()).unwrap_or_default())
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

fn view(deployment: &Deployment, pool: &str, pods: &[Arc<Pod>]) -> Option<PoolView> {
    let replicas = deployment.spec.replicas?;
    Some(PoolView {
        replicas: u32::try_from(replicas).ok()?,
        pods: pods
            .iter()
            .filter(|pod| pod.labels().get(labels::POOL).is_some_and(|of| of == pool))
            .filter_map(|pod| seen(pod))
            .collect(),
        service: None,
    })
}

fn seen(pod: &Pod) -> Option<SeenPod> {
    let condition = |kind: &str| -> Option<&PodCondition> {
        let all = pod.status.as_ref()?.conditions.as_ref()?;
        all.iter().find(|condition| condition.type_ == kind)
    };
    let ready = condition("Ready").filter(|condition| condition.status == "True");
    let is_unschedulable =
        condition("PodScheduled").is_some_and(|c| c.status == "False" && c.reason.as_deref() == Some("Unschedulable"));
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let phase = match phase {
        _ if pod.metadata.deletion_timestamp.is_some() => Phase::Terminating,
        Some("Failed" | "Succeeded") => Phase::Failed,
        _ if ready.is_some() => Phase::Ready,
        _ if is_unschedulable => Phase::Unschedulable,
        _ => Phase::Starting,
    };
    let ready_at = ready.and_then(|condition| condition.last_transition_time.as_ref());
    Some(SeenPod {
        id: identity(&pod.uid()?)?,
        created_at: moment(pod.metadata.creation_timestamp.as_ref()?.0),
        ready_at: ready_at.map(|time| moment(time.0)),
        phase,
        in_flight: None,
    })
}

/// The first half of a UUID: enough to tell the pods of a service apart.
fn identity(uid: &str) -> Option<u64> {
    let digits: String = uid.chars().filter(|c| *c != '-').take(16).collect();
    u64::from_str_radix(&digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::super::plan::plan;
    use super::*;
    use crate::domain::published::Unavailable;
    use crate::test_support::{deployment, validated};

    const TIMES: Times = Times {
        rate_window: Duration::from_secs(30),
        stale_after: Duration::from_secs(33),
    };

    fn pod(uid: char, changes: Value) -> Arc<Pod> {
        let uid = format!("{}-1111-2222-3333-444444444444", uid.to_string().repeat(8));
        let mut pod = json!({"metadata": {"name": "p", "uid": uid, "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"serving.tidewright.dev/pool": "cpu"}}, "status": {}});
        if let Some(deleted) = changes.get("deletionTimestamp") {
            pod["metadata"]["deletionTimestamp"] = deleted.clone();
        }
        pod["status"] = changes["status"].clone();
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn pods_are_seen_as_what_they_are() {
        let condition = |kind: &str, status: &str, reason: &str| {
            json!({"status": {"phase": "Pending", "conditions": [{"type": kind, "status": status, "reason": reason,
                "lastTransitionTime": "2026-01-01T00:00:09Z"}]}})
        };
        let mut ending = condition("Ready", "True", "");
        ending["deletionTimestamp"] = json!("2026-01-01T00:01:00Z");
        let phases = [
            (condition("Ready", "True", ""), Phase::Ready),
            (ending, Phase::Terminating),
            (
                condition("PodScheduled", "False", "Unschedulable"),
                Phase::Unschedulable,
            ),
            (condition("PodScheduled", "True", ""), Phase::Starting),
            (json!({"status": {"phase": "Failed"}}), Phase::Failed),
            (json!({}), Phase::Starting),
        ];
        for (changes, phase) in phases {
            let seen = seen(&pod('a', changes.clone())).unwrap();
            assert_eq!(seen.phase, phase, "{changes}");
            if phase == Phase::Ready {
                let started = seen.ready_at.unwrap().seconds_since(seen.created_at);
                assert!((started - 9.0).abs() < 1e-9, "{started}");
            }
        }
    }

    #[test]
    fn what_is_missing_is_missing_and_never_zero() {
        let service = validated(json!({"spec": {"predictor": {"autoScaling": {"mode": "Direct"}}}}));
        let plan = plan(&service, &TIMES).unwrap();
        let deployments = BTreeMap::from([("cpu".to_owned(), Arc::new(deployment("cpu", 1, 3, json!({}))))]);
        let refuse = |_: &Source| Err(Unavailable::new(Reason::StaleSamples, ""));
        let seen = observe(&plan, &TIMES, refuse, &deployments, &[pod('a', json!({}))]).unwrap();
        assert_eq!(seen.signals, vec![Err(Absence::SeriesMissing); 2]);
        assert_eq!((seen.pools[0].replicas, seen.pools[0].pods.len()), (3, 1));
        assert_eq!(observe(&plan, &TIMES, refuse, &BTreeMap::new(), &[]), None);
    }
}
