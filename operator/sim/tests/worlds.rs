//! What holds for every run: a seed decides each byte, policies meet equal luck, and no request or pod gets lost on the way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use tidewright_sim::arrivals::Workload;
use tidewright_sim::generator::Generator;
use tidewright_sim::plant::Phase;
use tidewright_sim::policies;
use tidewright_sim::policy::{Decision, Policy, View};
use tidewright_sim::report::DecisionLog;
use tidewright_sim::run::{self, Unwatched};
use tidewright_sim::scenario::Scenario;
use tidewright_sim::score::Score;
use tidewright_sim::settings::Settings;
use tidewright_sim::time::{MILLISECOND, Nanos, SECOND};

fn workload() -> Workload {
    Workload::Generated(Generator::parse("flash:20:150:20m:10m:1h").unwrap())
}

fn scenario(seed: u64) -> Scenario {
    Scenario {
        seed,
        service_mean: 300 * MILLISECOND,
        slo: SECOND,
        initial_replicas: 3,
        ..Scenario::default()
    }
}

fn scores(name: &str, scenario: &Scenario) -> (Score, String) {
    let workload = workload();
    let mut policy = policies::build(name, Settings::default(), scenario, &workload).unwrap();
    let mut text = Vec::new();
    let mut log = DecisionLog::new(&mut text);
    let score = run::run(scenario, &workload, policy.as_mut(), &mut log).unwrap();
    log.finish().unwrap();
    (score, String::from_utf8(text).unwrap())
}

#[test]
fn a_seed_decides_every_byte() {
    for (name, _) in policies::NAMES {
        let first = scores(name, &scenario(1));
        assert_eq!(first, scores(name, &scenario(1)), "{name}");
        assert_ne!(
            first.0,
            scores(name, &scenario(2)).0,
            "{name}: the seed changes nothing"
        );
    }
}

/// Notes how long each pod took to become ready.
#[derive(Debug)]
struct Starts<P> {
    policy: P,
    took: BTreeMap<u64, Nanos>,
}

impl<P: Policy> Policy for Starts<P> {
    fn period(&self) -> Nanos {
        self.policy.period()
    }

    fn decide(&mut self, view: &View<'_>) -> Decision {
        for pod in view.pods().filter(|pod| pod.phase == Phase::Ready && pod.created > 0) {
            if let Some(since) = pod.ready_since {
                self.took.insert(pod.ordinal, since - pod.created);
            }
        }
        self.policy.decide(view)
    }

    fn restart(&mut self, view: &View<'_>) {
        self.policy.restart(view);
    }
}

/// Adds a pod every minute up to a number.
#[derive(Debug)]
struct Climb {
    to: u32,
}

impl Policy for Climb {
    fn period(&self) -> Nanos {
        60 * SECOND
    }

    fn decide(&mut self, view: &View<'_>) -> Decision {
        Decision::new(self.to.min(view.desired() + 1), "climb")
    }

    fn restart(&mut self, _view: &View<'_>) {}
}

#[test]
fn policies_meet_equal_luck() {
    let (scenario, workload) = (scenario(7), workload());
    let run_to = |to: u32| {
        let mut policy = Starts {
            policy: Climb { to },
            took: BTreeMap::new(),
        };
        let score = run::run(&scenario, &workload, &mut policy, &mut Unwatched).unwrap();
        (score, policy.took)
    };
    let (few, starts_of_few) = run_to(10);
    let (many, starts_of_many) = run_to(25);
    assert!(few.violations > many.violations, "the policies differ");
    assert_eq!(few.arrived_all, many.arrived_all);
    // Work that arrived: the divisor of the cost.
    let work = |score: &Score| score.pod_seconds / score.cost;
    assert!((work(&few) / work(&many) - 1.0).abs() < 1e-12);
    assert_eq!(starts_of_few.len(), 7);
    for (ordinal, took) in starts_of_few {
        assert_eq!(starts_of_many.get(&ordinal), Some(&took), "pod {ordinal}");
    }
}

#[test]
fn every_request_is_served_lost_or_still_there() {
    let mut tight = scenario(3);
    tight.queue_capacity = 40;
    tight.hold = 2 * SECOND;
    tight.drain_grace = 100 * MILLISECOND;
    for (name, _) in policies::NAMES {
        let score = scores(name, &tight).0;
        let accounted = score.served_all + score.lost_all + score.unfinished_all;
        assert_eq!(score.arrived_all, accounted, "{name}");
        assert!(score.refused > 0, "{name}: the queue was never full");
    }
}

#[test]
fn autoscalers_answer_a_flash_crowd() {
    // CPU is censored at full load: it can ask for less than half more at a time.
    let most_late = [
        ("hpa-cpu", 0.5),
        ("hpa-rps", 0.25),
        ("keda", 0.25),
        ("kpa", 0.1),
        ("clairvoyant", 0.01),
    ];
    for (name, most_late) in most_late {
        let score = scores(name, &scenario(1)).0;
        assert!(
            score.max_desired >= 11,
            "{name} asked for {} at most",
            score.max_desired
        );
        assert!(score.actions >= 2, "{name}: {} actions", score.actions);
        // 11.25 pods for a sixth of the hour and 1.5 else: three at the start would be cheaper and late.
        assert!(score.cost < 3.0, "{name}: cost {}", score.cost);
        assert!(score.violations <= most_late, "{name}: violations {}", score.violations);
    }
}

#[test]
fn a_pod_that_is_told_to_end_finishes_its_work() {
    let patient = scores("kpa", &scenario(1)).0;
    assert_eq!(patient.killed, 0);
    let mut hasty = scenario(1);
    hasty.drain_grace = 10 * MILLISECOND;
    let hasty = scores("kpa", &hasty).0;
    assert!(hasty.killed > 0, "services of 300 ms survive a grace of 10 ms");
}

#[test]
fn pods_beyond_the_nodes_wait_until_one_ends() {
    let mut small = scenario(1);
    small.room = 6;
    let (score, log) = scores("hpa-rps", &small);
    assert!(score.max_desired > 6);
    let on_nodes = |line: &str| {
        let fields: Vec<u32> = line
            .split(',')
            .skip(3)
            .take(4)
            .map(|field| field.parse().unwrap())
            .collect();
        (fields[0] + fields[1] + fields[3], fields[2])
    };
    let rows: Vec<(u32, u32)> = log.lines().skip(1).map(on_nodes).collect();
    assert!(rows.iter().all(|(placed, _)| *placed <= 6));
    assert!(rows.iter().any(|(placed, pending)| *placed == 6 && *pending > 0));
}
