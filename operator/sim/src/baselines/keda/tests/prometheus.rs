//! `prometheus_scaler_test.go` (testPromQueryResult), `scaler_test.go` (quantities).

use super::super::object::Prometheus;
use super::super::prometheus::{Answer, Sample, milli, query_time_ns, read, value};

#[test]
fn prometheus_query_result() {
    use Sample::{NoValue, Null, Number, TimeOnly};
    let (ignore, keep) = (true, false);
    let cases: [(&str, Vec<Sample>, bool, Option<f64>); 16] = [
        ("no results, no values", vec![], ignore, Some(0.0)),
        ("no values but shouldn't ignore", vec![], keep, None),
        ("value is empty list", vec![NoValue], ignore, Some(0.0)),
        ("value is empty list but shouldn't ignore", vec![NoValue], keep, None),
        ("valid value", vec![Number(2.0)], ignore, Some(2.0)),
        ("valid value, shouldn't ignore", vec![Number(2.0)], keep, Some(2.0)),
        ("not enough values", vec![TimeOnly], ignore, None),
        ("multiple results", vec![NoValue, NoValue], ignore, None),
        (
            "multiple results with values",
            vec![Number(1.0), Number(2.0)],
            keep,
            None,
        ),
        ("null", vec![Null], keep, Some(-1.0)),
        ("+Inf", vec![Number(f64::INFINITY)], ignore, Some(0.0)),
        ("+Inf but shouldn't ignore", vec![Number(f64::INFINITY)], keep, None),
        ("-Inf", vec![Number(f64::NEG_INFINITY)], ignore, Some(0.0)),
        ("-Inf but shouldn't ignore", vec![Number(f64::NEG_INFINITY)], keep, None),
        ("NaN", vec![Number(f64::NAN)], ignore, Some(0.0)),
        ("NaN but shouldn't ignore", vec![Number(f64::NAN)], keep, None),
    ];
    for (name, samples, ignores, expected) in cases {
        assert_eq!(value(&Ok(samples), ignores).ok(), expected, "{name}");
    }
    let failed: Answer = Err("prometheus query api returned error. status: 400".to_owned());
    assert!(value(&failed, ignore).is_err(), "error status response");
}

/// Active means above the activation threshold, in the value before it is rounded.
#[test]
fn activity_is_above_the_activation_threshold() {
    let mut trigger = Prometheus::new(100.0);
    let active = |trigger: &Prometheus, number| read(trigger, &Ok(vec![Sample::Number(number)])).unwrap().is_active;
    assert!(active(&trigger, 0.000_1));
    assert!(!active(&trigger, 0.0));
    trigger.activation_threshold = 5.0;
    assert!(!active(&trigger, 5.0));
    assert!(active(&trigger, 5.001));
}

#[test]
fn get_metric_target_mili_and_generate_metric_in_mili() {
    let cases = [
        (100.5, 100_500),
        (42.5, 42_500),
        (0.000_4, 0),
        (0.000_6, 1),
        (f64::NAN, 0),
        (f64::INFINITY, 0),
        (-1.0, 0),
        (-1e18, 0),
        (1e18, i64::MAX),
        (9.3e15, i64::MAX),
    ];
    for (number, expected) in cases {
        assert_eq!(milli(number), expected, "{number}");
    }
}

#[test]
fn queries_ask_for_whole_seconds() {
    assert_eq!(query_time_ns(1_999_999_999), 1_000_000_000);
}
