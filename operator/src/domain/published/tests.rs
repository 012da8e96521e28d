//! Sums only of complete parts, staleness of the source itself, notification on changes of state.

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

#[expect(clippy::unnecessary_wraps, reason = "a reading")]
fn good(value: f64, second: i64) -> Reading {
    Ok(Sample { value, at: at(second) })
}

fn bad(reason: Reason) -> Reading {
    Err(Unavailable::new(reason, "for a test"))
}

fn pools(list: &[(&str, Reading)]) -> ServiceReadings {
    ServiceReadings {
        pools: list
            .iter()
            .map(|(name, reading)| {
                let readings = PoolReadings {
                    request_rate: reading.clone(),
                    queue_depth: bad(Reason::NoSamples),
                    concurrency: bad(Reason::NoSamples),
                };
                ((*name).to_owned(), readings)
            })
            .collect(),
        external: BTreeMap::from([("lag".to_owned(), good(7.0, 0))]),
        ..ServiceReadings::default()
    }
}

fn snapshot(second: i64, readings: ServiceReadings) -> Snapshot {
    Snapshot {
        taken_at: at(second),
        valid_for: Duration::from_secs(15),
        services: BTreeMap::from([(ServiceKey::new("a", "digits"), Arc::new(readings))]),
    }
}

fn reason(reading: Reading) -> Reason {
    reading.unwrap_err().reason
}

#[test]
fn a_sum_needs_every_part_and_takes_the_oldest_time() {
    let both = pools(&[("cpu", good(1.5, 3)), ("gpu", good(2.0, 1))]);
    assert_eq!(both.reading(None, &Signal::RequestRate), good(3.5, 1));
    assert_eq!(
        both.reading(Some(&["cpu".to_owned()]), &Signal::RequestRate),
        good(1.5, 3)
    );
    let half = pools(&[("cpu", good(1.5, 3)), ("gpu", bad(Reason::StaleSamples))]);
    assert_eq!(reason(half.reading(None, &Signal::RequestRate)), Reason::StaleSamples);
    assert_eq!(
        half.reading(Some(&["cpu".to_owned()]), &Signal::RequestRate),
        good(1.5, 3)
    );
    assert_eq!(reason(pools(&[]).reading(None, &Signal::RequestRate)), Reason::Unknown);
}

#[test]
fn unknown_pools_and_queries_are_errors_and_externals_belong_to_all_pools() {
    let one = pools(&[("cpu", good(1.0, 0))]);
    let gpu = ["gpu".to_owned()];
    assert_eq!(reason(one.reading(Some(&gpu), &Signal::RequestRate)), Reason::Unknown);
    assert_eq!(
        reason(one.reading(Some(&gpu), &Signal::External("lag".into()))),
        Reason::Unknown
    );
    assert_eq!(
        one.reading(Some(&["cpu".to_owned()]), &Signal::External("lag".into())),
        good(7.0, 0)
    );
    assert_eq!(
        reason(one.reading(None, &Signal::External("other".into()))),
        Reason::Unknown
    );
}

#[test]
fn a_source_that_stopped_has_no_numbers() {
    let published = Published::default();
    let key = ServiceKey::new("a", "digits");
    let read = |second| published.reading(&key, None, &Signal::RequestRate, at(second));
    assert_eq!(reason(read(0)), Reason::NotYetRead);
    published.publish(snapshot(0, pools(&[("cpu", good(1.0, 0))])));
    assert_eq!(read(15), good(1.0, 0));
    assert_eq!(reason(read(16)), Reason::SourceStalled);
    assert_eq!(reason(read(-16)), Reason::SourceStalled, "a clock that went backwards");
    let elsewhere = ServiceKey::new("b", "digits");
    assert_eq!(
        reason(published.reading(&elsewhere, None, &Signal::RequestRate, at(0))),
        Reason::NotYetRead
    );
}

#[tokio::test]
async fn listeners_hear_of_states_not_of_values() {
    let published = Published::default();
    let mut changes = published.changes();
    let key = ServiceKey::new("a", "digits");
    published.publish(snapshot(0, pools(&[("cpu", good(1.0, 0))])));
    published.publish(snapshot(5, pools(&[("cpu", good(2.0, 5))])));
    published.publish(snapshot(10, pools(&[("cpu", bad(Reason::StaleSamples))])));
    published.publish(snapshot(15, pools(&[("cpu", bad(Reason::StaleSamples))])));
    drop(published);
    let mut heard = Vec::new();
    while let Some(change) = changes.next().await {
        heard.push(change);
    }
    assert_eq!(heard, vec![Change::Service(key.clone()), Change::Service(key)]);
}

#[tokio::test]
async fn a_slow_listener_is_told_to_look_at_everything() {
    let published = Published::default();
    let mut changes = published.changes();
    for tick in 0..=i64::try_from(CHANGES_KEPT).unwrap() {
        let reading = if tick % 2 == 0 {
            good(1.0, tick)
        } else {
            bad(Reason::NoSamples)
        };
        published.publish(snapshot(tick, pools(&[("cpu", reading)])));
    }
    assert_eq!(changes.next().await, Some(Change::All));
}

#[test]
fn metric_names_go_both_ways() {
    for signal in [
        Signal::RequestRate,
        Signal::QueueDepth,
        Signal::Concurrency,
        Signal::External("kafka-lag".into()),
    ] {
        assert_eq!(Signal::from_metric_name(&signal.metric_name()), Some(signal));
    }
    for name in ["", "external-", "cpu", "request_rate ", "Request_Rate"] {
        assert_eq!(Signal::from_metric_name(name), None, "{name:?}");
    }
}
