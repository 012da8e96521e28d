//! The plant against closed forms: waiting times of M/M/c, M/D/1 and M/G/1 queues, and the load of a batch server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use tidewright_sim::arrivals::Workload;
use tidewright_sim::generator::Generator;
use tidewright_sim::plant::{Balancing, Service};
use tidewright_sim::policies;
use tidewright_sim::run::{self, Unwatched};
use tidewright_sim::scenario::{Scenario, ServiceLaw};
use tidewright_sim::score::Score;
use tidewright_sim::settings::Settings;
use tidewright_sim::time::{MILLISECOND, NEVER, SECOND};

/// Pods of `slots` slots under Poisson arrivals that load them to `utilisation`, for about a million requests of 100 ms.
fn run(pods: u32, slots: u32, utilisation: f64, law: ServiceLaw, cv: f64) -> Score {
    let rate = utilisation * f64::from(pods * slots) * 10.0;
    let seconds = 1_000_000.0 / rate;
    let workload = Workload::Generated(Generator::parse(&format!("poisson:{rate}:{seconds:.0}")).unwrap());
    let scenario = Scenario {
        service: Service::Slots(slots),
        service_mean: 100 * MILLISECOND,
        service_cv: cv,
        service_law: law,
        initial_replicas: pods,
        max_replicas: pods,
        queue_capacity: usize::MAX,
        hold: NEVER,
        ..Scenario::default()
    };
    let mut policy = policies::build("fixed", Settings::default(), &scenario, &workload).unwrap();
    run::run(&scenario, &workload, policy.as_mut(), &mut Unwatched).unwrap()
}

/// Probability of waiting in M/M/m with `offered` Erlang.
fn erlang_c(m: u32, offered: f64) -> f64 {
    let b = (1..=m).fold(1.0, |b, k| offered * b / (f64::from(k) + offered * b));
    b / (1.0 - offered / f64::from(m) * (1.0 - b))
}

fn assert_near(what: &str, value: f64, expected: f64, tolerance: f64) {
    assert!(
        (value / expected - 1.0).abs() < tolerance,
        "{what}: {value:.3}, closed form {expected:.3}"
    );
}

#[test]
fn the_mean_wait_of_exponential_service_is_erlangs() {
    for (pods, slots, utilisation) in [(1, 1, 0.7), (1, 4, 0.8), (5, 4, 0.9)] {
        let score = run(pods, slots, utilisation, ServiceLaw::Exponential, 1.0);
        let m = pods * slots;
        let offered = utilisation * f64::from(m);
        // W = C(m, a) S / (m - a).
        let wait_ms = erlang_c(m, offered) * 100.0 / (f64::from(m) - offered);
        let what = format!("{pods} pods of {slots} at {utilisation}");
        assert_near(&what, score.mean_ms - 100.0, wait_ms, 0.05);
        assert_near(&format!("{what}, cost"), score.cost, 1.0 / utilisation, 0.01);
    }
}

#[test]
fn the_tail_of_one_exponential_server_is_exponential() {
    let score = run(1, 1, 0.5, ServiceLaw::Exponential, 1.0);
    // Latency is exponential with rate mu - lambda = 5/s.
    assert_near("p50", score.p50_ms, 2.0_f64.ln() / 5.0 * 1_000.0, 0.03);
    assert_near("p99", score.p99_ms, 100.0_f64.ln() / 5.0 * 1_000.0, 0.03);
    // P(latency > 4 s): none; P(latency > x) is exp(-5 x), so that the objective of 4 s is never missed by much.
    assert!(score.violations < 1e-6, "{}", score.violations);
}

#[test]
fn the_mean_wait_of_one_general_server_is_pollaczeks_and_khinchines() {
    for (utilisation, cv) in [(0.7, 0.0), (0.8, 0.0), (0.7, 0.5)] {
        let score = run(1, 1, utilisation, ServiceLaw::LogNormal, cv);
        let wait_ms = utilisation * 100.0 * (1.0 + cv * cv) / (2.0 * (1.0 - utilisation));
        let what = format!("M/G/1 at {utilisation}, cv {cv}");
        assert_near(&what, score.mean_ms - 100.0, wait_ms, 0.04);
    }
}

#[test]
fn behind_a_service_each_pod_is_a_queue_of_its_own() {
    let workload = Workload::Generated(Generator::parse("poisson:35:8h").unwrap());
    let scenario = Scenario {
        service: Service::Slots(1),
        balancing: Balancing::Random,
        service_mean: 100 * MILLISECOND,
        service_law: ServiceLaw::Exponential,
        initial_replicas: 5,
        max_replicas: 5,
        ..Scenario::default()
    };
    let mut policy = policies::build("fixed", Settings::default(), &scenario, &workload).unwrap();
    let score = run::run(&scenario, &workload, policy.as_mut(), &mut Unwatched).unwrap();
    // Five times M/M/1 at 0.7, whose latency is exponential with the mean S / (1 - 0.7); one queue for all five would make it 118 ms.
    assert_near("mean", score.mean_ms, 100.0 / 0.3, 0.05);
    assert_near("p99", score.p99_ms, 100.0_f64.ln() * 100.0 / 0.3, 0.08);
    assert_eq!(
        (score.lost_all, score.arrived_all),
        (0, score.served_all + score.unfinished_all)
    );
}

#[test]
fn a_saturated_batch_server_serves_full_batches() {
    // A batch of 8 takes 40 + 8 x 5 = 80 ms: 100 a second. 95 arrive.
    let workload = Workload::Generated(Generator::parse("poisson:95:1h").unwrap());
    let scenario = Scenario {
        service: Service::Batch {
            alpha: 40 * MILLISECOND,
            beta: 5 * MILLISECOND,
            max: 8,
        },
        service_mean: 45 * MILLISECOND,
        service_cv: 0.0,
        slo: SECOND,
        initial_replicas: 1,
        max_replicas: 1,
        ..Scenario::default()
    };
    let mut policy = policies::build("fixed", Settings::default(), &scenario, &workload).unwrap();
    let score = run::run(&scenario, &workload, policy.as_mut(), &mut Unwatched).unwrap();
    assert_eq!(score.lost_all, 0);
    assert_near("cost", score.cost, 1.0 / 0.95, 0.02);
    assert!(score.mean_ms > 80.0 && score.mean_ms < 400.0, "{}", score.mean_ms);
}
