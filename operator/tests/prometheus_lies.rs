//! Whatever Prometheus answers, a number is only published if it is one: a table of lies, each told between two truths over a real socket.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod prometheus;

use std::time::Duration;

use prometheus::Question::{Concurrency, Digests, External, ExternalAges, Queue};
use prometheus::lies::{lies, status};
use prometheus::truth::digest;
use prometheus::{FakePrometheus, Lie, Question, Source, line, of_pool, quick, unix_now, vector};
use tidewright_operator::domain::published::{Reason, Signal};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_lie_becomes_a_number() {
    let fake = FakePrometheus::start().await;
    let mut settings = quick(&fake.address);
    settings.max_series = 200;
    let source = Source::start(settings);
    let rows = lies();
    assert!(rows.len() >= 40, "{} lies", rows.len());
    for (name, question, lie, expected) in rows {
        fake.be_honest();
        source.two_ticks().await;
        let value = source.read(&Signal::RequestRate).map(|sample| sample.value);
        assert_eq!(value, Ok(12.5), "the truth before {name:?}");
        fake.lie(question, lie);
        source.two_ticks().await;
        let reading = source.read(&Signal::RequestRate);
        let trouble = reading.expect_err(name);
        assert_eq!(trouble.reason, expected, "{name}: {trouble}");
        assert!(
            !trouble.message.is_empty() && trouble.message.len() < 600,
            "{name}: {trouble}"
        );
        if question.is_none() {
            assert!(source.read(&Signal::QueueDepth).is_err(), "{name}: queue depth");
            assert!(source.read(&Signal::Concurrency).is_err(), "{name}: concurrency");
            assert!(
                source.read(&Signal::External("lag".into())).is_err(),
                "{name}: external"
            );
        }
    }
    let counted: u64 = source.counters.snapshot().iter().map(|(_, count)| count).sum();
    assert!(counted > 200, "{:?}", source.counters.snapshot());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lie_about_one_signal_leaves_the_others() {
    let fake = FakePrometheus::start().await;
    let source = Source::start(quick(&fake.address));
    fake.lie(Some(Queue), Lie::Json(vector(&[of_pool(&[], unix_now(), "\"NaN\"")])));
    source.two_ticks().await;
    assert_eq!(source.read(&Signal::RequestRate).map(|s| s.value), Ok(12.5));
    assert_eq!(source.read(&Signal::External("lag".into())).map(|s| s.value), Ok(7.0));
    assert_eq!(source.read(&Signal::QueueDepth).unwrap_err().reason, Reason::NotFinite);
    assert_eq!(source.read(&Signal::Concurrency).map(|s| s.value), Ok(5.0));
    fake.lie(
        Some(Concurrency),
        Lie::Json(vector(&[of_pool(&[], unix_now(), "\"-1\"")])),
    );
    source.two_ticks().await;
    assert_eq!(source.read(&Signal::Concurrency).unwrap_err().reason, Reason::Negative);
    assert_eq!(source.read(&Signal::QueueDepth).map(|s| s.value), Ok(3.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_can_be_a_digest_is_taken_for_one_and_no_signal_depends_on_it() {
    let fake = FakePrometheus::start().await;
    let source = Source::start(quick(&fake.address));
    let answer = |service: &str, digest: &str| {
        let labels = [("namespace", "a"), ("inferenceservice", service), ("digest", digest)];
        Lie::Json(vector(&[line(&labels, unix_now(), "\"1\"")]))
    };
    source.two_ticks().await;
    assert_eq!(source.digests(), [digest('a')]);
    let upper = digest('a').to_uppercase();
    let long = format!("{}0", digest('a'));
    for (what, lie) in [
        ("another service's", answer("other", &digest('b'))),
        ("no hexadecimal", answer("digits", &digest('g'))),
        ("upper case", answer("digits", &upper)),
        ("too long", answer("digits", &long)),
        ("markup", answer("digits", "<script>")),
        ("nothing", answer("digits", "")),
        (
            "a pool's",
            Lie::Json(vector(&[of_pool(&[("digest", &digest('b'))], unix_now(), "\"1\"")])),
        ),
        (
            "an error",
            Lie::Json(r#"{"status":"error","errorType":"x","error":"y"}"#.to_owned()),
        ),
    ] {
        fake.lie(Some(Digests), lie);
        source.two_ticks().await;
        assert_eq!(source.digests(), Vec::<String>::new(), "{what}");
        assert_eq!(source.read(&Signal::RequestRate).map(|s| s.value), Ok(12.5), "{what}");
    }
    // What one pod says hides nothing of the others.
    let of = |service: &str, digest: &str| {
        let labels = [("namespace", "a"), ("inferenceservice", service), ("digest", digest)];
        line(&labels, unix_now(), "\"1\"")
    };
    let lines = [of("other", "<script>"), of("digits", &digest('c')), of("third", "")];
    fake.lie(Some(Digests), Lie::Json(vector(&lines)));
    source.two_ticks().await;
    assert_eq!(source.digests(), [digest('c')]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_external_query_answers_one_number_of_fresh_series_or_none() {
    let fake = FakePrometheus::start().await;
    let source = Source::start(quick(&fake.address));
    let one = |value: &str| line(&[("x", "y")], unix_now(), value);
    let age = |value: &str| Lie::Json(vector(&[line(&[("part", "0")], unix_now(), value)]));
    let scalar = format!(
        r#"{{"status":"success","data":{{"resultType":"scalar","result":[{},"9"]}}}}"#,
        unix_now()
    );
    let rows: Vec<(&str, Question, Lie, Result<f64, Reason>)> = vec![
        ("one series", External, Lie::Json(vector(&[one("\"4\"")])), Ok(4.0)),
        ("a scalar", External, Lie::Json(scalar), Ok(9.0)),
        ("an honest zero", External, Lie::Json(vector(&[one("\"0\"")])), Ok(0.0)),
        ("nothing", External, Lie::Json(vector(&[])), Err(Reason::NoSamples)),
        (
            "two series",
            External,
            Lie::Json(vector(&[one("\"1\""), one("\"2\"")])),
            Err(Reason::Ambiguous),
        ),
        (
            "NaN",
            External,
            Lie::Json(vector(&[one("\"NaN\"")])),
            Err(Reason::NotFinite),
        ),
        (
            "negative",
            External,
            Lie::Json(vector(&[one("\"-1\"")])),
            Err(Reason::Negative),
        ),
        (
            "no series behind it",
            ExternalAges,
            Lie::Json(vector(&[])),
            Err(Reason::NoSamples),
        ),
        (
            "stale series behind it",
            ExternalAges,
            age("\"91\""),
            Err(Reason::StaleSamples),
        ),
        (
            "future series behind it",
            ExternalAges,
            age("\"-91\""),
            Err(Reason::ClockSkew),
        ),
        (
            "an unknown age",
            ExternalAges,
            age("\"NaN\""),
            Err(Reason::AnswerMalformed),
        ),
        (
            "an age of nothing",
            ExternalAges,
            Lie::Json(vector(&[line(&[], unix_now(), "\"1\"")])),
            Err(Reason::AnswerMalformed),
        ),
        (
            "ages that fail",
            ExternalAges,
            status("503 Service Unavailable"),
            Err(Reason::PrometheusError),
        ),
    ];
    for (name, question, lie, expected) in rows {
        fake.lie(Some(question), lie);
        source.two_ticks().await;
        let reading = source.read(&Signal::External("lag".into()));
        assert_eq!(reading.map(|s| s.value).map_err(|t| t.reason), expected, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_server_is_no_number() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let fake = FakePrometheus::start().await;
    let tls = fake.address.replace("http:", "https:");
    for (url, expected) in [
        (Some(format!("http://{address}")), Reason::PrometheusUnreachable),
        (
            Some("http://no-such-host.invalid:9090".to_owned()),
            Reason::PrometheusUnreachable,
        ),
        (Some(tls), Reason::PrometheusUnreachable),
        (None, Reason::NotConfigured),
    ] {
        let mut settings = quick("http://placeholder");
        settings.url.clone_from(&url);
        settings.timeout = Duration::from_secs(3);
        let source = Source::start(settings);
        source.two_ticks().await;
        let trouble = source.read(&Signal::RequestRate).expect_err("no server");
        assert_eq!(trouble.reason, expected, "{url:?}: {trouble}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_token_goes_to_the_own_server_and_nowhere_else() {
    let own = FakePrometheus::start().await;
    let other = FakePrometheus::start().await;
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "secret-token\n").unwrap();
    let mut settings = quick(&own.address);
    settings.bearer_token_file = Some(token.path().to_owned());
    settings.allowed_servers = vec![other.address.clone()];
    let source = Source::start(settings);
    let mut subscription = (*source.subscriptions.get(&prometheus::service()).unwrap()).clone();
    subscription.external[0].server_address = Some(other.address.clone());
    source.subscriptions.set(prometheus::service(), subscription);
    source.two_ticks().await;
    assert_eq!(source.read(&Signal::External("lag".into())).map(|s| s.value), Ok(7.0));
    // A redirect to the other server must not carry the token there either.
    let location: &'static str = Box::leak(format!("location: {}/api/v1/query\r\n", other.address).into_boxed_str());
    own.lie(None, Lie::Answer("307 Temporary Redirect", location, String::new()));
    source.two_ticks().await;
    let authorised = |fake: &FakePrometheus| {
        let heads = fake.heads.lock().unwrap();
        assert!(!heads.is_empty());
        heads
            .iter()
            .filter(|head| head.to_ascii_lowercase().contains("authorization: bearer secret-token"))
            .count()
    };
    assert!(authorised(&own) > 0);
    assert_eq!(authorised(&other), 0);

    // A server that is not on the list is never asked, even if a subscription names it.
    let stranger = FakePrometheus::start().await;
    let mut subscription = (*source.subscriptions.get(&prometheus::service()).unwrap()).clone();
    subscription.external[0].server_address = Some(stranger.address.clone());
    source.subscriptions.set(prometheus::service(), subscription);
    source.two_ticks().await;
    let refused = source.read(&Signal::External("lag".into())).unwrap_err();
    assert_eq!(refused.reason, Reason::QueryRefused);
    assert!(stranger.heads.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_sample_stands_in_for_its_time_and_then_the_error_shows() {
    let fake = FakePrometheus::start().await;
    let mut settings = quick(&fake.address);
    settings.hold = Duration::from_secs(3);
    let source = Source::start(settings);
    source.two_ticks().await;
    let good = source.read(&Signal::RequestRate).unwrap();
    fake.lie(None, status("503 Service Unavailable"));
    source.two_ticks().await;
    let held = source.read(&Signal::RequestRate).unwrap();
    assert!((held.value - good.value).abs() < f64::EPSILON, "{held:?}");
    let mut changes = source.published.changes();
    tokio::time::timeout(Duration::from_secs(10), async {
        while source.read(&Signal::RequestRate).is_ok() {
            changes.next().await.unwrap();
        }
    })
    .await
    .expect("the end of the hold is a change");
    assert_eq!(
        source.read(&Signal::RequestRate).unwrap_err().reason,
        Reason::PrometheusError
    );
}
