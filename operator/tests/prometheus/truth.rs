//! The operator's questions to Prometheus, and their true answers.

use tidewright_operator::clock::{Clock as _, SystemClock};

/// Which of the operator's questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    Rate,
    Queue,
    Concurrency,
    Targets,
    Samples,
    Digests,
    External,
    ExternalAges,
}

/// Seconds since 1970, as Prometheus writes them.
pub fn unix_now() -> f64 {
    SystemClock.now().as_millisecond() as f64 / 1000.0
}

/// A line of an answer.
pub fn line(labels: &[(&str, &str)], time: f64, value: &str) -> String {
    let labels: Vec<String> = labels.iter().map(|(k, v)| format!("{k:?}:{v:?}")).collect();
    format!(r#"{{"metric":{{{}}},"value":[{time},{value}]}}"#, labels.join(","))
}

pub const KEY: [(&str, &str); 3] = [("namespace", "a"), ("inferenceservice", "digits"), ("pool", "cpu")];

/// A line about the pool under test, with more labels.
pub fn of_pool(extra: &[(&str, &str)], time: f64, value: &str) -> String {
    line(&[&KEY[..], extra].concat(), time, value)
}

/// A successful answer of these lines.
pub fn vector(lines: &[String]) -> String {
    format!(
        r#"{{"status":"success","data":{{"resultType":"vector","result":[{}]}}}}"#,
        lines.join(",")
    )
}

fn part(name: &str, value: &str) -> String {
    of_pool(&[("part", name)], unix_now(), value)
}

fn sample(signal: &str, name: &str, value: &str) -> String {
    of_pool(&[("part", name), ("signal", signal)], unix_now(), value)
}

/// A digest of one digit.
pub fn digest(digit: char) -> String {
    format!("sha256:{}", digit.to_string().repeat(64))
}

/// The truth: 12.5 requests per second, 3 waiting, 5 in work or waiting, one pod, scraped 1 s ago, with the model aa…; the external query answers 7.
pub fn truth(question: Question) -> String {
    let now = unix_now();
    match question {
        Question::Rate => vector(&[of_pool(&[], now, "\"12.5\"")]),
        Question::Queue => vector(&[of_pool(&[], now, "\"3\"")]),
        Question::Concurrency => vector(&[of_pool(&[], now, "\"5\"")]),
        Question::Targets => vector(&[part("up", "\"1\""), part("all", "\"1\""), part("series", "\"1\"")]),
        Question::Samples => vector(&[
            sample("request_rate", "age", "\"1.0\""),
            sample("request_rate", "pods", "\"1\""),
            sample("request_rate", "covered", "\"1\""),
            sample("queue_depth", "age", "\"1.0\""),
            sample("queue_depth", "pods", "\"1\""),
            sample("concurrency", "age", "\"1.0\""),
            sample("concurrency", "pods", "\"1\""),
        ]),
        Question::Digests => {
            let labels = [
                ("namespace", "a"),
                ("inferenceservice", "digits"),
                ("digest", &digest('a')),
            ];
            vector(&[line(&labels, now, "\"1\"")])
        }
        Question::External => vector(&[line(&[], now, "\"7\"")]),
        Question::ExternalAges => vector(&[line(&[("part", "0")], now, "\"2\"")]),
    }
}

pub fn question_of(promql: &str) -> Question {
    if promql.contains("external_metric") {
        if promql.contains("timestamp(") {
            Question::ExternalAges
        } else {
            Question::External
        }
    } else if promql.contains("ml_model_info") {
        Question::Digests
    } else if promql.starts_with("sum by") && promql.contains("rate(") {
        Question::Rate
    } else if promql.starts_with("sum by") && promql.contains("in_flight") {
        Question::Concurrency
    } else if promql.starts_with("sum by") {
        Question::Queue
    } else if promql.contains("\"series\"") {
        Question::Targets
    } else {
        Question::Samples
    }
}
