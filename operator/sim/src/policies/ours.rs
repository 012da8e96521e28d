//! Our own decision, the production crate as it is, in the simulated world: it sees what the operator would see, and no more.

use std::collections::VecDeque;

use tidewright_scaling::observation::{self, Observations, Pod, PoolView, Reading, Sample, ServiceTime};
use tidewright_scaling::policy::{
    Balancing, Draft, Fallback, Objective, Pool, Signal, SignalKind, Tuning, default_down_limits,
};
use tidewright_scaling::units::Raw;
use tidewright_scaling::{Moment, Policy as ScalingPolicy, State, step};

use crate::error::{Error, Result};
use crate::metrics::{Absence, Answer, Counter, Gauge};
use crate::plant::{self, DeletionOrder, Phase};
use crate::policy::{Decision, Policy, Pushed, View};
use crate::scenario::Scenario;
use crate::settings::Settings;
use crate::time::{self, MILLISECOND, Nanos, SECOND};

/// Where simulated time begins: a Thursday in 2026, so that moments look like moments.
const EPOCH_MILLIS: u64 = 1_767_225_600_000;
/// Longest window of the fast rate.
const WINDOW_MAX: Nanos = 60 * SECOND;
/// Variability that the service time is taken to have where only sums are measured.
const SERVICE_SCV: f64 = 0.25;
/// Parts of a share of targets, to tell it in whole targets.
const PARTS: f64 = 1000.0;

/// The decision of `tidewright-scaling`.
#[derive(Debug)]
pub struct Ours {
    policy: ScalingPolicy,
    state: State,
    period: Nanos,
    window: Nanos,
    /// Of the rate that is pushed.
    push_window: Nanos,
    /// Whether service times are measured, and requests in service counted by pod.
    is_learning: bool,
    /// Whether the servers push what they know; without it everything comes through Prometheus.
    is_pushed: bool,
    /// What was pushed, back to the beginning of the window.
    pushes: VecDeque<(Nanos, Pushed)>,
}

impl Ours {
    pub fn new(settings: &mut Settings, scenario: &Scenario) -> Result<Self> {
        let is_pushed = settings.take("push", false)?;
        let period = settings.take_span("period", if is_pushed { SECOND } else { scenario.scrape_interval })?;
        let stale_after = settings.take_span("stale-after", (3 * scenario.scrape_interval).max(45 * SECOND))?;
        let tuning = tuning(settings)?;
        let pool = Pool {
            name: "pods".to_owned(),
            replicas_min: scenario.min_replicas.unwrap_or(0),
            replicas_max: scenario.max_replicas,
            slots: scenario.lanes(),
            cost: 1.0,
            service_seconds_prior: time::to_seconds(scenario.work(scenario.service_mean)),
            start_seconds_prior: settings.take_number("start-s", 30.0, 0.1, 3600.0)?,
        };
        let signal = |name: &str, kind| Signal {
            name: name.to_owned(),
            kind,
            stale_after_seconds: time::to_seconds(stale_after),
        };
        let mut signals = vec![
            signal("rate", SignalKind::ArrivalRate),
            signal("queue", SignalKind::Queued),
        ];
        if is_pushed {
            signals.push(signal("pushed-rate", SignalKind::ArrivalRate));
            signals.push(signal("pushed-queue", SignalKind::Queued));
        }
        let objective = Objective {
            latency_seconds: time::to_seconds(scenario.slo),
            late_share: scenario.epsilon,
        };
        let slack = (objective.latency_seconds - pool.service_seconds_prior).max(0.0);
        // Two and a half scrapes, for `rate` needs two samples; up to half of the time that a request may wait.
        let window = time::from_seconds(slack / 2.0)
            .min(WINDOW_MAX)
            .max(scenario.scrape_interval * 5 / 2);
        let policy = Draft {
            pools: vec![pool],
            signals,
            objective,
            // As the operator does, it knows how requests reach pods.
            balancing: match scenario.balancing {
                plant::Balancing::Central => Balancing::Central,
                plant::Balancing::Random => Balancing::Random,
            },
            fallback: Fallback::default(),
            up_limits: Vec::new(),
            down_limits: default_down_limits(),
            tuning,
        }
        .check()
        .map_err(|problem| Error::option("--policy tidewright", problem))?;
        let window = settings.take_span("window", window)?;
        Ok(Self {
            policy,
            state: State::default(),
            period,
            window,
            push_window: settings.take_span("push-window", window)?,
            is_learning: settings.take("learn", true)?,
            is_pushed,
            pushes: VecDeque::new(),
        })
    }

    fn observe(&mut self, view: &View<'_>) -> Observations {
        let now = view.now();
        let window_seconds = time::to_seconds(self.window);
        let rate = view.sum_of_rates(Counter::Arrivals, self.window);
        let mut signals = vec![
            reading(rate, window_seconds, now),
            reading(view.sum_of(Gauge::Queued), 0.0, now),
        ];
        let service = if self.is_pushed {
            let pushed = view.pushed();
            let (rate, service) = self.note(pushed, now);
            signals.push(rate);
            signals.push(pushed.map_or(Err(observation::Absence::QueryFailed), |pushed| {
                Ok(whole(pushed.queued as f64, 0.0, now))
            }));
            service
        } else {
            self.measured(view)
        };
        let is_empty = view.count().active() == 0;
        let held = view.pushed().filter(|_| is_empty);
        Observations {
            signals,
            pools: vec![PoolView {
                replicas: view.desired(),
                pods: view.pods().map(|seen| pod(seen, self.is_learning)).collect(),
                service: service.filter(|_| self.is_learning),
            }],
            held_requests: held.map_or(0, |pushed| pushed.queued as u32),
            ..Observations::default()
        }
    }

    /// Rate and service time from what the servers push.
    fn note(&mut self, pushed: Option<Pushed>, now: Nanos) -> (Reading, Option<ServiceTime>) {
        let Some(pushed) = pushed else {
            return (Err(observation::Absence::QueryFailed), None);
        };
        let last = self.pushes.back().map(|(_, before)| *before);
        self.pushes.push_back((now, pushed));
        while self.pushes.get(1).is_some_and(|(at, _)| *at + self.push_window <= now) {
            self.pushes.pop_front();
        }
        let rate = match self.pushes.front() {
            Some((at, before)) if *at < now => {
                let seconds = time::to_seconds(now - at);
                Ok(whole((pushed.arrived - before.arrived) as f64 / seconds, seconds, now))
            }
            _ => Err(observation::Absence::SeriesMissing),
        };
        let service = last.and_then(|before| {
            let completions = pushed.served - before.served;
            let count = completions as f64;
            let mean = (pushed.service_seconds - before.service_seconds) / count;
            let square = (pushed.service_seconds_squared - before.service_seconds_squared) / count;
            // A variance of a few requests says little.
            let scv = if completions >= 10 {
                (square / (mean * mean) - 1.0).max(0.0)
            } else {
                SERVICE_SCV
            };
            (completions > 0).then_some(ServiceTime {
                mean_seconds: mean,
                scv,
                completions,
            })
        });
        (rate, service)
    }

    /// Service time through Prometheus: busy slot-seconds over completions.
    fn measured(&self, view: &View<'_>) -> Option<ServiceTime> {
        let rate = |counter| {
            let answer = view.sum_of_rates(counter, self.window);
            answer.ok().map(|sample| sample.value)
        };
        let (work, completions) = (rate(Counter::Work)?, rate(Counter::Completions)?);
        Some(ServiceTime {
            mean_seconds: work / completions,
            scv: SERVICE_SCV,
            completions: (completions * time::to_seconds(self.period)) as u64,
        })
    }
}

impl Policy for Ours {
    fn period(&self) -> Nanos {
        self.period
    }

    fn decide(&mut self, view: &View<'_>) -> Decision {
        let seen = self.observe(view);
        let state = std::mem::take(&mut self.state);
        let (decision, state) = step(&self.policy, &seen, state, moment(view.now()));
        self.state = state;
        match decision.pools.first() {
            Some(pool) => Decision::new(pool.to, pool.reason.as_str()),
            None => Decision::new(view.desired(), "no pool"),
        }
    }

    fn restart(&mut self, _view: &View<'_>) {
        self.state = State::default();
        self.pushes.clear();
    }

    fn wake_delay(&self) -> Option<Nanos> {
        Some(100 * MILLISECOND)
    }

    fn deletion_order(&self) -> DeletionOrder {
        DeletionOrder::EmptiestFirst
    }
}

fn moment(now: Nanos) -> Moment {
    Moment::from_millis(EPOCH_MILLIS + now / MILLISECOND)
}

/// From every target, just now.
fn whole(value: f64, window_seconds: f64, now: Nanos) -> Sample {
    Sample {
        value: Raw(value),
        at: moment(now),
        window_seconds,
        targets_up: 1,
        targets_all: 1,
        // Divided by the seconds that were seen, whatever the window should be.
        targets_covered: None,
    }
}

fn reading(answer: Answer, window_seconds: f64, now: Nanos) -> Reading {
    match answer {
        Ok(sample) => Ok(Sample {
            value: Raw(sample.value),
            at: moment(now.saturating_sub(time::from_seconds(sample.age_seconds))),
            window_seconds,
            targets_up: parts(sample.up_share),
            targets_all: PARTS as u32,
            targets_covered: sample.covered_share.map(parts),
        }),
        Err(Absence::Unreachable) => Err(observation::Absence::QueryFailed),
        Err(Absence::Empty { up_share }) if up_share > 0.0 => Err(observation::Absence::SeriesMissing),
        Err(Absence::Empty { .. }) => Err(observation::Absence::NoTargets),
    }
}

/// A share of the targets, in whole ones.
fn parts(share: f64) -> u32 {
    (share * PARTS).round() as u32
}

fn pod(pod: crate::policy::PodView, is_counted: bool) -> Pod {
    Pod {
        id: pod.ordinal,
        created_at: moment(pod.created),
        ready_at: pod.ready_since.map(moment),
        phase: match pod.phase {
            Phase::Pending => observation::Phase::Unschedulable,
            Phase::Starting => observation::Phase::Starting,
            Phase::Ready => observation::Phase::Ready,
            Phase::Draining => observation::Phase::Terminating,
        },
        in_flight: is_counted.then_some(pod.in_flight),
    }
}

/// Each number of the tuning by its name.
fn tuning(settings: &mut Settings) -> Result<Tuning> {
    let standard = Tuning::default();
    let mut take = |name: &str, default: f64| settings.take_number(name, default, 0.0, 1e9);
    Ok(Tuning {
        slow_window_seconds: take("slow-window", standard.slow_window_seconds)?,
        slow_window_slacks: take("slow-slacks", standard.slow_window_slacks)?,
        jump_sigmas: take("jump", standard.jump_sigmas)?,
        jump_sigmas_spare: take("jump-spare", standard.jump_sigmas_spare)?,
        jump_sigmas_overdrawn: take("jump-overdrawn", standard.jump_sigmas_overdrawn)?,
        margin_sigmas: take("margin", standard.margin_sigmas)?,
        miss_price: take("price", standard.miss_price)?,
        miss_price_overdrawn: take("price-overdrawn", standard.miss_price_overdrawn)?,
        late_share_spare: take("share-spare", standard.late_share_spare)?,
        budget_memory_seconds: take("budget-memory", standard.budget_memory_seconds)?,
        budget_prior_seconds: take("budget-prior", standard.budget_prior_seconds)?,
        keep_seconds_min: take("keep-min", standard.keep_seconds_min)?,
        keep_seconds_max: take("keep-max", standard.keep_seconds_max)?,
        keep_seconds_prior: take("keep-prior", standard.keep_seconds_prior)?,
        keep_memory_seconds: take("keep-memory", standard.keep_memory_seconds)?,
        deadband_share: take("deadband", standard.deadband_share)?,
        drain_starts: take("drain", standard.drain_starts)?,
        settle_starts: take("settle", standard.settle_starts)?,
        arrival_scv_min: take("scv-min", standard.arrival_scv_min)?,
        arrival_scv_max: take("scv-max", standard.arrival_scv_max)?,
        relearn_seconds: take("relearn", standard.relearn_seconds)?,
        absurd_factor: take("absurd", standard.absurd_factor)?,
    })
}
