//! Kubernetes' HPA on CPU, or on the request rate by way of prometheus-adapter, as [`crate::baselines::hpa`] decides.

use std::sync::Arc;

use crate::baselines::go;
use crate::baselines::hpa::input::{ConditionStatus, Container, Phase as HpaPhase, ReadyCondition, Requests};
use crate::baselines::hpa::samples::{PodUsage, from_resource_api};
use crate::baselines::hpa::spec::{Resource, ResourceTarget, ScalingRules, ValueTarget};
use crate::baselines::hpa::{Behavior, Config, Input, Metric, Pod, Reading, Scale, Spec, State, sync};
use crate::error::Result;
use crate::metrics::Counter;
use crate::plant::Phase;
use crate::policy::{Decision, PodView, Policy, View};
use crate::scenario::Scenario;
use crate::settings::Settings;
use crate::time::{MINUTE, Nanos, SECOND};

/// `--horizontal-pod-autoscaler-sync-period`.
pub const SYNC_PERIOD: Nanos = 15 * SECOND;
/// What a pod requests; only the ratio to its usage matters.
const CPU_REQUEST_MILLI: i64 = 1_000;
const CONTAINER: &str = "server";

/// What it scales on.
#[derive(Debug, Clone, Copy)]
enum Signal {
    Cpu,
    /// `sum(rate(...[window]))`, average per pod.
    Rate {
        window: Nanos,
    },
}

/// The part that KEDA shares: a spec, the controller's memory, and the target's scale.
#[derive(Debug)]
pub struct Controller {
    config: Config,
    spec: Spec,
    state: State,
}

impl Controller {
    pub fn new(config: Config, spec: Spec) -> Self {
        Self {
            config,
            spec,
            state: State::default(),
        }
    }

    /// One sync; `current` is `spec.replicas` now.
    pub fn sync(&mut self, view: &View<'_>, current: u32, reading: std::result::Result<Reading, String>) -> Decision {
        let pods: Vec<Pod> = view.pods().map(|pod| pod_of(&pod)).collect();
        let outcome = sync(
            &self.config,
            &self.spec,
            &mut self.state,
            &Input {
                now_ns: signed(view.now()),
                scale: Ok(Scale {
                    spec_replicas: count(current),
                    status_replicas: count(view.count().active()),
                }),
                pods: &pods,
                readings: &[reading],
                update_error: None,
            },
        );
        match outcome.written {
            Some(replicas) => Decision::new(u32::try_from(replicas).unwrap_or(0), outcome.rescale_reason),
            None => match outcome.error {
                Some(error) => Decision::new(current, error),
                None => Decision::new(current, "as it is"),
            },
        }
    }

    /// Recommendations and scale events are lost, the status is not.
    pub fn restart(&mut self) {
        self.state = std::mem::take(&mut self.state).after_restart();
    }
}

#[derive(Debug)]
pub struct Hpa {
    signal: Signal,
    controller: Controller,
}

impl Hpa {
    pub fn on_cpu(settings: &mut Settings, scenario: &Scenario) -> Result<Self> {
        let target = settings.take_number("target", 0.7, 0.01, 10.0)?;
        let metric = Metric::Resource {
            resource: Resource::Cpu,
            target: ResourceTarget::Utilization((target * 100.0).round() as i32),
        };
        Self::new(Signal::Cpu, metric, settings, scenario)
    }

    pub fn on_rate(settings: &mut Settings, scenario: &Scenario) -> Result<Self> {
        let target = settings.take_number("target", 0.7, 0.01, 10.0)?;
        let window = settings.take_span("window", MINUTE)?;
        let metric = Metric::Object {
            name: "requests_per_second".into(),
            kind: "Service".into(),
            object: "gateway".into(),
            selector: "nil".into(),
            target: ValueTarget::AverageValue(rate_target_milli(scenario, target)),
        };
        Self::new(Signal::Rate { window }, metric, settings, scenario)
    }

    fn new(signal: Signal, metric: Metric, settings: &mut Settings, scenario: &Scenario) -> Result<Self> {
        let config = Config {
            tolerance: settings.take_number("tolerance", 0.1, 0.0, 1.0)?,
            downscale_stabilization_ns: signed(settings.take_span("stabilization", 5 * MINUTE)?),
            ..Config::default()
        };
        // Without `behavior` the rules are others than with an empty one.
        let behavior = settings.take("behavior", false)?.then(|| Behavior {
            scale_up: ScalingRules::default(),
            scale_down: ScalingRules::default(),
        });
        let spec = Spec {
            namespace: "default".into(),
            min_replicas: Some(count(scenario.min_replicas.unwrap_or(1))),
            max_replicas: count(scenario.max_replicas),
            metrics: vec![metric],
            behavior,
        };
        Ok(Self {
            signal,
            controller: Controller::new(config, spec),
        })
    }
}

impl Policy for Hpa {
    fn period(&self) -> Nanos {
        SYNC_PERIOD
    }

    fn decide(&mut self, view: &View<'_>) -> Decision {
        let reading = match self.signal {
            Signal::Cpu => cpu(view),
            // The adapter answers without data with an error, and converts NaN as Go on amd64 does.
            Signal::Rate { window } => match view.sum_of_rates(Counter::Arrivals, window) {
                Ok(sample) => Ok(Reading::Object(go::int64(sample.value * 1_000.0))),
                Err(absence) => Err(format!("{absence:?}")),
            },
        };
        self.controller.sync(view, view.desired(), reading)
    }

    fn restart(&mut self, _view: &View<'_>) {
        self.controller.restart();
    }
}

/// Requests per second that a pod gets at this utilisation, in thousandths.
pub fn rate_target_milli(scenario: &Scenario, utilisation: f64) -> i64 {
    let full = f64::from(scenario.lanes()) * SECOND as f64 / scenario.work(scenario.service_mean) as f64;
    ((full * utilisation * 1_000.0).round() as i64).max(1)
}

fn cpu(view: &View<'_>) -> std::result::Result<Reading, String> {
    let items: Vec<PodUsage> = view
        .pods()
        .filter_map(|pod| {
            let usage = pod.usage?;
            Some(PodUsage {
                pod: name(&pod),
                timestamp_ns: signed(usage.at),
                window_ns: signed(usage.window),
                containers: vec![(
                    CONTAINER.to_owned(),
                    Some((usage.share * CPU_REQUEST_MILLI as f64).round() as i64),
                )],
            })
        })
        .collect();
    from_resource_api(&items, None)
}

fn name(pod: &PodView) -> Arc<str> {
    // Fixed width: the controller sorts by name.
    format!("pod-{:08}", pod.ordinal).into()
}

fn pod_of(pod: &PodView) -> Pod {
    let is_ready = pod.ready_since.is_some() && pod.phase != Phase::Pending;
    let (phase, start) = match pod.phase {
        Phase::Pending => (HpaPhase::Pending, None),
        Phase::Starting | Phase::Ready | Phase::Draining => (HpaPhase::Running, Some(signed(pod.created))),
    };
    Pod {
        name: name(pod),
        phase,
        deleting: pod.phase == Phase::Draining,
        start_ns: start,
        ready: start.map(|start_ns| ReadyCondition {
            status: if is_ready {
                ConditionStatus::True
            } else {
                ConditionStatus::False
            },
            last_transition_ns: pod.ready_since.map_or(start_ns, signed),
        }),
        containers: vec![Container {
            name: CONTAINER.to_owned(),
            requests: Requests {
                cpu_milli: Some(CPU_REQUEST_MILLI),
                memory_milli: None,
            },
        }],
        pod_level_requests: None,
    }
}

/// Simulated times are far from the ends of either type.
pub fn signed(time: Nanos) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX)
}

pub fn count(replicas: u32) -> i32 {
    i32::try_from(replicas).unwrap_or(i32::MAX)
}
