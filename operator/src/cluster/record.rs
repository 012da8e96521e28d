//! Publishes events, each once.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::runtime::events::{Event as ApiEvent, EventType, Recorder as ApiRecorder, Reporter};
use kube::{Client, Resource};
use tidewright_api::InferenceService;

use super::call::call;
use crate::events::Event;

/// More than any cluster needs; beyond it the oldest are forgotten, and might be told twice.
const REMEMBERED_MAX: usize = 4096;
/// Before an event that could not be published is tried once more.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Publishes events.
pub struct Recorder {
    client: Client,
    reporter: Reporter,
    told: Mutex<Told>,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Recorder")
    }
}

impl Recorder {
    /// Publishes under this name.
    pub fn new(client: Client, pod_name: &str) -> Self {
        let reporter = Reporter {
            controller: "tidewright-operator".to_owned(),
            instance: Some(pod_name.to_owned()),
        };
        Self {
            client,
            reporter,
            told: Mutex::default(),
        }
    }

    /// Publishes one event about a service. An event that cannot be published is logged: nothing depends on it.
    pub async fn publish(&self, object: &InferenceService, event: Event, now: Timestamp) {
        let uid = object.metadata.uid.clone().unwrap_or_default();
        let note = event.note.clone();
        let is_news = {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            told.is_news(uid.clone(), &event, now)
        };
        if !is_news {
            return;
        }
        let reference = object.object_ref(&());
        let api_event = ApiEvent {
            type_: if event.is_warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: event.reason.to_owned(),
            note: Some(note),
            action: event.action.to_owned(),
            secondary: None,
        };
        // A recorder of its own for each: one that is kept takes the next event of this reason for the one before, and shows the old text.
        let recorder = ApiRecorder::new(self.client.clone(), self.reporter.clone());
        let publish = || {
            call(
                || "publish an event".to_owned(),
                recorder.publish(&api_event, &reference),
            )
        };
        let mut published = publish().await;
        // What it tells of happens once, and the status that it goes with was written a moment ago: more than a hiccup it is rarely.
        if published
            .as_ref()
            .is_err_and(|error| error.is_transient() && !error.is_namespace_ending())
        {
            tokio::time::sleep(AGAIN_AFTER).await;
            published = publish().await;
        }
        if let Err(error) = published {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            told.forget(uid, &event.dedupe_key);
            drop(told);
            if error.is_namespace_ending() {
                // It would go with the namespace at once.
                tracing::debug!(%error, reason = event.reason, "an event was not published");
            } else {
                tracing::warn!(%error, reason = event.reason, "an event was not published");
            }
        }
    }
}

/// What has been told of whom, and when. Pure.
#[derive(Debug, Default)]
struct Told(HashMap<(String, String), Timestamp>);

impl Told {
    /// Whether this event of the object of this uid is to be told; if so, it is remembered.
    fn is_news(&mut self, uid: String, event: &Event, now: Timestamp) -> bool {
        let told = &mut self.0;
        let key = (uid, event.dedupe_key.clone());
        let quiet_for = SignedDuration::try_from(event.quiet_for).unwrap_or(SignedDuration::ZERO);
        if told.get(&key).is_some_and(|at| now.duration_since(*at) < quiet_for) {
            return false;
        }
        if told.len() >= REMEMBERED_MAX
            && let Some(oldest) = told.iter().min_by_key(|(_, at)| **at).map(|(key, _)| key.clone())
        {
            told.remove(&oldest);
        }
        told.insert(key, now);
        true
    }

    /// It could not be told: the next time is the first.
    fn forget(&mut self, uid: String, dedupe_key: &str) {
        self.0.remove(&(uid, dedupe_key.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn event(note: &str, quiet_for: u64) -> Event {
        Event {
            is_warning: false,
            reason: "ScaledUp",
            action: "Scale",
            note: note.to_owned(),
            dedupe_key: note.to_owned(),
            quiet_for: Duration::from_secs(quiet_for),
        }
    }

    #[test]
    fn the_same_event_is_told_again_only_after_its_quiet_time() {
        let mut told = Told::default();
        let mut is_news = |uid: &str, note, second| told.is_news(uid.to_owned(), &event(note, 300), at(second));
        assert!(is_news("a", "1 → 3", 0));
        assert!(!is_news("a", "1 → 3", 299));
        assert!(is_news("a", "3 → 5", 299), "another event");
        assert!(is_news("b", "1 → 3", 299), "of another service");
        assert!(is_news("a", "1 → 3", 300));
        assert!(
            !is_news("a", "1 → 3", 599),
            "the time counts from when it was told last"
        );
    }

    #[test]
    fn beyond_the_limit_the_oldest_is_forgotten() {
        let mut told = Told::default();
        let mut is_news =
            |note: usize, second| told.is_news("a".to_owned(), &event(&note.to_string(), 1_000_000), at(second));
        for note in 0..REMEMBERED_MAX {
            assert!(is_news(note, i64::try_from(note).unwrap()));
        }
        assert!(is_news(REMEMBERED_MAX, 10_000));
        assert!(!is_news(1, 10_001), "the second oldest is still known");
        assert!(is_news(0, 10_002), "the oldest is told again");
        assert_eq!(told.0.len(), REMEMBERED_MAX);
    }
}
