//! `scaler_test.go`: TestScaler, TestDisableScaleToZero; and one way to zero and back.

use super::super::SECOND_NS;
use super::super::autoscaler::DeciderStatus;
use super::super::config::{Config, Revision};
use super::super::reconciler::{Active, Activity, Input, PaStatus, reconcile};
use super::super::scaler::{Mode, Path, Scaled, Scaler, apply_bounds};
use super::{START_NS, test_config};

/// Upstream's: a grace period of 60 s, a stable window of 300 s, a progress deadline of 121 s; an activation may take 30 s more.
///
/// name | replicas, decision, then what differs from a new revision (times in seconds) | wanted scale, whether it is written, whether to look again
const TABLE: &str = "
waits to scale to zero (just before idle period) | 1 0 active=299 | 1 kept again
waits to scale to zero (just before idle period), custom PA window | 1 0 window=45 active=44 | 1 kept again
custom PA window, check for standard window, no probe | 1 0 window=45 active=300 | 0 kept
scale to 1 waiting for idle expires | 10 0 active=299 | 1 written again
waits to scale to zero after idle period | 1 0 active=300 | 0 kept
waits to scale to zero after idle period; sks in proxy mode | 1 0 active=300 proxied=0 | 0 kept again
waits to scale to zero after idle period (custom PA window) | 1 0 window=45 active=45 | 0 kept
can scale to zero after grace period, but 0 PA retention | 1 0 inactive=60 retention=120 own-retention=0 | 0 written
can't scale to zero after grace period, but before last pod retention | 1 0 inactive=60 retention=120 | 0 kept again
can't scale to zero after grace period, but before last pod retention, pa defined | 1 0 inactive=60 own-retention=120 | 0 kept again
scale to zero after grace period, and after last pod retention | 1 0 inactive=60 retention=60 | 0 written
scale to zero after grace period | 1 0 inactive=60 | 0 written
waits to scale to zero (just before grace period) | 1 0 inactive=59 | 0 kept again
waits to scale to zero (just before grace period, sks short) | 1 0 inactive=59 proxied=59 | 0 kept again
waits to scale to zero (just before grace period, sks in proxy long) and last pod timeout positive | 1 0 inactive=59 retention=42 proxied=60 | 0 written
waits to scale to zero (just before grace period, sks in proxy long) | 1 0 inactive=59 proxied=60 | 0 written
scale to zero with TBC=-1 | 1 0 inactive=60 burst=-1 silent=1 | 0 written
scale to zero after grace period, but fail prober | 1 0 inactive=60 silent=1 | 0 kept probe
waits to scale to zero while activating until after deadline exceeded | 1 0 activating=75 | -1 kept again
scale to zero while activating after deadline exceeded | 1 0 activating=152 | 0 written
scale to zero while activating after revision deadline exceeded | 1 0 deadline=5 activating=36 | 0 written
scale down to minScale before grace period | 10 0 min=2 inactive=59 | 2 written
scale down to minScale after grace period | 10 0 min=2 inactive=60 | 2 written
scale to zero ignore last pod retention if revision is unreachable | 1 0 inactive=60 unreachable=1 retention=600 | 0 written
can't scale to zero if revision is unreachable, but before deadline | 1 0 inactive=59 unreachable=1 retention=600 | 0 kept again
ignore minScale if unreachable | 10 0 min=2 inactive=60 unreachable=1 | 0 written
observe minScale if reachability unknown | 10 0 min=2 inactive=60 | 2 written
scales up | 1 10 | 10 written
scales up to maxScale | 1 10 max=8 | 8 written
scale up inactive revision | 1 10 inactive=30 | 10 written
does not scale up from zero with no metrics | 0 -1 inactive=0 | -1 kept
scales up from zero to desired one | 0 1 | 1 written
scales up from zero to desired high scale | 0 10 | 10 written
negative scale does not scale | 12 -1 active=0 | -1 kept
initial scale attained, but now time to scale down | 2 0 active=120 initialized=1 initial=2 | 1 written again
haven't scaled to initial scale, override desired scale with initial scale | 0 1 activating=0 initial=2 | 2 written
initial scale reached for the first time | 5 1 activating=0 initial=5 | 5 kept
reaching initial scale zero | 0 0 inactive=0 initial=0 zero-initial=1 | 0 kept again
unreachable revision with initialScale > 1 can scale to 0 | 2 0 active=120 initial=2 unreachable=1 | 1 written again
EnableScaleToZero == false and minScale == 0 | 10 0 never-zero=1 | 1 written
EnableScaleToZero == false and minScale == 2 | 10 0 never-zero=1 min=2 | 2 written
EnableScaleToZero == false and desire pod is -1(initial value) | 10 -1 never-zero=1 active=0 | -1 kept";

struct Case {
    config: Config,
    revision: Revision,
    status: PaStatus,
    path: Path,
}

impl Case {
    fn new() -> Self {
        Self {
            config: Config {
                scale_to_zero_grace_period_ns: 60 * SECOND_NS,
                stable_window_ns: 300 * SECOND_NS,
                progress_deadline_ns: 121 * SECOND_NS,
                ..test_config()
            },
            revision: Revision::default(),
            status: PaStatus::new(START_NS),
            path: Path {
                mode: Mode::Serve,
                proxy_for_ns: 0,
                is_activator_answering: true,
            },
        }
    }

    fn change(&mut self, key: &str, value: i32) {
        let time_ns = i64::from(value) * SECOND_NS;
        let mut mark = |activity| {
            self.status.active = Active {
                activity,
                reason: "",
                since_ns: START_NS - time_ns,
            };
        };
        match key {
            "active" => mark(Activity::Active),
            "inactive" => mark(Activity::Inactive),
            "activating" => mark(Activity::Activating),
            "initialized" => self.status.is_scale_target_initialized = true,
            "window" => self.revision.window_ns = Some(time_ns),
            "deadline" => self.revision.progress_deadline_ns = Some(time_ns),
            "own-retention" => self.revision.scale_to_zero_pod_retention_period_ns = Some(time_ns),
            "burst" => self.revision.target_burst_capacity = Some(f64::from(value)),
            "min" => self.revision.min_scale = Some(value),
            "max" => self.revision.max_scale = Some(value),
            "initial" => self.revision.initial_scale = Some(value),
            "unreachable" => self.revision.is_reachable = false,
            "retention" => self.config.scale_to_zero_pod_retention_period_ns = time_ns,
            "zero-initial" => self.config.allow_zero_initial_scale = true,
            "never-zero" => self.config.enable_scale_to_zero = false,
            "silent" => self.path.is_activator_answering = false,
            "proxied" => (self.path.mode, self.path.proxy_for_ns) = (Mode::Proxy, time_ns),
            _ => panic!("{key}"),
        }
    }

    fn scale(&self, desired: i32, current: i32) -> Scaled {
        Scaler {
            config: &self.config,
            revision: &self.revision,
            status: &self.status,
            path: self.path,
            now_ns: START_NS,
        }
        .scale(desired, current)
    }
}

#[test]
fn scaler() {
    for row in TABLE.lines().skip(1) {
        let [name, given, expected] = row.split(" | ").collect::<Vec<_>>()[..] else {
            panic!("not a row: {row}");
        };
        let mut given = given.split(' ');
        let mut number = || given.next().unwrap().parse::<i32>().unwrap();
        let (current, desired) = (number(), number());
        let mut case = Case::new();
        for change in given {
            let (key, value) = change.split_once('=').unwrap();
            case.change(key, value.parse().unwrap());
        }
        let scaled = case.scale(desired, current);
        assert!(scaled.write.is_none_or(|written| written == scaled.want), "{name}");
        let mut actual = format!(
            "{} {}",
            scaled.want,
            if scaled.write.is_some() { "written" } else { "kept" }
        );
        actual += if scaled.requeue_after_ns.is_some() {
            " again"
        } else {
            ""
        };
        actual += if scaled.is_probe_wanted { " probe" } else { "" };
        assert_eq!(actual, expected, "{name}");
    }
}

#[test]
fn bounds_of_zero_are_none() {
    assert_eq!(
        [apply_bounds(0, 0, 7), apply_bounds(2, 5, 1), apply_bounds(2, 5, 9)],
        [7, 2, 5]
    );
}

/// A revision without traffic: one pod for the rest of the stable window, then the activator takes over, then zero; a held request wakes it up.
#[test]
fn to_zero_and_back() {
    let mut case = Case::new();
    let spec = case.revision.decider_spec(&case.config);
    let mut replicas = 2;
    let mut pass = |case: &mut Case, desired_scale, after_s: i64| {
        let input = Input {
            now_ns: START_NS + after_s * SECOND_NS,
            current_scale: replicas,
            ready_pods: replicas,
            decider: DeciderStatus {
                desired_scale,
                excess_burst_capacity: 10,
            },
            path: case.path,
        };
        let outcome = reconcile(&case.config, &case.revision, &spec, &mut case.status, input);
        case.path.mode = outcome.mode;
        replicas = outcome.write.unwrap_or(replicas);
        (replicas, outcome.mode, case.status.active.activity)
    };
    assert_eq!(pass(&mut case, 2, 0), (2, Mode::Serve, Activity::Active));
    assert_eq!(pass(&mut case, 0, 299), (1, Mode::Serve, Activity::Active));
    assert_eq!(pass(&mut case, 0, 300), (1, Mode::Proxy, Activity::Inactive));
    assert_eq!(pass(&mut case, 0, 359), (1, Mode::Proxy, Activity::Inactive));
    assert_eq!(pass(&mut case, 0, 360), (0, Mode::Proxy, Activity::Inactive));
    assert_eq!(pass(&mut case, 1, 400), (1, Mode::Serve, Activity::Activating));
}
