//! Knative's autoscaler on concurrency, as [`crate::baselines::kpa`] decides, on the one-second plane.
//!
//! Every pod and the activator report every second, so that there is no sampling error; and the activator answers as soon as it is in the path.

use crate::baselines::kpa::autoscaler::{Autoscaler, DeciderSpec, DeciderStatus, TICK_NS, is_poke};
use crate::baselines::kpa::collector::{Collector, Stat};
use crate::baselines::kpa::config::{Config, Revision};
use crate::baselines::kpa::reconciler::{Input, PaStatus, reconcile};
use crate::baselines::kpa::scaler::{Mode, Path};
use crate::error::Result;
use crate::policies::hpa::{count, signed};
use crate::policy::{Decision, Policy, View};
use crate::scenario::Scenario;
use crate::settings::Settings;
use crate::time::{MILLISECOND, MINUTE, Nanos};

/// From a held request to the poke of the scaler: the activator reports the first request at once, over an open stream.
const POKE_DELAY: Nanos = 100 * MILLISECOND;

#[derive(Debug)]
pub struct Kpa {
    config: Config,
    revision: Revision,
    spec: DeciderSpec,
    collector: Collector,
    /// Made when it first sees how many pods are ready.
    autoscaler: Option<Autoscaler>,
    decider: DeciderStatus,
    status: PaStatus,
    mode: Mode,
    proxy_since: Nanos,
    seen: Nanos,
}

impl Kpa {
    pub fn new(settings: &mut Settings, scenario: &Scenario) -> Result<Self> {
        let percent = |share: f64| share * 100.0;
        let revision = Revision {
            container_concurrency: i64::from(scenario.service.slots()),
            target_utilization_percentage: Some(percent(settings.take_number("target", 0.7, 0.01, 1.0)?)),
            window_ns: Some(signed(settings.take_span("window", MINUTE)?)),
            scale_down_delay_ns: Some(signed(settings.take_span("scale-down-delay", 0)?)),
            panic_threshold_percentage: Some(percent(settings.take_number("panic-threshold", 2.0, 1.1, 10.0)?)),
            min_scale: Some(count(scenario.min_replicas.unwrap_or(0))),
            max_scale: Some(count(scenario.max_replicas)),
            ..Revision::default()
        };
        let config = Config::default();
        let spec = revision.decider_spec(&config);
        Ok(Self {
            collector: Collector::new(&config, &revision),
            autoscaler: None,
            decider: DeciderStatus::new(&spec),
            status: PaStatus::new(0),
            mode: Mode::Proxy,
            proxy_since: 0,
            seen: 0,
            config,
            revision,
            spec,
        })
    }

    /// Takes over the seconds since the last time.
    fn collect(&mut self, view: &View<'_>) {
        for second in view.seconds_after(self.seen) {
            self.seen = second.end;
            // With neither pods nor requests nobody reports.
            if view.count().ready > 0 || second.concurrency > 0.0 {
                let stat = Stat {
                    average_concurrent_requests: second.concurrency,
                    request_count: second.arrivals as f64,
                    ..Stat::default()
                };
                // The second that has just ended.
                self.collector.record(signed(second.end) - 1, stat);
            }
        }
    }

    /// A request is held while nothing runs: the activator says so before the second is over.
    fn poke(&mut self, view: &View<'_>) {
        let first = view.held().min(1) as f64;
        let stat = Stat {
            average_concurrent_requests: first,
            request_count: first,
            ..Stat::default()
        };
        if view.desired() == 0 && is_poke(self.decider, stat) {
            self.collector.record(signed(view.now()), stat);
        }
    }
}

impl Policy for Kpa {
    fn period(&self) -> Nanos {
        u64::try_from(TICK_NS).unwrap_or(Nanos::MAX)
    }

    fn decide(&mut self, view: &View<'_>) -> Decision {
        let now_ns = signed(view.now());
        self.collect(view);
        self.poke(view);
        let ready = count(view.count().ready);
        let observed = self.collector.stable_and_panic(self.spec.metric, now_ns);
        let autoscaler = self
            .autoscaler
            .get_or_insert_with(|| Autoscaler::new(&self.spec, Some(ready), now_ns));
        if let Some(decision) = autoscaler.scale(&self.spec, Some(ready), observed, now_ns) {
            self.decider.update(decision);
        }
        let outcome = reconcile(
            &self.config,
            &self.revision,
            &self.spec,
            &mut self.status,
            Input {
                now_ns,
                current_scale: count(view.desired()),
                ready_pods: ready,
                decider: self.decider,
                path: Path {
                    mode: self.mode,
                    proxy_for_ns: match self.mode {
                        Mode::Proxy => signed(view.now() - self.proxy_since),
                        Mode::Serve => 0,
                    },
                    is_activator_answering: self.mode == Mode::Proxy,
                },
            },
        );
        if outcome.mode != self.mode {
            self.mode = outcome.mode;
            self.proxy_since = view.now();
        }
        let replicas = outcome
            .write
            .map_or(view.desired(), |scale| u32::try_from(scale).unwrap_or(0));
        let is_panic = self
            .autoscaler
            .as_ref()
            .is_some_and(|autoscaler| autoscaler.panic_since_ns.is_some());
        Decision::new(replicas, if is_panic { "panic window" } else { "stable window" })
    }

    /// The statistics are lost; the status is in the API.
    fn restart(&mut self, view: &View<'_>) {
        self.collector = Collector::new(&self.config, &self.revision);
        self.decider = DeciderStatus::new(&self.spec);
        self.autoscaler = None;
        self.seen = view.now();
    }

    fn wake_delay(&self) -> Option<Nanos> {
        Some(POKE_DELAY)
    }
}
