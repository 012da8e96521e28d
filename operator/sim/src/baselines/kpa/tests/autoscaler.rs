//! `autoscaler_test.go`, `multiscaler_test.go`, and bounds that no observation breaks.

use proptest::prelude::*;

use super::super::SECOND_NS;
use super::super::autoscaler::{Autoscaler, DeciderSpec, DeciderStatus, Decision, is_poke};
use super::super::collector::Stat;
use super::super::config::ScalingMetric;
use super::START_NS;

const STABLE_WINDOW_NS: i64 = 60 * SECOND_NS;
const TARGET_UTILIZATION: f64 = 0.75;

fn spec(target: f64, burst: f64) -> DeciderSpec {
    DeciderSpec {
        max_scale_up_rate: 10.0,
        max_scale_down_rate: 10.0,
        metric: ScalingMetric::Concurrency,
        target_value: target,
        total_value: target / TARGET_UTILIZATION,
        target_burst_capacity: burst,
        activator_capacity: 75.0,
        panic_threshold: 2.0,
        stable_window_ns: STABLE_WINDOW_NS,
        scale_down_delay_ns: 0,
        initial_scale: 0,
        is_reachable: true,
        activation_scale: 0,
    }
}

/// An autoscaler that has started with one pod, and the pods that are ready now.
struct Bench {
    spec: DeciderSpec,
    scaler: Autoscaler,
    ready: i32,
}

impl Bench {
    fn new(target: f64, burst: f64) -> Self {
        Self::with(spec(target, burst))
    }

    fn with(spec: DeciderSpec) -> Self {
        let scaler = Autoscaler::new(&spec, Some(1), START_NS);
        Self { spec, scaler, ready: 1 }
    }

    fn scale(&mut self, stable: f64, panic: f64, after_ns: i64) -> Decision {
        let observed = Some((stable, panic));
        self.scaler
            .scale(&self.spec, Some(self.ready), observed, START_NS + after_ns)
            .unwrap()
    }

    /// Checks the pods, and the capacity as `expectedEBC` computes it: within one, for the sake of rounding.
    fn expect(&mut self, observed: (f64, f64), after_ns: i64, pods: i32, what: &str) {
        let decision = self.scale(observed.0, observed.1, after_ns);
        assert_eq!(decision.desired_pods, pods, "{what}");
        let burst = self.spec.target_burst_capacity;
        let expected = match burst {
            _ if burst <= 0.0 => burst,
            _ => (self.spec.target_value / TARGET_UTILIZATION * f64::from(self.ready) - burst - observed.1).floor(),
        };
        let excess = f64::from(decision.excess_burst_capacity);
        assert!(
            (excess - expected).abs() <= 1.0,
            "{what}: {excess} instead of {expected}"
        );
    }
}

#[test]
fn table() {
    // (name, target, burst, observed, ready pods, wanted pods)
    let cases = [
        ("AutoscalerNoDataAtZeroNoAutoscale", 10.0, 100.0, (0.0, 0.0), 1, 0),
        ("AutoscalerStableModeUnlimitedTBC", 181.0, -1.0, (21.0, 26.0), 1, 1),
        ("Autoscaler0TBC", 10.0, 0.0, (50.0, 49.0), 1, 5),
        ("AutoscalerStableModeNoChange", 10.0, 100.0, (50.0, 50.0), 1, 5),
        (
            "AutoscalerStableModeNoChangeAlreadyScaled",
            10.0,
            100.0,
            (50.0, 50.0),
            5,
            5,
        ),
        ("AutoscalerPanicModeDoublePodCount", 10.0, 84.0, (50.0, 100.0), 1, 10),
        (
            "AutoscalerUseOnePodAsMinimumIfEndpointsNotFound",
            10.0,
            81.0,
            (1000.0, 888.0),
            0,
            10,
        ),
    ];
    for (name, target, burst, observed, ready, wanted) in cases {
        let mut bench = Bench::new(target, burst);
        bench.ready = ready;
        bench.expect(observed, 0, wanted, name);
    }
    for (name, observed, wanted) in [
        ("AutoscalerPanicStableLargerThanPanic", (50.0, 30.0), 50),
        ("AutoscalerPanicStableLessThanPanic", (20.0, 30.0), 30),
    ] {
        let mut bench = Bench::new(1.0, 100.0);
        bench.ready = 5;
        bench.scaler.panic_since_ns = Some(START_NS - 5 * SECOND_NS);
        bench.scaler.max_panic_pods = 5;
        bench.expect(observed, 0, wanted, name);
    }
}

#[test]
fn small_rates() {
    let mut bench = Bench::new(1.0, 1982.0);
    bench.spec.max_scale_up_rate = 1.1;
    bench.ready = 2;
    bench.expect((3.0, 3.1), 0, 3, "AutoscalerStableModeIncreaseWithSmallScaleUpRate");
    for (is_reachable, wanted) in [(true, 90), (false, 1)] {
        let mut bench = Bench::new(10.0, 1982.0);
        bench.spec.max_scale_down_rate = 1.1;
        bench.spec.is_reachable = is_reachable;
        bench.ready = 100;
        bench.expect(
            (1.0, 1.0),
            0,
            wanted,
            "AutoscalerStableModeDecreaseWithSmallScaleDownRate, …NonReachable",
        );
    }
}

#[test]
fn stable_mode_increase_and_decrease() {
    let mut bench = Bench::new(10.0, 101.0);
    bench.expect((50.0, 10.0), 0, 5, "StableModeIncreaseWithConcurrencyDefault");
    bench.expect((100.0, 10.0), 0, 10, "StableModeIncreaseWithConcurrencyDefault");
    let mut bench = Bench::new(10.0, 98.0);
    bench.ready = 8;
    bench.expect((100.0, 100.0), 0, 10, "StableModeDecrease");
    bench.expect((50.0, 50.0), 0, 5, "StableModeDecrease");
    let mut bench = Bench::new(10.0, 75.0);
    bench.expect((1.0, 0.0), 0, 1, "StableModeNoTrafficScaleToZero");
    bench.expect((0.0, 0.0), 0, 0, "StableModeNoTrafficScaleToZero");
}

#[test]
fn activation_scale() {
    let mut bench = Bench::new(10.0, 75.0);
    bench.spec.activation_scale = 2;
    bench.expect((0.0, 0.0), 0, 0, "without traffic");
    bench.expect((1.0, 0.0), 0, 2, "with traffic");
}

#[test]
fn unpanic_after_slow_increase() {
    let mut bench = Bench::new(1.0, 98.0);
    bench.ready = 10;
    bench.expect((11.0, 25.0), 0, 25, "jump");
    assert_eq!(bench.scaler.panic_since_ns, Some(START_NS));
    bench.ready = 40;
    bench.expect((30.0, 41.0), STABLE_WINDOW_NS / 2, 41, "half a window later");
    assert_eq!(bench.scaler.panic_since_ns, Some(START_NS));
    bench.ready = 55;
    bench.expect((50.0, 56.0), STABLE_WINDOW_NS + 2 * SECOND_NS, 50, "a window later");
    assert_eq!(bench.scaler.panic_since_ns, None);
}

#[test]
fn extend_panic_window() {
    let mut bench = Bench::new(1.0, 98.0);
    bench.ready = 10;
    bench.expect((11.0, 25.0), 0, 25, "jump");
    bench.ready = 40;
    bench.expect((30.0, 80.0), STABLE_WINDOW_NS / 2, 80, "still surging");
    assert_eq!(bench.scaler.panic_since_ns, Some(START_NS + STABLE_WINDOW_NS / 2));
}

#[test]
fn panic_mode_exponential_track_and_stabilize() {
    let mut bench = Bench::new(1.0, 101.0);
    bench.expect((6.0, 6.0), 0, 6, "6");
    for (index, (ready, load)) in (0_i64..).zip([(6, 36), (36, 216), (216, 1296), (1296, 1296)]) {
        bench.ready = ready;
        bench.expect((f64::from(load), f64::from(load)), index * SECOND_NS, load, "times 6");
    }
    // The last one is not over the threshold and does not renew the panic.
    assert_eq!(bench.scaler.panic_since_ns, Some(START_NS + 2 * SECOND_NS));
}

#[test]
fn panic_then_unpanic_scale_down() {
    let mut bench = Bench::new(10.0, 93.0);
    bench.expect((100.0, 100.0), 0, 10, "start");
    bench.ready = 10;
    bench.expect((100.0, 1000.0), 0, 100, "surge");
    bench.expect((1.0, 1.0), 30 * SECOND_NS, 100, "in panic nothing is taken away");
    bench.expect((1.0, 1.0), 61 * SECOND_NS, 1, "after the stable window");
}

#[test]
fn rate_limits() {
    let mut bench = Bench::new(10.0, 61.0);
    bench.expect((1000.0, 1001.0), 0, 10, "RateLimitScaleUp");
    bench.ready = 10;
    bench.expect((1000.0, 1001.0), 0, 100, "RateLimitScaleUp");
    let mut bench = Bench::new(10.0, 61.0);
    bench.ready = 100;
    bench.expect((1.0, 1.0), 0, 10, "RateLimitScaleDown");
    bench.ready = 10;
    bench.expect((1.0, 1.0), 0, 1, "RateLimitScaleDown");
}

#[test]
fn update_target() {
    let mut bench = Bench::new(10.0, 77.0);
    bench.expect((100.0, 101.0), 0, 10, "10 per pod");
    bench.ready = 10;
    bench.spec = spec(1.0, 71.0);
    bench.expect((100.0, 101.0), 0, 100, "1 per pod");
}

#[test]
fn no_data_or_no_count_is_no_decision() {
    let spec = spec(10.0, 81.0);
    let mut scaler = Autoscaler::new(&spec, Some(1), START_NS);
    assert_eq!(scaler.scale(&spec, Some(1), None, START_NS), None, "NoDataNoAutoscale");
    assert_eq!(
        scaler.scale(&spec, None, Some((1000.0, 888.0)), START_NS),
        None,
        "CantCountPods"
    );
}

#[test]
fn start_in_panic_mode() {
    let spec = spec(100.0, 11.0);
    for (ready, since_ns, pods) in [
        (Some(0), None, 0),
        (Some(1), None, 1),
        (Some(2), Some(START_NS), 2),
        (None, None, 0), // NewFail
    ] {
        let scaler = Autoscaler::new(&spec, ready, START_NS);
        assert_eq!(
            (scaler.panic_since_ns, scaler.max_panic_pods),
            (since_ns, pods),
            "{ready:?}"
        );
    }
}

fn delayed() -> Bench {
    let mut spec = spec(10.0, 0.0);
    spec.panic_threshold = 100.0;
    spec.scale_down_delay_ns = 300 * SECOND_NS;
    Bench::with(spec)
}

#[test]
fn scale_down_delay() {
    let minutes = |minutes: i64| minutes * 60 * SECOND_NS;
    let mut bench = delayed();
    bench.expect((40.0, 40.0), 2 * SECOND_NS, 4, "simple: up");
    bench.expect((0.0, 0.0), minutes(5), 4, "simple: less than the delay");
    bench.expect((0.0, 0.0), minutes(5) + 2 * SECOND_NS, 0, "simple: now down");
    bench.expect((40.0, 40.0), minutes(9), 4, "gradual");
    bench.expect((30.0, 30.0), minutes(10), 4, "gradual: 4 still dominates");
    bench.expect((0.0, 0.0), minutes(11), 4, "gradual: still at 4");
    bench.expect((0.0, 0.0), minutes(14), 3, "gradual: 4 scrolls out");
    bench.expect((0.0, 0.0), minutes(15), 0, "gradual: everything scrolled out");
}

#[test]
fn scale_down_delay_not_reachable_or_zero() {
    let mut bench = delayed();
    bench.expect((40.0, 40.0), 2 * SECOND_NS, 4, "up");
    bench.expect((0.0, 0.0), 60 * SECOND_NS, 4, "less than the delay");
    bench.spec.is_reachable = false;
    bench.expect((0.0, 0.0), 62 * SECOND_NS, 0, "no route leads here");
    let mut spec = spec(10.0, 0.0);
    spec.panic_threshold = 100.0;
    let mut bench = Bench::with(spec);
    bench.expect((40.0, 40.0), 0, 4, "up");
    bench.expect((20.0, 20.0), SECOND_NS / 2, 2, "within one tick, without a delay");
}

#[test]
fn decider_status_and_poke() {
    for (burst, initial, excess) in [
        (-1.0, 1, -1),
        (0.0, 1, 0),
        (211.0, 1, -77),
        (50.0, 1, 83),
        (211.0, 2, 55),
    ] {
        let mut spec = spec(100.0, burst);
        spec.initial_scale = initial;
        let status = DeciderStatus::new(&spec);
        assert_eq!((status.desired_scale, status.excess_burst_capacity), (-1, excess));
    }
    let mut status = DeciderStatus::new(&spec(100.0, 211.0));
    let decision = |desired_pods, excess_burst_capacity| Decision {
        desired_pods,
        excess_burst_capacity,
    };
    assert!(status.update(decision(0, -1)), "another count");
    assert!(!status.update(decision(0, -200)), "the same sign");
    assert!(status.update(decision(0, 0)), "another sign");
    let held = Stat {
        average_concurrent_requests: 1.0,
        ..Stat::default()
    };
    assert!(is_poke(status, held));
    assert!(!is_poke(status, Stat::default()), "nothing is held");
    status.update(decision(1, 0));
    assert!(!is_poke(status, held), "a pod is on its way");
}

proptest! {
    /// The count stays within the rates; in panic it does not fall; and no observation makes anything that is not a count.
    #[test]
    fn decisions_stay_within_the_rates(
        target in 0.01..500.0_f64,
        burst in prop_oneof![Just(-1.0), Just(0.0), 1.0..500.0_f64],
        steps in proptest::collection::vec((0..500_i32, 0.0..1e9_f64, 0.0..1e9_f64, 0..90_i64), 1..40),
    ) {
        let mut bench = Bench::new(target, burst);
        let mut after_ns = 0;
        for (ready, stable, panic, pause) in steps {
            after_ns += pause * SECOND_NS;
            bench.ready = ready;
            let before = bench.scaler.clone();
            let decision = bench.scale(stable, panic, after_ns);
            let pods = ready.max(1);
            prop_assert!(decision.desired_pods >= pods / 10);
            prop_assert!(decision.desired_pods <= (pods * 10).max(bench.scaler.max_panic_pods));
            if bench.scaler.panic_since_ns.is_some() {
                prop_assert!(decision.desired_pods >= before.max_panic_pods);
                prop_assert_eq!(decision.desired_pods, bench.scaler.max_panic_pods);
            } else {
                prop_assert_eq!(bench.scaler.max_panic_pods, if before.panic_since_ns.is_none() { before.max_panic_pods } else { 0 });
            }
        }
    }
}
