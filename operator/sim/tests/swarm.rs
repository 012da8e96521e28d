//! Random worlds with random faults: what must hold at every decision and at the end, and that queues drain once the faults are over.
//!
//! A failing seed is in the message; [`world`] of it is the whole case.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use tidewright_sim::arrivals::Workload;
use tidewright_sim::faults::Fault;
use tidewright_sim::generator::Generator;
use tidewright_sim::plant::{Balancing, Service, StartModel};
use tidewright_sim::policies;
use tidewright_sim::random::{Purpose, Sequence, Stream};
use tidewright_sim::run::{self, Moment, Watch};
use tidewright_sim::scenario::Scenario;
use tidewright_sim::settings::Settings;
use tidewright_sim::time::{MILLISECOND, SECOND};

const SEEDS: u64 = 150;

struct Dice(Sequence);

impl Dice {
    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.0.uniform()
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[(self.between(0.0, choices.len() as f64) as usize).min(choices.len() - 1)]
    }
}

/// Everything happens in the first 40 minutes of 90; the load can be carried by half of the pods that are allowed.
fn world(seed: u64) -> (Scenario, Workload, &'static str) {
    let mut dice = Dice(Sequence::new(Stream::new(seed, Purpose::Fault)));
    let service = if dice.between(0.0, 1.0) < 0.25 {
        Service::Batch {
            alpha: 100 * MILLISECOND,
            beta: 20 * MILLISECOND,
            max: dice.one_of(&[4, 8, 16]),
        }
    } else {
        Service::Slots(dice.one_of(&[1, 2, 4, 16]))
    };
    let mut scenario = Scenario {
        seed,
        service,
        service_mean: match service {
            Service::Batch { alpha, beta, .. } => alpha + beta,
            Service::Slots(_) => (dice.between(50.0, 2_000.0) * MILLISECOND as f64) as u64,
        },
        service_cv: dice.between(0.0, 1.5),
        start: dice.one_of(&[
            StartModel::Mixture,
            StartModel::Median {
                median: 10 * SECOND,
                warm_share: 0.15,
            },
        ]),
        min_replicas: dice.one_of(&[None, Some(1), Some(2)]),
        max_replicas: dice.one_of(&[4, 10, 40]),
        scrape_interval: dice.one_of(&[1, 5, 15, 30]) * SECOND,
        scrape_failure: dice.one_of(&[0.0, 0.0, 0.1]),
        gateways: dice.one_of(&[1, 3]),
        queue_capacity: dice.one_of(&[10, 1_000, 100_000]),
        hold: dice.one_of(&[5, 60, 300]) * SECOND,
        drain_grace: dice.one_of(&[0, 30, 300]) * SECOND,
        ..Scenario::default()
    };
    scenario.slo = scenario.service_mean * 4;
    if matches!(service, Service::Slots(_)) && seed.is_multiple_of(3) {
        scenario.balancing = Balancing::Random;
    }
    scenario.initial_replicas = scenario.min_replicas.unwrap_or(1);
    scenario.room = if dice.between(0.0, 1.0) < 0.3 {
        scenario.max_replicas * 3 / 4
    } else {
        u32::MAX
    };
    let full = f64::from(scenario.lanes() * scenario.max_replicas) * SECOND as f64
        / scenario.work(scenario.service_mean) as f64;
    let rate = (full * dice.between(0.02, 0.3)).min(200.0);
    let form = dice.one_of(&["poisson", "gamma", "diurnal", "flash"]);
    let text = match form {
        "gamma" => format!("gamma:{rate}:{}:90m", dice.between(0.5, 3.0)),
        "diurnal" => format!("diurnal:{rate}:0.6:30m:90m"),
        "flash" => format!("flash:{}:{}:20m:5m:90m", rate * 0.5, rate * 4.0),
        _ => format!("poisson:{rate}:90m"),
    };
    for _ in 0..dice.one_of(&[0, 1, 3]) {
        let start = dice.between(0.0, 1_800.0);
        let length = dice.between(10.0, 600.0);
        let share = dice.between(0.1, 1.0);
        let fault = match dice.one_of(&[0, 1, 2, 3, 4, 5, 6]) {
            0 => format!("prometheus-down:{start}:{length}"),
            1 => format!("targets-lost:{share}:{start}:{length}"),
            2 => format!("nan:{start}:{length}"),
            3 => format!("push-down:{start}:{length}"),
            4 => format!("slow-start:{}:{start}:{length}", 1.0 + share * 5.0),
            5 => format!("pods-lost:{share}:{start}"),
            _ => format!("controller-restart:{start}"),
        };
        scenario.faults.push(Fault::parse(&fault).unwrap());
    }
    scenario.check(5_400).unwrap();
    // Not the clairvoyant: it simulates every world dozens of times.
    let names = policies::NAMES.map(|(name, _)| name);
    let mut policy = dice.one_of(&names);
    if policy == "clairvoyant" {
        policy = "fixed";
    }
    (scenario, Workload::Generated(Generator::parse(&text).unwrap()), policy)
}

/// Holds the invariants at every decision.
struct Invariants<'a> {
    scenario: &'a Scenario,
    case: String,
    last: u64,
}

impl Watch for Invariants<'_> {
    fn decided(&mut self, moment: &Moment<'_>) {
        let (case, scenario, count) = (&self.case, self.scenario, moment.count);
        assert!(moment.now >= self.last, "{case}: time goes back");
        self.last = moment.now;
        let replicas = moment.decision.replicas;
        assert!(replicas <= scenario.max_replicas, "{case}: {replicas} replicas");
        assert!(
            replicas >= scenario.min_replicas.unwrap_or(0),
            "{case}: {replicas} replicas"
        );
        assert_eq!(count.active(), moment.desired, "{case}: pods are not those asked for");
        let placed = u64::from(count.ready + count.starting + count.draining);
        assert!(placed <= u64::from(scenario.room), "{case}: {placed} pods on nodes");
        assert!(
            count.pending == 0 || placed == u64::from(scenario.room),
            "{case}: a pod waits though there is room"
        );
        let slots = u64::from(scenario.service.slots()) * u64::from(count.ready + count.draining);
        assert!(
            moment.in_service <= slots,
            "{case}: {} in {slots} slots",
            moment.in_service
        );
        if scenario.balancing == Balancing::Random {
            // Pods hold any number, and chance leaves slots free beside them.
            return;
        }
        assert!(
            moment.queued <= scenario.queue_capacity as u64,
            "{case}: {} wait",
            moment.queued
        );
        if matches!(scenario.service, Service::Slots(_)) && count.draining == 0 && moment.queued > 0 {
            assert_eq!(moment.in_service, slots, "{case}: requests wait beside free slots");
        }
    }
}

#[test]
fn random_worlds_keep_their_invariants_and_recover() {
    for seed in 0..SEEDS {
        let (scenario, workload, name) = world(seed);
        let case = format!("seed {seed}, {name}, {scenario:?}, {workload:?}");
        let mut policy = policies::build(name, Settings::default(), &scenario, &workload).unwrap();
        let mut watch = Invariants {
            scenario: &scenario,
            case: case.clone(),
            last: 0,
        };
        let score = run::run(&scenario, &workload, policy.as_mut(), &mut watch).unwrap();
        let accounted = score.served_all + score.lost_all + score.unfinished_all;
        assert_eq!(score.arrived_all, accounted, "{case}");
        assert!((0.0..=1.0).contains(&score.violations), "{case}: {}", score.violations);
        assert!(
            score.p50_ms <= score.p99_ms && score.p99_ms <= score.p999_ms,
            "{case}: {score:?}"
        );
        assert_eq!(score.lost, score.refused + score.expired + score.killed, "{case}");
        assert!(score.reversals <= score.actions, "{case}");
        if name != "fixed" {
            // Liveness: what is in the system 40 quiet minutes later fits into the pods that are allowed.
            let fits = u64::from(scenario.service.slots() * scenario.max_replicas);
            assert!(
                score.unfinished_all <= fits,
                "{case}: {} unfinished",
                score.unfinished_all
            );
        }
    }
}
