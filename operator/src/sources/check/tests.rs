//! Facts, and whether they are a number.

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits {
    max_sample_age: Duration::from_secs(15),
    max_clock_skew: Duration::from_secs(15),
    min_target_share: 0.9,
    pod_grace: Duration::from_secs(20),
    window_grace: Duration::from_secs(50),
};

fn healthy() -> Facts {
    Facts {
        values: vec![12.5],
        age_seconds: Some(3.0),
        reporting_pods: 2,
        covered_pods: Some(2),
        up_pods: 2,
        known_pods: 2,
        up_targets: 2,
        ready_pods: Some(2),
        settled_pods: Some(2),
        window_pods: Some(2),
        ..Facts::default()
    }
}

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn reason(change: impl FnOnce(&mut Facts)) -> Option<Reason> {
    let mut facts = healthy();
    change(&mut facts);
    judge(&facts, &LIMITS, "m", "cpu", now()).err().map(|t| t.reason)
}

#[test]
fn a_number_is_one_only_if_everything_checks_out() {
    let sample = judge(&healthy(), &LIMITS, "m", "cpu", now()).unwrap();
    assert_eq!((sample.value, sample.at), (12.5, now() - SignedDuration::from_secs(3)));

    assert_eq!(reason(|f| f.values = vec![0.0]), None, "an honest zero");
    assert_eq!(reason(|f| f.values = vec![1.0, 1.0]), Some(Reason::Ambiguous));
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(reason(|f| f.values = vec![value]), Some(Reason::NotFinite));
    }
    assert_eq!(reason(|f| f.values = vec![-0.001]), Some(Reason::Negative));
    assert_eq!(reason(|f| f.values = vec![1e308]), Some(Reason::Implausible));
    assert_eq!(reason(|f| f.values = vec![]), Some(Reason::WindowNotFilled));
    assert_eq!(reason(|f| f.age_seconds = Some(16.0)), Some(Reason::StaleSamples));
    assert_eq!(reason(|f| f.age_seconds = Some(-16.0)), Some(Reason::ClockSkew));
    assert_eq!(reason(|f| f.age_seconds = Some(-3.0)), None, "within the skew");
    assert_eq!(
        reason(|f| f.age_seconds = Some(f64::NAN)),
        Some(Reason::AnswerMalformed)
    );
    assert_eq!(reason(|f| f.age_seconds = None), Some(Reason::NoSamples));
    assert_eq!(reason(|f| f.reporting_pods = 1), Some(Reason::PartialTargets));
    assert_eq!(reason(|f| f.up_pods = 1), Some(Reason::PartialTargets));
    assert_eq!(reason(|f| f.up_targets = 4), Some(Reason::DuplicateTargets));
    assert_eq!(reason(|f| f.known_pods = 0), Some(Reason::NoTargets));
    assert_eq!(reason(|f| f.ready_pods = Some(0)), Some(Reason::NoReadyPods));
}

#[test]
fn new_pods_have_time_to_be_scraped() {
    // Three pods just became ready beside the first: only the first is expected.
    let scaled_up = |f: &mut Facts| {
        f.ready_pods = Some(4);
        f.settled_pods = Some(1);
        f.window_pods = Some(1);
        f.covered_pods = Some(1);
        f.known_pods = 4;
        f.up_pods = 1;
        f.up_targets = 1;
        f.reporting_pods = 1;
    };
    assert_eq!(reason(scaled_up), None);
    assert_eq!(
        reason(|f| {
            scaled_up(f);
            f.settled_pods = Some(4);
        }),
        Some(Reason::PartialTargets)
    );
    let nothing_yet = |f: &mut Facts| {
        *f = Facts {
            ready_pods: Some(1),
            settled_pods: Some(0),
            starting: true,
            ..Facts::default()
        };
    };
    assert_eq!(reason(nothing_yet), Some(Reason::WarmingUp));
    assert_eq!(
        reason(|f| {
            nothing_yet(f);
            f.known_pods = 1;
            f.up_pods = 1;
            f.up_targets = 1;
        }),
        Some(Reason::WarmingUp)
    );
}

#[test]
fn a_rate_over_a_window_that_is_not_filled_is_no_number() {
    // Prometheus is back: all targets are up and fresh, and the rate says a third of the truth.
    assert_eq!(reason(|f| f.covered_pods = Some(0)), Some(Reason::WindowNotFilled));
    assert_eq!(reason(|f| f.covered_pods = Some(1)), Some(Reason::WindowNotFilled));
    assert_eq!(
        reason(|f| {
            f.covered_pods = Some(1);
            f.starting = true;
        }),
        Some(Reason::WarmingUp),
        "nobody has waited in vain yet"
    );
    assert_eq!(
        reason(|f| {
            f.covered_pods = Some(0);
            f.window_pods = None;
        }),
        Some(Reason::WindowNotFilled),
        "every target counts while the cluster's view is unknown"
    );
    assert_eq!(reason(|f| f.covered_pods = None), None, "a queue has no window");
    assert_eq!(
        reason(|f| {
            f.covered_pods = Some(0);
            f.window_pods = Some(0);
        }),
        None,
        "new pods count from zero"
    );
}

#[test]
fn a_part_of_the_pods_is_not_all_of_them_after_the_readiness_of_all_flapped() {
    // Ten were ready, none, and ten again: the least number within the grace is none, and Prometheus reaches one.
    let back = |f: &mut Facts| {
        f.ready_pods = Some(10);
        f.settled_pods = Some(0);
        f.window_pods = Some(0);
        f.returned_pods = Some(10);
        f.window_returned_pods = Some(10);
        f.starting = true;
        f.known_pods = 10;
    };
    let seen = |up: u32, covered: u32| {
        reason(|f| {
            back(f);
            f.up_pods = up;
            f.up_targets = up;
            f.reporting_pods = up;
            f.covered_pods = Some(covered);
        })
    };
    assert_eq!(seen(1, 1), Some(Reason::WarmingUp));
    assert_eq!(
        seen(10, 2),
        Some(Reason::WarmingUp),
        "the others were away from Prometheus too"
    );
    assert_eq!(seen(10, 10), None);
    assert_eq!(seen(9, 9), None, "a lost scrape");
}

#[test]
fn without_the_clusters_view_every_target_counts() {
    let unknown = |f: &mut Facts| {
        f.ready_pods = None;
        f.settled_pods = None;
        f.window_pods = None;
    };
    assert_eq!(reason(unknown), None);
    assert_eq!(
        reason(|f| {
            unknown(f);
            f.known_pods = 3;
        }),
        Some(Reason::PartialTargets)
    );
    assert_eq!(
        reason(|f| {
            unknown(f);
            f.known_pods = 0;
        }),
        Some(Reason::WarmingUp),
        "whether there ought to be any is not known"
    );
}

#[test]
fn large_pools_tolerate_a_lost_scrape_and_small_ones_do_not() {
    let of = |expected: u32, up: u32| {
        reason(|f| {
            f.ready_pods = Some(expected);
            f.settled_pods = Some(expected);
            f.window_pods = Some(expected);
            f.covered_pods = Some(up);
            f.known_pods = expected;
            f.up_pods = up;
            f.up_targets = up;
            f.reporting_pods = up;
        })
    };
    assert_eq!(of(20, 18), None);
    assert_eq!(of(20, 17), Some(Reason::PartialTargets));
    assert_eq!(of(2, 1), Some(Reason::PartialTargets));
    assert_eq!(of(1, 1), None);
}

proptest! {
    #[test]
    fn losing_targets_never_lowers_the_value(pods in 1_u32..2000, lost in 0_u32..200, unfilled in 0_u32..200, each in 0.0..1e6_f64) {
        let up = pods.saturating_sub(lost);
        let facts = Facts {
            values: vec![f64::from(up) * each],
            reporting_pods: up,
            covered_pods: Some(up.saturating_sub(unfilled)),
            up_pods: up,
            known_pods: pods,
            up_targets: up,
            ready_pods: Some(pods),
            settled_pods: Some(pods),
            window_pods: Some(pods),
            ..healthy()
        };
        if let Ok(sample) = judge(&facts, &LIMITS, "m", "cpu", now()) {
            prop_assert!(sample.value >= f64::from(pods) * each * (1.0 - 1e-9), "{up} of {pods} pods: {}", sample.value);
            prop_assert!(lost + unfilled > 0 || sample.value <= f64::from(pods) * each * (1.0 + 1e-9));
        }
    }
}
