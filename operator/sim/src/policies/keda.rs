//! KEDA with a Prometheus trigger on the request rate: its loop between zero and one, and the HPA that it makes, as [`crate::baselines::keda`] decides.

use crate::baselines::hpa::Config;
use crate::baselines::keda::fallback::Workload;
use crate::baselines::keda::prometheus::{Answer, Sample, query_time_ns};
use crate::baselines::keda::{
    Fallback, FallbackBehavior, PollInput, Prometheus, ScaledObject, State, Trigger, metric, poll,
};
use crate::error::{Error, Result};
use crate::metrics::{Absence, Counter};
use crate::policies::hpa::{Controller, SYNC_PERIOD, count, rate_target_milli, signed};
use crate::policy::{Decision, Policy, View};
use crate::scenario::Scenario;
use crate::settings::Settings;
use crate::time::{MINUTE, Nanos, SECOND};

#[derive(Debug)]
pub struct Keda {
    object: ScaledObject,
    state: State,
    hpa: Controller,
    window: Nanos,
    /// Both loops begin at the first decision.
    next_sync: Nanos,
    next_poll: Nanos,
}

impl Keda {
    pub fn new(settings: &mut Settings, scenario: &Scenario) -> Result<Self> {
        let target = settings.take_number("target", 0.7, 0.01, 10.0)?;
        let window = settings.take_span("window", MINUTE)?;
        let seconds = |span: Nanos| i32::try_from(span / SECOND).unwrap_or(i32::MAX);
        let polling = seconds(settings.take_span("polling", 30 * SECOND)?);
        if polling == 0 {
            return Err(Error::option("--set polling=0", "must be at least a second"));
        }
        let mut trigger = Prometheus::new(rate_target_milli(scenario, target) as f64 / 1_000.0);
        trigger.ignore_null_values = settings.take("ignore-null-values", true)?;
        let fallback = settings.take("fallback", 0)?;
        let object = ScaledObject {
            namespace: "default".into(),
            name: "model".into(),
            polling_interval_seconds: Some(polling),
            cooldown_period_seconds: Some(seconds(settings.take_span("cooldown", 5 * MINUTE)?)),
            min_replica_count: Some(count(scenario.min_replicas.unwrap_or(0))),
            max_replica_count: Some(count(scenario.max_replicas)),
            triggers: vec![Trigger::Prometheus(trigger)],
            fallback: (fallback > 0).then_some(Fallback {
                failure_threshold: 3,
                replicas: fallback,
                behavior: FallbackBehavior::Static,
            }),
            ..ScaledObject::default()
        };
        Ok(Self {
            hpa: Controller::new(Config::default(), object.hpa_spec()),
            object,
            state: State::default(),
            window,
            next_sync: 0,
            next_poll: 0,
        })
    }

    /// It sends the time of its query, in whole seconds.
    fn answer(&self, view: &View<'_>) -> Answer {
        let at = u64::try_from(query_time_ns(signed(view.now()))).unwrap_or(0);
        match view.sum_of_rates_at(Counter::Arrivals, self.window, at) {
            Ok(sample) => Ok(vec![Sample::Number(sample.value)]),
            Err(Absence::Empty { .. }) => Ok(Vec::new()),
            Err(Absence::Unreachable) => Err("connection refused".into()),
        }
    }
}

impl Policy for Keda {
    fn period(&self) -> Nanos {
        let polling = u64::try_from(self.object.polling_interval_ns()).unwrap_or(SYNC_PERIOD);
        greatest_common_divisor(SYNC_PERIOD, polling)
    }

    fn decide(&mut self, view: &View<'_>) -> Decision {
        let now = view.now();
        let mut decision = Decision::new(view.desired(), "as it is");
        if now >= self.next_poll {
            self.next_poll = now + u64::try_from(self.object.polling_interval_ns()).unwrap_or(SYNC_PERIOD);
            let answers = [self.answer(view)];
            let outcome = poll(
                &self.object,
                &mut self.state,
                PollInput {
                    now_ns: signed(now),
                    current_replicas: count(view.desired()),
                    ready_replicas: Some(count(view.count().ready)),
                    answers: &answers,
                },
            );
            if let Some(replicas) = outcome.written {
                let reason = outcome.active.map_or("KEDA", |(_, reason)| reason);
                decision = Decision::new(u32::try_from(replicas).unwrap_or(0), reason);
            }
        }
        if now >= self.next_sync {
            self.next_sync = now + SYNC_PERIOD;
            let workload = Workload {
                current_replicas: Some(count(decision.replicas)),
                ready_replicas: Some(count(view.count().ready)),
            };
            let answer = self.answer(view);
            let reading = metric(&self.object, &mut self.state, 0, &answer, workload);
            let scaled = self.hpa.sync(view, decision.replicas, reading);
            // The HPA speaks last, but it has nothing to say about zero.
            if scaled.replicas != decision.replicas || decision.replicas == view.desired() {
                decision = scaled;
            }
        }
        decision
    }

    /// The operator's memory is in the ScaledObject's status; that of the HPA controller is lost.
    fn restart(&mut self, _view: &View<'_>) {
        self.hpa.restart();
    }
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}
