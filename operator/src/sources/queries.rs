//! PromQL texts: contract metric names and labels in, one query per signal for all services out. Pure.

use std::time::Duration;

use tidewright_contract::metrics::{
    HTTP_REQUESTS_RECEIVED, ML_MODEL_INFO, ML_QUEUE_DEPTH, ML_REQUESTS_IN_FLIGHT, label, queue,
};
use tidewright_contract::routes;

/// Labels that name a service.
pub const SERVICE_LABELS: [&str; 2] = ["namespace", "inferenceservice"];
/// Label of a model's digest in the answer to [`digests`].
pub const DIGEST_LABEL: &str = label::DIGEST;
/// Labels that name a pool, put on every series by the scrape configuration.
pub const KEY_LABELS: [&str; 3] = [SERVICE_LABELS[0], SERVICE_LABELS[1], "pool"];
/// Label that tells the lines of one answer apart.
pub const PART_LABEL: &str = "part";
/// Label that tells the signals apart in the answer to [`samples`].
pub const SIGNAL_LABEL: &str = "signal";

/// `part` in [`targets`]: pods with a target that is up.
pub const PART_UP: &str = "up";
/// `part` in [`targets`]: pods with a target.
pub const PART_ALL: &str = "all";
/// `part` in [`targets`]: targets that are up; more than [`PART_UP`] when pods are scraped twice.
pub const PART_SERIES: &str = "series";
/// `part` in [`samples`]: age of the newest sample in seconds.
pub const PART_AGE: &str = "age";
/// `part` in [`samples`]: pods with a fresh sample.
pub const PART_PODS: &str = "pods";
/// `part` in [`samples`], of the request rate: pods that were scraped from the beginning of the rate's window on.
pub const PART_COVERED: &str = "covered";

/// `signal` in [`samples`].
pub const SIGNAL_RATE: &str = "request_rate";
/// `signal` in [`samples`].
pub const SIGNAL_QUEUE: &str = "queue_depth";
/// `signal` in [`samples`].
pub const SIGNAL_CONCURRENCY: &str = "concurrency";

/// `by (…)` of every query.
fn by() -> String {
    KEY_LABELS.join(", ")
}

/// Only series that name a pool: anything else is not ours.
fn ours(extra: &str) -> String {
    let present = KEY_LABELS.map(|name| format!("{name}!=\"\"")).join(",");
    if extra.is_empty() {
        present
    } else {
        format!("{present},{extra}")
    }
}

/// Only routes that cost a run of the model are load; probes, metadata and scrapes are not.
fn arrivals() -> String {
    let routes = routes::INFERENCE.map(escape_regex).join("|");
    let matcher = format!("{}=~\"{}\"", label::ROUTE, escape_string(&routes));
    format!("{}{{{}}}", HTTP_REQUESTS_RECEIVED.name, ours(&matcher))
}

fn waiting() -> String {
    let matcher = format!("{}=\"{}\"", label::QUEUE, queue::BATCH);
    format!("{}{{{}}}", ML_QUEUE_DEPTH.name, ours(&matcher))
}

fn in_flight() -> String {
    format!("{}{{{}}}", ML_REQUESTS_IN_FLIGHT.name, ours(""))
}

/// A selector narrowed to samples no older than `max_age`: Prometheus itself looks back five minutes, which after its own restart brings back
/// pods that are long gone.
fn fresh(selector: &str, max_age: Duration) -> String {
    format!(
        "({selector} and (time() - timestamp({selector}) <= {}))",
        max_age.as_secs_f64()
    )
}

/// Arrivals per second and pool. `window` must hold at least two scrapes; six smooth a lost one away.
pub fn request_rate(window: Duration) -> String {
    format!("sum by ({}) (rate({}[{}ms]))", by(), arrivals(), window.as_millis())
}

/// Waiting requests per pool.
pub fn queue_depth(max_age: Duration) -> String {
    format!("sum by ({}) {}", by(), fresh(&waiting(), max_age))
}

/// Requests accepted and not answered yet, per pool.
pub fn concurrency(max_age: Duration) -> String {
    format!("sum by ({}) {}", by(), fresh(&in_flight(), max_age))
}

/// What the pods of each service have loaded: one line per digest.
pub fn digests(max_age: Duration) -> String {
    let [namespace, service] = SERVICE_LABELS;
    let loaded = format!("{}{{{}}}", ML_MODEL_INFO.name, ours(""));
    format!(
        "count by ({namespace}, {service}, {DIGEST_LABEL}) {}",
        fresh(&loaded, max_age)
    )
}

/// Scrape targets per pool: pods that are up, pods that are known, targets that are up.
pub fn targets() -> String {
    let by = by();
    let up = format!("up{{{}}}", ours(""));
    let lines = [
        (PART_UP, format!("count by ({by}) (count by ({by}, pod) ({up} == 1))")),
        (PART_ALL, format!("count by ({by}) (count by ({by}, pod) ({up}))")),
        (PART_SERIES, format!("count by ({by}) ({up} == 1)")),
    ];
    lines.map(|(part, text)| labelled(&text, PART_LABEL, part)).join(" or ")
}

/// Per pool and signal: how old the newest sample is, and how many pods have a fresh one; for the rate also how many pods' windows are filled.
/// Ages are taken inside Prometheus, so that its clock and ours need not agree.
pub fn samples(max_age: Duration, window: Duration, scrape_interval: Duration) -> String {
    let by = by();
    let part = |signal: &str, part: &str, text: &str| labelled(&labelled(text, PART_LABEL, part), SIGNAL_LABEL, signal);
    let mut parts = Vec::new();
    for (signal, selector) in [
        (SIGNAL_RATE, arrivals()),
        (SIGNAL_QUEUE, waiting()),
        (SIGNAL_CONCURRENCY, in_flight()),
    ] {
        let age = format!("time() - max by ({by}) (timestamp({selector}))");
        let pods = format!("count by ({by}) (count by ({by}, pod) {})", fresh(&selector, max_age));
        parts.push(part(signal, PART_AGE, &age));
        parts.push(part(signal, PART_PODS, &pods));
    }
    let covered = covered(&arrivals(), window, scrape_interval);
    parts.push(part(SIGNAL_RATE, PART_COVERED, &covered));
    parts.join(" or ")
}

/// Pods whose window is filled, per pool. `rate` divides by the whole window, however little of it was scraped: a third of the truth after two
/// scrapes in a window of six. Filled is a window with a sample in its first 1.1 intervals, the most that `rate` itself extrapolates over; or,
/// where just that scrape was lost, with one shortly before it and one shortly after it. Pods that are gone count as long as their requests do.
fn covered(selector: &str, window: Duration, scrape_interval: Duration) -> String {
    let (by, window, interval) = (by(), window.as_millis(), scrape_interval.as_millis());
    let reach = interval * 11 / 10;
    let seen = |length: u128, ago: u128| format!("count_over_time({selector}[{length}ms] offset {ago}ms)");
    let begins = seen(reach, window.saturating_sub(reach));
    let before = seen(interval, window);
    let after = seen(interval, window.saturating_sub(reach + interval));
    format!("count by ({by}) (count by ({by}, pod) ({begins} or ({before} and {after})))")
}

/// For one external query: the age in seconds of the newest sample of each of its selectors, told apart by [`PART_LABEL`].
pub fn selector_ages(selectors: &[String]) -> Option<String> {
    let lines: Vec<String> = selectors
        .iter()
        .enumerate()
        .map(|(index, selector)| {
            labelled(
                &format!("time() - max(timestamp({selector}))"),
                PART_LABEL,
                &index.to_string(),
            )
        })
        .collect();
    (!lines.is_empty()).then(|| lines.join(" or "))
}

fn labelled(expression: &str, name: &str, value: &str) -> String {
    format!("label_replace({expression}, \"{name}\", \"{value}\", \"\", \"\")")
}

/// Escapes what RE2 would read as an operator. Routes consist of these, letters, `/`, `_`, `:` and digits.
fn escape_regex(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if "\\.+*?()|[]{}^$".contains(character) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// Escapes for a double-quoted PromQL string.
pub fn escape_string(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: &str = include_str!("goldens/request_rate.promql");
    const QUEUE: &str = include_str!("goldens/queue_depth.promql");
    const CONCURRENCY: &str = include_str!("goldens/concurrency.promql");
    const DIGESTS: &str = include_str!("goldens/digests.promql");
    const TARGETS: &str = include_str!("goldens/targets.promql");
    const SAMPLES: &str = include_str!("goldens/samples.promql");

    fn all() -> [(&'static str, String, &'static str); 6] {
        let age = Duration::from_secs(15);
        [
            ("request_rate", request_rate(Duration::from_secs(30)), RATE),
            ("queue_depth", queue_depth(age), QUEUE),
            ("concurrency", concurrency(age), CONCURRENCY),
            ("digests", digests(age), DIGESTS),
            ("targets", targets(), TARGETS),
            (
                "samples",
                samples(age, Duration::from_secs(30), Duration::from_secs(5)),
                SAMPLES,
            ),
        ]
    }

    #[test]
    fn texts_are_the_goldens() {
        if std::env::var_os("UPDATE").is_some() {
            for (name, text, _) in all() {
                let path = format!("{}/src/sources/goldens/{name}.promql", env!("CARGO_MANIFEST_DIR"));
                std::fs::write(path, text + "\n").unwrap();
            }
            return;
        }
        for (name, text, golden) in all() {
            assert_eq!(
                text,
                golden.trim_end(),
                "{name}: run again with UPDATE=1 if this is meant"
            );
        }
    }

    #[test]
    fn texts_parse() {
        for (name, text, _) in all() {
            promql_parser::parser::parse(&text).unwrap_or_else(|problem| panic!("{name}: {problem}\n{text}"));
        }
    }

    #[test]
    fn probes_and_metadata_are_no_load() {
        let text = request_rate(Duration::from_secs(30));
        for route in routes::ALL {
            let counted = text.contains(&escape_string(&escape_regex(route)))
                && (text.contains(&format!("{}|", escape_string(&escape_regex(route))))
                    || text.contains(&format!("{}\"", escape_string(&escape_regex(route)))));
            assert_eq!(counted, routes::INFERENCE.contains(&route), "{route}");
        }
    }

    #[test]
    fn ages_need_a_selector() {
        assert_eq!(selector_ages(&[]), None);
        assert_eq!(
            selector_ages(&["a{b=\"c\"}".to_owned()]).as_deref(),
            Some(r#"label_replace(time() - max(timestamp(a{b="c"})), "part", "0", "", "")"#)
        );
    }
}
