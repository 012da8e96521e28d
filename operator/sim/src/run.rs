//! The event loop: one world, one policy, in simulated time. An instant settles before anybody decides on it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::arrivals::Workload;
use crate::faults::Kind;
use crate::metrics::{self, Job, Prometheus};
use crate::plane::Plane;
use crate::plant::{Arrived, Count, Fired, Phase, Plant, Request};
use crate::policy::{Decision, Policy, View};
use crate::random::{Purpose, Stream};
use crate::scenario::{Scenario, ServiceTimes};
use crate::score::{Score, Scorer};
use crate::time::{Nanos, SECOND};

/// Who is shown each decision.
pub trait Watch {
    fn decided(&mut self, moment: &Moment<'_>);
}

/// One decision and the world it met.
#[derive(Debug)]
pub struct Moment<'a> {
    pub now: Nanos,
    /// Before the decision.
    pub desired: u32,
    pub decision: &'a Decision,
    pub count: Count,
    pub queued: u64,
    pub in_service: u64,
}

/// Watches nothing.
#[derive(Debug)]
pub struct Unwatched;

impl Watch for Unwatched {
    fn decided(&mut self, _moment: &Moment<'_>) {}
}

/// Resolution of metrics-server.
const USAGE_WINDOW: Nanos = 15 * SECOND;

/// After an outage a rate reads too little until its window, a minute by default, is full again; and the HPA looks every 15 s.
const AFTERMATH: Nanos = 75 * SECOND;

/// What happens at set times. At one instant in this order: the decision comes last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// By its index: begins, ends.
    Fault(usize, bool),
    /// The resource metrics' window closes.
    Usage,
    /// A second of the KPA's plane closes.
    Second,
    Scrape(Job, u64, u32),
    /// A policy that is told about held requests looks.
    Wake,
    Decide,
}

struct World<'a> {
    scenario: &'a Scenario,
    plant: Plant,
    prometheus: Prometheus,
    plane: Plane,
    scorer: Scorer,
    agenda: BinaryHeap<Reverse<(Nanos, Event)>>,
    /// Begun and not ended, by index.
    active: Vec<bool>,
    wakes: bool,
    /// Metrics are not whole again before.
    blind_until: Nanos,
    /// Replicas when the last fault of that kind began.
    desired_before: u32,
    policy: &'a mut dyn Policy,
    watch: &'a mut dyn Watch,
}

/// Runs a workload against a policy. `None` only where [`Scorer::new`] says so.
pub fn run(scenario: &Scenario, workload: &Workload, policy: &mut dyn Policy, watch: &mut dyn Watch) -> Option<Score> {
    let end = workload.seconds() * SECOND;
    let mut world = World {
        scenario,
        plant: Plant::new(scenario.plant(), scenario.initial_replicas),
        prometheus: Prometheus::new(scenario.scrapes()),
        plane: Plane::default(),
        scorer: Scorer::new(scenario.terms(end), scenario.initial_replicas)?,
        agenda: BinaryHeap::new(),
        active: vec![false; scenario.faults.len()],
        wakes: false,
        blind_until: 0,
        desired_before: 0,
        policy,
        watch,
    };
    world.begin(workload);
    world.turn(workload, end);
    let World {
        mut plant, mut scorer, ..
    } = world;
    plant.finish(end, &mut scorer);
    let unfinished: Vec<Nanos> = plant.unfinished().collect();
    Some(scorer.finish(end, plant.totals(), unfinished.into_iter()))
}

impl World<'_> {
    fn at(&mut self, at: Nanos, event: Event) {
        self.agenda.push(Reverse((at, event)));
    }

    fn begin(&mut self, workload: &Workload) {
        let needs_peak = |fault: &crate::faults::Fault| fault.start == crate::faults::Start::Peak;
        let peak = if self.scenario.faults.iter().any(needs_peak) {
            self.scenario.peak(workload)
        } else {
            0
        };
        for (index, fault) in self.scenario.faults.iter().enumerate() {
            let (start, end) = fault.span(peak);
            self.agenda.push(Reverse((start, Event::Fault(index, true))));
            self.agenda.push(Reverse((end, Event::Fault(index, false))));
        }
        for gateway in 0..self.scenario.gateways {
            let at = self.prometheus.first_scrape((Job::Gateway, gateway), 0);
            self.at(at, Event::Scrape(Job::Gateway, gateway, 0));
        }
        let phase = Stream::new(self.scenario.seed, Purpose::Phase).part(u64::MAX);
        let period = self.policy.period();
        self.at((phase.uniform(0) * period as f64) as Nanos, Event::Decide);
        self.at((phase.uniform(1) * USAGE_WINDOW as f64) as Nanos, Event::Usage);
        self.at(SECOND, Event::Second);
    }

    /// Until `end`. Requests first, then pods, then the agenda, at each instant.
    fn turn(&mut self, workload: &Workload, end: Nanos) {
        let mut arrivals = workload.arrivals(self.scenario.seed);
        let times = ServiceTimes::new(self.scenario);
        let mut number = 0;
        loop {
            let arrival = arrivals.peek();
            let completion = self.plant.next_completion();
            let timer = self.plant.next_timer();
            let agenda = self.agenda.peek().map_or(end, |Reverse((at, _))| *at);
            let expiry = self.plant.next_expiry();
            let requests = arrival.min(completion).min(expiry);
            let others = timer.min(agenda);
            if requests.min(others) >= end {
                return;
            }
            if requests <= others {
                if completion == requests {
                    self.plant.complete(completion, &mut self.scorer);
                } else if arrival == requests {
                    let service = times.of(number);
                    number += 1;
                    arrivals.advance();
                    self.arrive(arrival, service);
                } else {
                    self.plant.expire(expiry, &mut self.scorer);
                }
            } else if timer == others {
                self.fire_timer(timer);
            } else if let Some(Reverse((at, event))) = self.agenda.pop() {
                self.happen(at, event);
            }
        }
    }

    #[inline]
    fn arrive(&mut self, now: Nanos, service: Nanos) {
        self.scorer.arrived(now, self.scenario.work(service));
        let request = Request { arrived: now, service };
        let arrived = self.plant.arrive(now, request, &mut self.scorer);
        if arrived == Arrived::Waits
            && self.plant.desired() == 0
            && !self.wakes
            && let Some(delay) = self.policy.wake_delay()
        {
            self.wakes = true;
            self.at(now + delay, Event::Wake);
        }
    }

    fn fire_timer(&mut self, now: Nanos) {
        if let Some(Fired::Ready { ordinal, place }) = self.plant.fire_timer(now, &mut self.scorer) {
            let at = self.prometheus.first_scrape((Job::Pod, ordinal), now);
            self.at(at, Event::Scrape(Job::Pod, ordinal, place));
        }
    }

    fn happen(&mut self, now: Nanos, event: Event) {
        match event {
            Event::Fault(index, begins) => self.fault(index, begins, now),
            Event::Usage => {
                self.plant.report_usage(now);
                self.at(now + USAGE_WINDOW, Event::Usage);
            }
            Event::Second => {
                self.plane.close(&self.plant, now);
                self.at(now + SECOND, Event::Second);
            }
            Event::Scrape(job, number, place) => self.scrape(job, number, place, now),
            Event::Wake => {
                self.wakes = false;
                self.decide(now);
            }
            Event::Decide => {
                self.decide(now);
                self.at(now + self.policy.period(), Event::Decide);
            }
        }
    }

    fn scrape(&mut self, job: Job, number: u64, place: u32, now: Nanos) {
        let target = (job, number);
        let values = match job {
            Job::Gateway => Some(self.prometheus.gateway_values(
                number,
                self.plant.totals().arrived,
                self.plant.queued(),
                self.plant.in_service(),
            )),
            Job::Pod => self.plant.pod(place, number).map(|pod| metrics::pod_values(pod, now)),
        };
        match values {
            Some(values) => {
                self.prometheus.scrape(target, now, values);
                self.at(self.prometheus.next_scrape(now), Event::Scrape(job, number, place));
            }
            None => self.prometheus.retire(target, now),
        }
    }

    fn decide(&mut self, now: Nanos) {
        let view = View {
            now,
            plant: &self.plant,
            prometheus: &self.prometheus,
            plane: &self.plane,
            push_arrives: !self.is_active(|kind| kind == Kind::PushDown),
        };
        let decision = self.policy.decide(&view);
        let desired = self.plant.desired();
        self.watch.decided(&Moment {
            now,
            desired,
            decision: &decision,
            count: self.plant.count(),
            queued: self.plant.queued(),
            in_service: self.plant.in_service(),
        });
        // Whatever a policy answers, the user's maximum holds.
        let replicas = decision.replicas.min(self.scenario.max_replicas);
        if replicas != desired {
            // What was built because of a fault may go again after it; what was there before may not.
            let blind = self.is_active(Kind::blinds) || (now < self.blind_until && replicas < self.desired_before);
            self.scorer.changed(now, desired, replicas, blind);
            let created = self.plant.scale(replicas, self.policy.deletion_order(), now);
            self.scorer.created(now, created);
        }
    }

    fn is_active(&self, matches: impl Fn(Kind) -> bool) -> bool {
        self.active
            .iter()
            .zip(&self.scenario.faults)
            .any(|(active, fault)| *active && matches(fault.kind))
    }

    fn fault(&mut self, index: usize, begins: bool, now: Nanos) {
        if begins && self.scenario.faults[index].kind.blinds() && !self.is_active(Kind::blinds) {
            self.desired_before = self.plant.desired();
        }
        self.active[index] = begins;
        if !begins && self.scenario.faults[index].kind.blinds() {
            self.blind_until = now + AFTERMATH;
        }
        // Of several of a kind that overlap, the strongest counts.
        let strongest = |value: fn(Kind) -> Option<f64>| {
            self.active
                .iter()
                .zip(&self.scenario.faults)
                .filter(|(active, _)| **active)
                .filter_map(|(_, fault)| value(fault.kind))
                .reduce(f64::max)
        };
        match self.scenario.faults[index].kind {
            Kind::PrometheusDown => self
                .prometheus
                .set_down(self.is_active(|kind| kind == Kind::PrometheusDown)),
            Kind::Nan => self.prometheus.set_nan(self.is_active(|kind| kind == Kind::Nan)),
            Kind::TargetsLost { .. } => {
                let share = strongest(|kind| match kind {
                    Kind::TargetsLost { share } => Some(share),
                    _ => None,
                });
                self.prometheus.set_lost_share(share.unwrap_or(0.0));
            }
            Kind::SlowStart { .. } => {
                let factor = strongest(|kind| match kind {
                    Kind::SlowStart { factor } => Some(factor),
                    _ => None,
                });
                self.plant.set_start_factor(factor.unwrap_or(1.0));
            }
            Kind::PodsLost { share } if begins => self.lose_pods(share, now),
            Kind::ControllerRestart if begins => {
                let view = View {
                    now,
                    plant: &self.plant,
                    prometheus: &self.prometheus,
                    plane: &self.plane,
                    push_arrives: !self.is_active(|kind| kind == Kind::PushDown),
                };
                self.policy.restart(&view);
            }
            // Who asks for pushed sums looks at `active`; the others have no end.
            Kind::PushDown | Kind::PodsLost { .. } | Kind::ControllerRestart => {}
        }
    }

    fn lose_pods(&mut self, share: f64, now: Nanos) {
        let chance = Stream::new(self.scenario.seed, Purpose::Fault);
        let mut all: Vec<(u64, u32)> = self
            .plant
            .pods()
            .filter(|(_, pod)| pod.phase != Phase::Pending)
            .map(|(place, pod)| (chance.bits(pod.ordinal), place))
            .collect();
        all.sort_unstable();
        let lost = (share * all.len() as f64).ceil() as usize;
        let places: Vec<u32> = all.into_iter().take(lost).map(|(_, place)| place).collect();
        let created = self.plant.kill(&places, now, &mut self.scorer);
        self.scorer.created(now, created);
    }
}
