//! Every pod of a namespace from its creation to its end, by a watch.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use kube_runtime::WatchStreamExt as _;
use kube_runtime::watcher::{self, Event};
use tidewright_api::labels;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::chaos::is_ready;
use super::lives::Life;

/// By UID.
type Lives = Arc<Mutex<BTreeMap<String, Life>>>;

/// Watches until it is dropped.
#[derive(Debug)]
pub(super) struct PodWatch {
    lives: Lives,
    task: JoinHandle<()>,
}

impl Drop for PodWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl PodWatch {
    /// Seconds count from `start`, which may be to come.
    pub(super) fn start(client: &Client, namespace: &str, start: Instant) -> Self {
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let lives = Lives::default();
        let of_services = watcher::Config::default().labels(labels::SERVICE);
        let task = tokio::spawn({
            let lives = Arc::clone(&lives);
            async move {
                let mut stream = std::pin::pin!(watcher::watcher(pods, of_services).default_backoff());
                let mut book = Book {
                    lives,
                    listed: None,
                    has_listed: false,
                };
                while let Some(event) = stream.next().await {
                    let now = Instant::now();
                    let seconds = if now < start {
                        -(start - now).as_secs_f64()
                    } else {
                        (now - start).as_secs_f64()
                    };
                    if let Ok(event) = event {
                        book.note(&event, seconds);
                    }
                }
            }
        });
        Self { lives, task }
    }

    /// All that were seen, in order of creation.
    pub(super) fn lives(&self) -> Vec<Life> {
        let mut all: Vec<Life> = lock(&self.lives).values().cloned().collect();
        all.sort_by(|a, b| a.created.total_cmp(&b.created));
        all
    }

    /// Pods of a service that are ready, and that there are.
    pub(super) fn count(&self, service: &str) -> (usize, usize) {
        let lives = lock(&self.lives);
        let there = lives
            .values()
            .filter(|life| life.service == service && life.ended.is_none());
        there.fold((0, 0), |(ready, all), life| {
            (ready + usize::from(life.ready.is_some()), all + 1)
        })
    }
}

fn lock(lives: &Lives) -> MutexGuard<'_, BTreeMap<String, Life>> {
    lives.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From events to lives.
struct Book {
    lives: Lives,
    /// UIDs of a list that is under way.
    listed: Option<BTreeSet<String>>,
    has_listed: bool,
}

impl Book {
    fn note(&mut self, event: &Event<Pod>, seconds: f64) {
        match event {
            Event::Init => self.listed = Some(BTreeSet::new()),
            Event::InitApply(pod) | Event::Apply(pod) => self.see(pod, seconds),
            Event::Delete(pod) => self.end(pod.metadata.uid.as_deref().unwrap_or_default(), seconds),
            Event::InitDone => {
                self.has_listed = true;
                // Those that went while nobody watched.
                let listed = self.listed.take().unwrap_or_default();
                let gone: Vec<String> = lock(&self.lives)
                    .keys()
                    .filter(|uid| !listed.contains(*uid))
                    .cloned()
                    .collect();
                for uid in gone {
                    self.end(&uid, seconds);
                }
            }
        }
    }

    fn see(&mut self, pod: &Pod, seconds: f64) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        if let Some(listed) = &mut self.listed {
            listed.insert(uid.clone());
        }
        let label = |name: &str| pod.metadata.labels.as_ref().and_then(|all| all.get(name)).cloned();
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let is_over = pod.metadata.deletion_timestamp.is_some() || matches!(phase, Some("Failed" | "Succeeded"));
        let mut lives = lock(&self.lives);
        let life = lives.entry(uid).or_insert_with(|| Life {
            service: label(labels::SERVICE).unwrap_or_default(),
            pod: pod.metadata.name.clone().unwrap_or_default(),
            created: seconds,
            ready: None,
            ended: None,
            is_born: self.has_listed,
        });
        if is_ready(pod) {
            life.ready.get_or_insert(seconds);
        }
        if is_over {
            life.ended.get_or_insert(seconds);
        }
    }

    fn end(&self, uid: &str, seconds: f64) {
        if let Some(life) = lock(&self.lives).get_mut(uid) {
            life.ended.get_or_insert(seconds);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(uid: &str, is_ready: bool, is_told_to_end: bool) -> Pod {
        let mut metadata = json!({"name": uid, "uid": uid, "labels": {(labels::SERVICE): "a"}});
        if is_told_to_end {
            metadata["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        let status = json!({"conditions": [{"type": "Ready", "status": if is_ready { "True" } else { "False" }}]});
        serde_json::from_value(json!({"metadata": metadata, "status": status})).unwrap()
    }

    #[test]
    fn a_pod_lives_from_its_first_event_to_when_it_is_told_to_end() {
        let mut book = Book {
            lives: Lives::default(),
            listed: None,
            has_listed: false,
        };
        let events = vec![
            (-2.0, Event::Init),
            (-2.0, Event::InitApply(pod("old", true, false))),
            (-2.0, Event::InitDone),
            (5.0, Event::Apply(pod("new", false, false))),
            (9.0, Event::Apply(pod("new", true, false))),
            (10.0, Event::Apply(pod("new", true, false))),
            (20.0, Event::Apply(pod("new", false, true))),
            (25.0, Event::Delete(pod("new", false, true))),
            // The watch broke, and `old` is not listed any more.
            (30.0, Event::Init),
            (31.0, Event::InitDone),
        ];
        for (seconds, event) in &events {
            book.note(event, *seconds);
        }
        let lives: Vec<Life> = lock(&book.lives).values().cloned().collect();
        let times: Vec<_> = lives
            .iter()
            .map(|life| (life.created, life.ready, life.ended, life.is_born))
            .collect();
        assert_eq!(
            times,
            [
                (5.0, Some(9.0), Some(20.0), true),
                (-2.0, Some(-2.0), Some(31.0), false)
            ]
        );
        assert_eq!(lives[0].service, "a");
    }
}
