//! `target_test.go`, `decider_test.go`, and of `kpa_test.go` what concerns status and activators.

use super::super::SECOND_NS;
use super::super::config::{Config, Revision, ScalingMetric};
use super::super::reconciler::{Activity, PaStatus, activators};
use super::{START_NS, test_config};

#[test]
fn resolve_metric_target() {
    let mut revision = Revision::default();
    let target = |revision: &Revision, fraction| {
        let config = Config {
            container_concurrency_target_fraction: fraction,
            ..Config::default()
        };
        revision.metric_target(&config)
    };
    assert_eq!(target(&revision, 1.0), (100.0, 100.0), "defaults");
    assert_eq!(target(&revision, 0.8), (80.0, 100.0), "default CC + 80% TU");
    for (limit, own, fraction, expected) in [
        (10, None, 0.8, (8.0, 10.0)),
        (1, None, 0.8, (0.8, 1.0)),
        (0, Some(1.0), 0.001, (0.01, 1.0)),
        (0, Some(10.0), 0.75, (7.5, 10.0)),
        (10, Some(1.0), 1.0, (1.0, 1.0)),
        (0, Some(500.0), 1.0, (500.0, 500.0)),
        (1, Some(10.0), 1.0, (1.0, 1.0)),
    ] {
        revision.container_concurrency = limit;
        revision.target = own;
        assert_eq!(
            target(&revision, fraction),
            expected,
            "limit {limit}, target {own:?}, TU {fraction}"
        );
    }
    revision = Revision {
        container_concurrency: 12,
        target_utilization_percentage: Some(75.0),
        ..Revision::default()
    };
    assert_eq!(target(&revision, 0.8), (9.0, 12.0), "TU annotation 75%");
    for (own, percent, expected) in [
        (None, None, (140.0, 200.0)),
        (Some(1.0), None, (0.7, 1.0)),
        (None, Some(75.0), (150.0, 200.0)),
        (Some(300.0), None, (210.0, 300.0)),
    ] {
        revision = Revision {
            metric: ScalingMetric::RequestsPerSecond,
            target: own,
            target_utilization_percentage: percent,
            ..Revision::default()
        };
        assert_eq!(target(&revision, 1.0), expected, "RPS");
    }
}

#[test]
fn make_decider() {
    let config = Config::default();
    let mut revision = Revision::default();
    let spec = revision.decider_spec(&config);
    assert_eq!(
        (spec.target_value, spec.total_value, spec.target_burst_capacity),
        (70.0, 100.0, 211.0)
    );
    assert_eq!(
        (spec.panic_threshold, spec.initial_scale, spec.is_reachable),
        (2.0, 1, true)
    );
    assert_eq!(revision.panic_window_ns(&config), 6 * SECOND_NS);
    revision.window_ns = Some(6 * SECOND_NS);
    assert_eq!(revision.panic_window_ns(&config), SECOND_NS, "at least one bucket");
    for (own, is_allowed, expected) in [
        (None, false, 1),
        (Some(2), false, 2),
        (Some(0), true, 0),
        (Some(0), false, 1),
    ] {
        revision.initial_scale = own;
        let config = Config {
            allow_zero_initial_scale: is_allowed,
            ..Config::default()
        };
        assert_eq!(revision.initial_scale(&config), expected, "initial scale {own:?}");
    }
}

#[test]
fn compute_activator_num() {
    for (name, pods, burst, expected) in [
        ("default", 0, 200.0, 2),
        ("1 pod", 1, 200.0, 3),
        ("tbc = 0", 100, 0.0, 2),
        ("tbc = -1", 5, -1.0, 5),
        ("many pods", 15, 200.0, 17),
    ] {
        let mut spec = Revision::default().decider_spec(&Config::default());
        spec.target_burst_capacity = burst;
        assert_eq!(activators(&spec, pods), expected, "{name}");
    }
}

/// `TestComputeStatus`, and the table above `computeActiveCondition`: (want, ready, least, before) to after.
#[test]
fn compute_status() {
    use Activity::{Activating, Active, Inactive};
    let (config, mut revision) = (test_config(), Revision::default());
    for (name, desired, ready, want, expected) in [
        ("initial", None, 0, 1, 1),
        ("ready", Some(1), 1, 1, 1),
        ("no metrics", Some(2), 2, -1, 2),
    ] {
        let mut status = PaStatus::new(START_NS);
        status.desired_scale = desired;
        status.compute(&config, &revision, want, ready, START_NS);
        assert_eq!(
            (status.actual_scale, status.desired_scale),
            (Some(ready), Some(expected)),
            "{name}"
        );
    }
    let rows = [
        (0, 5, 2, Active, Inactive),
        (0, 0, 2, Activating, Inactive),
        (3, 1, 2, Inactive, Activating),
        (3, 2, 2, Inactive, Active),
        (-1, 1, 2, Inactive, Inactive),
        (-1, 1, 2, Activating, Activating),
        (-1, 1, 2, Active, Activating),
        (-1, 2, 2, Inactive, Inactive),
        (-1, 2, 2, Activating, Active),
        (-1, 2, 2, Active, Active),
    ];
    for (want, ready, least, before, after) in rows {
        revision.min_scale = Some(least);
        let mut status = PaStatus::new(START_NS);
        status.mark(before, "", START_NS);
        status.compute(&config, &revision, want, ready, START_NS + SECOND_NS);
        assert_eq!(status.active.activity, after, "want {want} ready {ready} {before:?}");
        assert_eq!(status.is_scale_target_initialized, ready >= least);
    }
}
