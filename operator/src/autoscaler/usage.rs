//! CPU and memory of a pool, as the HorizontalPodAutoscaler computes them: over the ready pods of which samples are known. Pure.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tidewright_api::scaling::ResourceName;
use tidewright_api::{labels, names};
use tidewright_scaling::observation::{Absence, Phase, Reading, Sample};
use tidewright_scaling::units::Raw;

use super::observe::{condition, moment, phase};
use super::signals::Use;
use crate::domain::quantity::thousandths;
use crate::domain::usage::{Answer, Usage};

/// Age from which a sample is not believed: metrics-server may take one a minute, a kubelet's may be a quarter of a minute old by then, and so may ours.
pub const STALE_AFTER: Duration = Duration::from_secs(90);

/// What one pod says.
#[derive(Debug, Clone, Copy)]
struct Said {
    at: Timestamp,
    window: SignedDuration,
    /// Thousandths.
    used: u64,
    /// Thousandths; zero where it does not matter.
    requested: u64,
}

/// What the pods of a pool use on the average: as a share of what they have requested, in whole percent, or as an amount. The ready pods that say nothing
/// usable make it partial; with too old a sample they say nothing, unless all are as old.
pub fn reading(of: &Use, pods: &[Arc<Pod>], answer: &Answer, now: Timestamp) -> Reading {
    let is_of_pool = |pod: &&Arc<Pod>| pod.labels().get(labels::POOL) == Some(&of.pool);
    let ready: Vec<&Arc<Pod>> = pods
        .iter()
        .filter(is_of_pool)
        .filter(|pod| phase(pod) == Phase::Ready)
        .collect();
    if ready.is_empty() {
        return Err(Absence::NoTargets);
    }
    let usages = match answer {
        Answer::NotAsked => return Err(Absence::NotAsked),
        Answer::Failed(_) => return Err(Absence::QueryFailed),
        Answer::Used(usages) => usages,
    };
    let stale_after = SignedDuration::try_from(STALE_AFTER).unwrap_or(SignedDuration::MAX);
    let said = ready.iter().filter_map(|pod| {
        let usage = usages.get(&(pod.namespace()?, pod.name_any()))?;
        said(of, pod, usage)
    });
    // One of a time to come says nothing of its age.
    let said = said.filter(|said| said.at.duration_since(now) <= stale_after);
    let (fresh, stale): (Vec<Said>, Vec<Said>) = said.partition(|said| now.duration_since(said.at) <= stale_after);
    let counted = if fresh.is_empty() { stale } else { fresh };
    let (Some(at), Some(window)) = (
        counted.iter().map(|said| said.at).min(),
        counted.iter().map(|said| said.window).max(),
    ) else {
        return Err(Absence::SeriesMissing);
    };
    let count = |all: usize| u32::try_from(all).unwrap_or(u32::MAX);
    Ok(Sample {
        value: Raw(value(of, &counted).ok_or(Absence::Invalid)?),
        at: moment(at),
        window_seconds: if of.resource == ResourceName::Cpu {
            window.as_secs_f64()
        } else {
            0.0
        },
        targets_up: count(counted.len()),
        targets_all: count(ready.len()),
        targets_covered: None,
    })
}

/// What one pod says; nothing where its processor was busy with its start, or nothing is known to be a share of.
fn said(of: &Use, pod: &Pod, usage: &Usage) -> Option<Said> {
    let ready_at = condition(pod, "Ready").and_then(|ready| Some(ready.last_transition_time.as_ref()?.0));
    let is_cpu = of.resource == ResourceName::Cpu;
    if is_cpu && ready_at.is_some_and(|ready_at| usage.at.duration_since(ready_at) < usage.window) {
        return None;
    }
    Some(Said {
        at: usage.at,
        window: usage.window,
        used: if is_cpu { usage.cpu_millis } else { usage.memory_millis },
        requested: if of.is_share { requested(pod, of.resource)? } else { 0 },
    })
}

/// What its server has asked for, in thousandths.
fn requested(pod: &Pod, resource: ResourceName) -> Option<u64> {
    let mut containers = pod.spec.as_ref()?.containers.iter();
    let server = containers.find(|container| container.name == names::SERVER_CONTAINER)?;
    let requests = server.resources.as_ref()?.requests.as_ref()?;
    thousandths(requests.get(resource.as_str())?).filter(|amount| *amount > 0)
}

/// In whole numbers, as the HorizontalPodAutoscaler divides: what is lost below a percent is lost there too.
fn value(of: &Use, said: &[Said]) -> Option<f64> {
    let sum = |part: fn(&Said) -> u64| said.iter().map(|said| u128::from(part(said))).sum::<u128>();
    let used = sum(|said| said.used);
    if of.is_share {
        let percent = (used * 100).checked_div(sum(|said| said.requested))?;
        Some(percent as f64 / 100.0)
    } else {
        let mean = used.checked_div(said.len() as u128)?;
        Some(mean as f64 / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::usage::Usages;

    const NOW: &str = "2026-01-01T01:00:00Z";

    fn at(time: &str) -> Timestamp {
        time.parse().unwrap()
    }

    /// A pod of the pool that has been ready since a time; of no time: one that is not ready.
    fn pod(name: &str, ready_since: Option<&str>) -> Arc<Pod> {
        let status = if ready_since.is_some() { "True" } else { "False" };
        let pod = json!({
            "metadata": {"name": name, "namespace": "demo", "labels": {"serving.tidewright.dev/pool": "cpu"}},
            "spec": {"containers": [{"name": "kserve-container", "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}}}]},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": status, "lastTransitionTime": ready_since}]}});
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn long_ready(names: &[&str]) -> Vec<Arc<Pod>> {
        names
            .iter()
            .map(|name| pod(name, Some("2026-01-01T00:00:00Z")))
            .collect()
    }

    /// Of the last seconds before a time: thousandths of a core, and mebibytes.
    fn used(pods: &[(&str, &str, u64, u64)]) -> Answer {
        let usages = pods.iter().map(|(name, time, cpu_millis, mebibytes)| {
            let usage = Usage {
                at: at(time),
                window: SignedDuration::from_secs(15),
                cpu_millis: *cpu_millis,
                memory_millis: mebibytes * 1024 * 1024 * 1000,
            };
            (("demo".to_owned(), (*name).to_owned()), usage)
        });
        Answer::Used(usages.collect::<Usages>())
    }

    fn of(resource: ResourceName, is_share: bool) -> Use {
        Use {
            pool: "cpu".to_owned(),
            resource,
            is_share,
        }
    }

    fn cpu(pods: &[Arc<Pod>], answer: &Answer) -> Reading {
        reading(&of(ResourceName::Cpu, true), pods, answer, at(NOW))
    }

    /// Value and targets, or why there is none.
    fn short(reading: Reading) -> Result<(f64, u32, u32), Absence> {
        reading.map(|sample| (sample.value.0, sample.targets_up, sample.targets_all))
    }

    #[test]
    fn a_share_is_the_sum_used_of_the_sum_requested_in_whole_percent() {
        let pods = long_ready(&["a", "b"]);
        let both = used(&[
            ("a", "2026-01-01T00:59:50Z", 430, 512),
            ("b", "2026-01-01T00:59:40Z", 349, 511),
        ]);
        // 779 of 1000 thousandths.
        let sample = cpu(&pods, &both).unwrap();
        assert_eq!((sample.value, sample.targets_up, sample.targets_all), (Raw(0.77), 2, 2));
        assert_eq!(sample.at, moment(at("2026-01-01T00:59:40Z")), "the oldest dates it");
        assert!((sample.window_seconds - 15.0).abs() < 1e-9 && sample.targets_covered.is_none());
        let now = at(NOW);
        let memory = reading(&of(ResourceName::Memory, true), &pods, &both, now);
        assert_eq!(short(memory), Ok((0.49, 2, 2)));
        let amount = |resource| short(reading(&of(resource, false), &pods, &both, now)).map(|(value, ..)| value);
        assert_eq!(amount(ResourceName::Cpu), Ok(0.389));
        assert_eq!(amount(ResourceName::Memory), Ok(511.5 * 1_048_576.0));
        let elsewhere = Use {
            pool: "gpu".to_owned(),
            ..of(ResourceName::Cpu, true)
        };
        assert_eq!(reading(&elsewhere, &pods, &both, now), Err(Absence::NoTargets));
    }

    #[test]
    fn pods_that_say_nothing_make_it_partial_and_the_source_that_does_not_missing() {
        let pods = long_ready(&["a", "b", "c"]);
        let one = used(&[
            ("a", "2026-01-01T00:59:50Z", 250, 1),
            ("other", "2026-01-01T00:59:50Z", 9000, 1),
        ]);
        assert_eq!(short(cpu(&pods, &one)), Ok((0.5, 1, 3)));
        assert_eq!(cpu(&pods, &used(&[])), Err(Absence::SeriesMissing));
        assert_eq!(cpu(&pods, &Answer::NotAsked), Err(Absence::NotAsked));
        assert_eq!(cpu(&pods, &Answer::Failed("no".to_owned())), Err(Absence::QueryFailed));
        assert_eq!(cpu(&[], &one), Err(Absence::NoTargets));
        assert_eq!(cpu(&[pod("a", None)], &one), Err(Absence::NoTargets), "not ready");
        // What has requested nothing is a share of nothing, and an amount all the same.
        let mut bare = Pod::clone(&pods[0]);
        bare.spec.as_mut().unwrap().containers[0].resources = None;
        let bare = [Arc::new(bare), Arc::clone(&pods[1])];
        let both = used(&[
            ("a", "2026-01-01T00:59:50Z", 250, 1),
            ("b", "2026-01-01T00:59:50Z", 100, 1),
        ]);
        assert_eq!(short(cpu(&bare, &both)), Ok((0.2, 1, 2)));
        let amount = reading(&of(ResourceName::Cpu, false), &bare, &both, at(NOW));
        assert_eq!(short(amount), Ok((0.175, 2, 2)));
    }

    #[test]
    fn an_old_sample_is_none_unless_all_are_old() {
        let pods = long_ready(&["a", "b"]);
        let one_old = used(&[
            ("a", "2026-01-01T00:58:30Z", 250, 1),
            ("b", "2026-01-01T00:58:29Z", 450, 1),
        ]);
        assert_eq!(short(cpu(&pods, &one_old)), Ok((0.5, 1, 2)));
        let both_old = used(&[
            ("a", "2026-01-01T00:58:00Z", 250, 1),
            ("b", "2026-01-01T00:58:10Z", 450, 1),
        ]);
        let stale = cpu(&pods, &both_old).unwrap();
        assert_eq!(
            stale.at,
            moment(at("2026-01-01T00:58:00Z")),
            "the decision sees its age"
        );
        assert_eq!((stale.targets_up, stale.targets_all), (2, 2));
        let to_come = used(&[("a", "2026-01-01T01:01:31Z", 250, 1)]);
        assert_eq!(cpu(&pods, &to_come), Err(Absence::SeriesMissing));
    }

    /// The load of a model is no load of requests.
    #[test]
    fn the_processor_of_a_start_does_not_count_and_memory_does() {
        let answer = used(&[("a", "2026-01-01T00:59:50Z", 2000, 512)]);
        let within = [pod("a", Some("2026-01-01T00:59:36Z"))];
        assert_eq!(cpu(&within, &answer), Err(Absence::SeriesMissing));
        let memory = reading(&of(ResourceName::Memory, true), &within, &answer, at(NOW));
        assert_eq!(short(memory), Ok((0.5, 1, 1)));
        let before = [pod("a", Some("2026-01-01T00:59:35Z"))];
        assert_eq!(short(cpu(&before, &answer)), Ok((4.0, 1, 1)));
    }
}
