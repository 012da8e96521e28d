//! Small closed loops, reviewed as text: one line per change of the replicas, and the scores.
//!
//! `UPDATE=1 cargo test -p tidewright-sim --test scenarios` writes the goldens anew; the difference is what is to be reviewed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write as _;
use std::path::Path;

use tidewright_sim::arrivals::Workload;
use tidewright_sim::faults::Fault;
use tidewright_sim::generator::Generator;
use tidewright_sim::policies;
use tidewright_sim::run::{self, Moment, Watch};
use tidewright_sim::scenario::Scenario;
use tidewright_sim::settings::Settings;
use tidewright_sim::time::{MILLISECOND, to_seconds};

/// Writes what changes.
struct Changes(String);

impl Watch for Changes {
    fn decided(&mut self, moment: &Moment<'_>) {
        let decided = moment.decision.replicas;
        if decided != moment.desired {
            writeln!(
                self.0,
                "{:>8.1} s  {:>2} -> {:<2}  ready {:>2}, starting {:>2}, waiting {:>4}, in service {:>3}  {}",
                to_seconds(moment.now),
                moment.desired,
                decided,
                moment.count.ready,
                moment.count.starting,
                moment.queued,
                moment.in_service,
                moment.decision.reason
            )
            .unwrap();
        }
    }
}

/// Runs one workload against one policy with these faults, and compares with `tests/golden/<name>.txt`.
fn check(name: &str, arrivals: &str, policy: &str, settings: &[&str], faults: &[&str]) {
    let workload = Workload::Generated(Generator::parse(arrivals).unwrap());
    let mut scenario = Scenario {
        service_mean: 500 * MILLISECOND,
        slo: 2_000 * MILLISECOND,
        max_replicas: 20,
        faults: faults.iter().map(|fault| Fault::parse(fault).unwrap()).collect(),
        ..Scenario::default()
    };
    scenario.initial_replicas = scenario.initial_for(&workload.per_second(scenario.seed));
    let pairs: Vec<String> = settings.iter().map(|pair| (*pair).to_owned()).collect();
    let mut decider = policies::build(policy, Settings::parse(&pairs).unwrap(), &scenario, &workload).unwrap();
    let mut changes = Changes(String::new());
    let score = run::run(&scenario, &workload, decider.as_mut(), &mut changes).unwrap();
    let text = format!(
        "{policy} {settings:?} against {arrivals}, faults {faults:?}, seed {}\n\
         4 slots, 500 ms of service, objective 2000 ms, starts of 30 s, {} pods at the beginning\n\n\
         {}\n\
         violations {:.3} %, p99 {:.0} ms, cost {:.3}, {} actions, {} reversals, {} pods started, lost {}, recovery {:.0} s, {} blind scale-downs\n",
        scenario.seed,
        scenario.initial_replicas,
        changes.0,
        score.violations * 100.0,
        score.p99_ms,
        score.cost,
        score.actions,
        score.reversals,
        score.cold_starts,
        score.lost,
        score.recovery_s,
        score.blind_scale_downs,
    );
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.txt"));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        golden == text,
        "{} differs; UPDATE=1 writes it anew.\n--- expected\n{golden}\n--- got\n{text}",
        path.display()
    );
}

const FLASH: &str = "flash:8:60:10m:5m:25m";

#[test]
fn hpa_on_rate_meets_a_flash_crowd() {
    check("hpa-rps-flash", FLASH, "hpa-rps", &[], &[]);
}

#[test]
fn hpa_on_cpu_meets_a_flash_crowd() {
    check("hpa-cpu-flash", FLASH, "hpa-cpu", &[], &[]);
}

#[test]
fn kpa_meets_a_flash_crowd() {
    check("kpa-flash", FLASH, "kpa", &[], &[]);
}

#[test]
fn keda_goes_to_zero_and_comes_back() {
    let arrivals = "flash:0:4:15m:3m:25m";
    check("keda-zero", arrivals, "keda", &["cooldown=60s"], &[]);
}

#[test]
fn kpa_goes_to_zero_and_is_woken() {
    check("kpa-zero", "flash:0:4:15m:3m:25m", "kpa", &[], &[]);
}

#[test]
fn keda_takes_an_outage_of_the_targets_for_silence() {
    check(
        "keda-targets-lost",
        "poisson:40:30m",
        "keda",
        &[],
        &["targets-lost:1:10m:10m"],
    );
}

#[test]
fn hpa_holds_while_prometheus_is_down() {
    check(
        "hpa-rps-prometheus-down",
        "poisson:40:25m",
        "hpa-rps",
        &[],
        &["prometheus-down:10m:10m"],
    );
}

#[test]
fn half_of_the_pods_die_while_starts_are_slow() {
    let faults = ["slow-start:3:9m:5m", "pods-lost:0.5:10m"];
    check("hpa-rps-pods-lost", "poisson:40:25m", "hpa-rps", &[], &faults);
}

#[test]
fn ours_meets_a_flash_crowd() {
    check("tidewright-flash", FLASH, "tidewright", &["push=true"], &[]);
}

#[test]
fn ours_goes_to_zero_and_is_woken() {
    check("tidewright-zero", "flash:0:4:15m:3m:25m", "tidewright", &[], &[]);
}

#[test]
fn ours_holds_while_prometheus_is_down_and_when_it_is_back() {
    let faults = ["prometheus-down:10m:10m"];
    check(
        "tidewright-prometheus-down",
        "poisson:40:25m",
        "tidewright",
        &[],
        &faults,
    );
}

/// With a window that is much longer than a scrape, and hardly anything else that holds back: at the end of the outage the rate says a sixth.
#[test]
fn ours_does_not_believe_a_window_that_is_not_filled() {
    let quick = ["window=60s", "keep-prior=15", "slow-window=1", "slow-slacks=0"];
    let faults = ["prometheus-down:10m:10m"];
    check("tidewright-window", "poisson:40:25m", "tidewright", &quick, &faults);
}

#[test]
fn ours_takes_an_outage_of_the_targets_for_an_outage() {
    let faults = ["targets-lost:1:10m:10m"];
    check("tidewright-targets-lost", "poisson:40:30m", "tidewright", &[], &faults);
}

#[test]
fn ours_survives_slow_starts_and_dying_pods() {
    let faults = ["slow-start:3:9m:5m", "pods-lost:0.5:10m"];
    check("tidewright-pods-lost", "poisson:40:25m", "tidewright", &[], &faults);
}
