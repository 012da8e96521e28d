//! What the admin port tells: metrics, what the process waits for, what is broken in it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::runtime::reflector::Store;
use tidewright_api::InferenceService;
use tokio::sync::watch;

use crate::clock::SharedClock;
use crate::cluster::watches::{WatchState, Watches};
use crate::domain::published::Published;
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::{admin, metrics_api, sources};

/// A watch that worked and has failed for this long is begun anew with the process. One that never worked is left to readiness: what the API server
/// refuses it also refuses to the next process, and the other kinds are acted on meanwhile. So a long outage costs one restart, not one after another.
const WATCH_FAILURE_MAX: Duration = Duration::from_secs(120);
/// A controller loop that has not turned for this long hangs: with any service that is as it should be it turns every 15 s, and where all fail, after the
/// longest wait and the time of a reconcile.
const LOOP_SILENCE_MAX_SECONDS: f64 = 480.0;

/// What the admin port tells.
pub(super) struct Facts {
    pub(super) metrics: Metrics,
    pub(super) watches: Watches,
    pub(super) leader: watch::Receiver<bool>,
    pub(super) services: Store<InferenceService>,
    pub(super) queries: Arc<sources::Counters>,
    pub(super) api_requests: Arc<metrics_api::Counters>,
    pub(super) registration: Option<watch::Receiver<metrics_api::Registration>>,
    pub(super) progress: Arc<metrics_api::Progress>,
    /// What is read from Prometheus, if there is one.
    pub(super) published: Option<Arc<Published>>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) started_at: Timestamp,
    pub(super) clock: SharedClock,
}

impl admin::Facts for Facts {
    fn metrics(&self) -> Result<String, std::fmt::Error> {
        let watches = self.watches.all().into_iter();
        self.metrics
            .watched(watches.map(|(kind, state)| (kind, state == WatchState::Following)));
        self.metrics.set(
            *self.leader.borrow(),
            self.services.state().len(),
            &self.queries.snapshot(),
            &self.api_requests.snapshot(),
        );
        self.metrics.encode()
    }

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn waiting_for(&self) -> Vec<String> {
        let mut waiting: Vec<String> = self
            .watches
            .all()
            .into_iter()
            .filter(|(kind, _)| !self.watches.is_listed(kind))
            .map(|(kind, state)| match state {
                WatchState::Failing { why, .. } => format!("the first list of {kind}: {why}"),
                _ => format!("the first list of {kind}"),
            })
            .collect();
        if let Some(registration) = &self.registration {
            if matches!(&*registration.borrow(), metrics_api::Registration::Pending) && *self.leader.borrow() {
                waiting.push("the registration of the metrics API".to_owned());
            }
            waiting.extend(self.progress.waiting_for().into_iter().map(ToOwned::to_owned));
        }
        if let Some(published) = &self.published
            && !published.is_begun()
        {
            waiting.push("the first look at Prometheus".to_owned());
        }
        waiting
    }

    fn broken(&self) -> Vec<String> {
        let mut broken: Vec<String> = self
            .watches
            .all()
            .into_iter()
            .filter_map(|(kind, state)| match state {
                WatchState::Ended => Some(format!("the watch of {kind} has ended")),
                WatchState::Failing {
                    why,
                    lasted,
                    is_forbidden: false,
                } if lasted > WATCH_FAILURE_MAX && self.watches.is_listed(kind) => Some(format!(
                    "the watch of {kind} has failed for {} s: {why}",
                    lasted.as_secs()
                )),
                _ => None,
            })
            .collect();
        let turned_at = self.metrics.last_turn().unwrap_or(self.started_at);
        let seconds = self.clock.now().duration_since(turned_at).as_secs_f64();
        if seconds > LOOP_SILENCE_MAX_SECONDS && !self.services.state().is_empty() {
            broken.push(format!("the controller's loop has not turned for {seconds:.0} s"));
        }
        broken
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use jiff::SignedDuration;
    use kube::runtime::reflector;
    use kube::runtime::watcher::Event;
    use serde_json::json;

    use super::*;
    use crate::admin::Facts as _;
    use crate::clock::Clock;
    use crate::test_support::inference_service;

    /// A clock that stands still until it is set.
    #[derive(Debug)]
    struct Hands(Mutex<Timestamp>);

    impl Clock for Hands {
        fn now(&self) -> Timestamp {
            *self.0.lock().unwrap()
        }
    }

    fn facts(services: usize) -> (Facts, Arc<Hands>) {
        let start = Timestamp::from_second(1_800_000_000).unwrap();
        let clock = Arc::new(Hands(Mutex::new(start)));
        let (store, mut writer) = reflector::store();
        for n in 0..services {
            let service = inference_service(json!({"metadata": {"name": format!("digits-{n}")}}));
            writer.apply_watcher_event(&Event::Apply(service));
        }
        let facts = Facts {
            metrics: Metrics::default(),
            watches: Watches::default(),
            leader: watch::channel(true).1,
            services: store,
            queries: Arc::default(),
            api_requests: Arc::default(),
            registration: None,
            progress: Arc::default(),
            published: None,
            ledger: Arc::new(Ledger::new(0)),
            started_at: start,
            clock: clock.clone(),
        };
        (facts, clock)
    }

    #[test]
    fn a_loop_that_never_turned_hangs_too_once_there_are_services() {
        let pass = |clock: &Hands, seconds| *clock.0.lock().unwrap() += SignedDuration::from_secs(seconds);
        let (idle, clock) = facts(0);
        pass(&clock, 1000);
        assert!(idle.broken().is_empty(), "nothing to do is no fault");
        let (busy, clock) = facts(2);
        pass(&clock, 480);
        assert!(busy.broken().is_empty());
        pass(&clock, 1);
        assert_eq!(busy.broken(), ["the controller's loop has not turned for 481 s"]);
        busy.metrics.loop_turned(clock.now());
        assert!(busy.broken().is_empty());
    }

    #[test]
    fn services_that_all_fail_are_no_hanging_loop() {
        let default_reconcile_timeout_seconds = 60.0;
        for is_transient in [true, false] {
            let longest = crate::controller::requeue::after_failure(1000, is_transient, false, 0.0);
            assert!(LOOP_SILENCE_MAX_SECONDS > longest.as_secs_f64() + default_reconcile_timeout_seconds);
        }
    }

    #[test]
    fn a_watch_that_worked_and_fails_for_two_minutes_is_broken() {
        let (facts, _clock) = facts(0);
        let fails_for = |seconds| WatchState::Failing {
            why: "connection refused".to_owned(),
            lasted: Duration::from_secs(seconds),
            is_forbidden: false,
        };
        facts.watches.set("NetworkPolicy", fails_for(1000));
        assert!(facts.broken().is_empty(), "a forbidden kind never worked");
        assert_eq!(
            facts.waiting_for(),
            ["the first list of NetworkPolicy: connection refused"]
        );
        facts.watches.set("Deployment", WatchState::Following);
        facts.watches.set("Deployment", fails_for(120));
        assert!(facts.broken().is_empty());
        facts.watches.set("Deployment", fails_for(121));
        assert_eq!(
            facts.broken(),
            ["the watch of Deployment has failed for 121 s: connection refused"]
        );
        facts.watches.set("Deployment", WatchState::Following);
        assert!(facts.broken().is_empty());
        facts.watches.set(
            "Deployment",
            WatchState::Failing {
                why: "forbidden".to_owned(),
                lasted: Duration::from_secs(1000),
                is_forbidden: true,
            },
        );
        assert!(facts.broken().is_empty(), "a restart grants no rights");
        facts.watches.set("Deployment", WatchState::Ended);
        assert_eq!(facts.broken(), ["the watch of Deployment has ended"]);
    }
}
