//! `bucketing_test.go`, `max/timewindow_test.go`, `sample_size_test.go`, and the collector over them.

use super::super::SECOND_NS;
use super::super::buckets::{Buckets, newest_weight};
use super::super::collector::{Collector, Stat, sample_size, scraped};
use super::super::config::{Config, Revision, ScalingMetric};
use super::super::delay::MaxWindow;
use super::START_NS;

fn at(seconds: f64) -> i64 {
    START_NS + (seconds * SECOND_NS as f64) as i64
}

fn close(actual: f64, expected: f64, what: &str) {
    assert!(
        (actual - expected).abs() < 1e-6,
        "{what}: {actual} instead of {expected}"
    );
}

#[test]
fn compute_decay_multiplier() {
    for (buckets, weight) in [(100, 0.2), (60, 0.2), (40, 0.205_67), (6, 0.784_56)] {
        assert!((newest_weight(buckets) - weight).abs() < 1e-4, "{buckets}");
    }
}

#[test]
fn timed_float64_buckets_window_average() {
    let mut buckets = Buckets::linear(5 * SECOND_NS);
    assert!(buckets.is_empty(START_NS));
    buckets.record(at(0.0), 1.0);
    close(buckets.average(at(0.0)), 1.0, "from the first write on");
    for second in [1.0, 2.0, 3.0, 4.0] {
        buckets.record(at(second), second + 1.0);
    }
    close(buckets.average(at(4.0)), 3.0, "full");
    close(buckets.average(at(3.6)), 3.0, "now lags behind");
    close(buckets.average(at(6.0)), (15.0 - 1.0 - 2.0) / 3.0, "short hole");
    close(buckets.average(at(10.0)), 0.0, "long hole");
    buckets.record(at(6.0), 91.0);
    close(
        buckets.average(at(6.0)),
        (15.0 - 1.0 - 2.0 + 91.0) / 5.0,
        "write with holes",
    );

    buckets.record(at(60.0), 1984.0);
    close(buckets.average(at(60.0)), 1984.0, "much farther");
    buckets.record(at(57.0), 4.0);
    close(buckets.average(at(60.0)), (4.0 + 1984.0) / 4.0, "an earlier time");
    buckets.record(at(61.0), 5.0);
    close(buckets.average(at(61.0)), (4.0 + 1984.0 + 5.0) / 5.0, "one more second");
    buckets.record(at(58.0), 10.0);
    let full = (4.0 + 10.0 + 1984.0 + 5.0) / 5.0;
    close(buckets.average(at(61.0)), full, "an earlier time again");
    buckets.record(at(55.0), 10.0);
    close(buckets.average(at(61.0)), full, "too early");
    buckets.record(at(56.0), 10.0);
    close(buckets.average(at(61.0)), full, "just too early");
    buckets.record(at(66.0), 10.0);
    close(buckets.average(at(66.0)), 10.0, "nothing for exactly a window");
    assert!(!buckets.is_empty(at(71.0)) && buckets.is_empty(at(72.0)));
}

#[test]
fn timed_float64_buckets_many_reps() {
    for order in [[0, 1, 2, 3, 4], [0, 3, 2, 1, 4]] {
        let mut buckets = Buckets::linear(60 * SECOND_NS);
        for (value, second) in (0..).zip(order) {
            for step in 0..5 {
                buckets.record(at(f64::from(second)), f64::from(value + step));
            }
        }
        close(buckets.average(at(4.0)), 100.0 / 5.0, "in any order");
    }
}

#[test]
fn descending_record() {
    let mut buckets = Buckets::linear(5 * SECOND_NS);
    for second in (0..=8).rev() {
        buckets.record(at(f64::from(second)), 5.0);
    }
    close(buckets.average(at(5.0)), 5.0, "backwards");
}

#[test]
fn timed_float64_buckets_weighted_average() {
    let mut buckets = Buckets::exponential(5 * SECOND_NS);
    let newest = newest_weight(5);
    let older = 1.0 - newest;
    buckets.record(at(0.0), 2.0);
    close(buckets.average(at(0.0)), 2.0 * newest, "one value");
    close(buckets.average(at(1.0)), 2.0 * newest * older, "a second later");
    buckets.record(at(1.0), 2.0);
    close(
        buckets.average(at(1.0)),
        2.0 * newest * older + 2.0 * newest,
        "two values",
    );
    for second in [2.0, 3.0, 4.0, 5.0, 6.0] {
        buckets.record(at(second), second);
    }
    let full = (0..5).map(|age| f64::from(6 - age) * newest * older.powi(age)).sum();
    close(buckets.average(at(6.0)), full, "full");
    close(buckets.average(at(16.0)), 0.0, "empty");
}

#[test]
fn timed_window_max() {
    type Values = &'static [(f64, i32)];
    let cases: [(&str, i32, Values); 5] = [
        ("single value", 5, &[(0.0, 5)]),
        ("two values in same second", 6, &[(0.0, 6), (0.5, 5)]),
        ("two values", 8, &[(0.0, 5), (1.0, 8)]),
        ("time gap", 4, &[(0.0, 5), (6.0, 4)]),
        ("the window is over", 4, &[(0.0, 5), (1.0, 3), (4.9, 4), (5.0, 2)]),
    ];
    for (name, expected, values) in cases {
        let mut window = MaxWindow::new(5 * SECOND_NS, SECOND_NS);
        assert_eq!(window.current(), 0);
        for (second, value) in values {
            window.record(at(*second), *value);
        }
        assert_eq!(window.current(), expected, "{name}");
    }
}

#[test]
fn population_mean_sample_size() {
    for (pods, size) in [(0, 0), (1, 1), (2, 2), (3, 3), (5, 4), (10, 7), (100, 14), (1000, 16)] {
        assert_eq!(sample_size(pods), size, "{pods} pods");
    }
}

fn stat(concurrent: f64, proxied: f64) -> Stat {
    Stat {
        average_concurrent_requests: concurrent,
        average_proxied_concurrent_requests: proxied,
        request_count: 10.0 * concurrent,
        proxied_request_count: 10.0 * proxied,
    }
}

/// A sample stands for all pods; one that is too small stands for none.
#[test]
fn a_scrape_is_scaled_to_all_pods() {
    assert_eq!(scraped(&[], 0), None);
    assert_eq!(scraped(&[stat(1.0, 0.0); 6], 10), None);
    let all = scraped(&[stat(2.0, 1.0); 7], 10).unwrap();
    close(all.average_concurrent_requests, 20.0, "concurrency");
    close(all.average_proxied_concurrent_requests, 10.0, "proxied");
    close(all.request_count, 200.0, "requests");
}

/// What the activator has counted does not count again; no data are not zero, unless all traffic passes the activator.
#[test]
fn the_collector_averages_both_windows() {
    let (config, mut revision) = (Config::default(), Revision::default());
    let mut collector = Collector::new(&config, &revision);
    let metric = ScalingMetric::Concurrency;
    assert_eq!(collector.stable_and_panic(metric, START_NS), None);
    for second in 0..60 {
        collector.record(at(f64::from(second)), stat(if second < 54 { 3.0 } else { 9.0 }, 1.0));
    }
    let (stable, panic) = collector.stable_and_panic(metric, at(59.0)).unwrap();
    close(stable, (54.0 * 2.0 + 6.0 * 8.0) / 60.0, "stable");
    close(panic, 8.0, "panic");
    let (requests, _) = collector
        .stable_and_panic(ScalingMetric::RequestsPerSecond, at(59.0))
        .unwrap();
    close(requests, 10.0 * stable, "requests");
    assert_eq!(collector.stable_and_panic(metric, at(120.0)), None);
    revision.target_burst_capacity = Some(-1.0);
    assert_eq!(
        Collector::new(&config, &revision).stable_and_panic(metric, START_NS),
        Some((0.0, 0.0))
    );
}
