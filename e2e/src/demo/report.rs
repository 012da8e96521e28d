//! What is left of a demo: `result.json` for programs, `report.html` for people.
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::plots::{self, Line, Plot};
use super::steps::TRICKLE;
use super::watch::{Sample, ScaleUp};
use crate::load;

/// One step of the demo and how long it took.
#[derive(Debug, Clone, Serialize)]
pub struct Phase {
    pub name: String,
    pub seconds: f64,
}

/// `result.json`.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    pub phases: Vec<Phase>,
    pub requests_total: u64,
    pub requests_failed: u64,
    pub answers_checked: u64,
    pub answers_wrong: u64,
    pub replicas_start: i32,
    pub replicas_max: i32,
    pub replicas_end: i32,
    /// From the beginning of the first load that needs more than one replica to the first decision of the HorizontalPodAutoscaler to scale up.
    pub first_scale_up_seconds: Option<f64>,
    /// Causes of scaling up in the order in which they first appeared: `RequestRate`, `CPU`, `QueueDepth`.
    pub scale_up_reasons: Vec<String>,
    pub versions: BTreeMap<String, String>,
}

/// One thing that the demo claims, and whether it happened.
#[derive(Debug, Clone)]
pub struct Claim {
    pub text: String,
    pub measured: String,
    pub holds: bool,
}

/// Everything that the page shows.
#[derive(Debug)]
pub struct Page<'a> {
    pub outcome: &'a Outcome,
    pub claims: &'a [Claim],
    pub hardware: &'a str,
    pub load: &'a load::Report,
    pub samples: &'a [Sample],
    pub scale_ups: &'a [ScaleUp],
    /// Spans of the load, in seconds since its start.
    pub bands: &'a [(Range<f64>, String)],
    /// (command, what it printed)
    pub texts: &'a [(String, String)],
}

/// Writes both files into `dir`.
pub fn write(dir: &Path, page: &Page<'_>) -> Result<(PathBuf, PathBuf)> {
    fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
    let [json, html] = super::FILES.map(|file| dir.join(file));
    let mut text = serde_json::to_string_pretty(page.outcome)?;
    text.push('\n');
    fs::write(&json, text).with_context(|| format!("writing {}", json.display()))?;
    fs::write(&html, render(page)?).with_context(|| format!("writing {}", html.display()))?;
    Ok((json, html))
}

const STYLE: &str = "
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
table { border-collapse: collapse } td, th { text-align: left; padding: .15rem .9rem .15rem 0; vertical-align: top }
td.n { text-align: right; font-variant-numeric: tabular-nums }
pre { overflow-x: auto; border: 1px solid color-mix(in srgb, currentColor 25%, transparent); border-radius: 6px; padding: .7rem; font-size: 12px; line-height: 1.35 }
.yes::before { content: '✓ '; color: #16a34a } .no::before { content: '✗ '; color: #dc2626 }
svg { margin: .4rem 0 } svg rect[fill='#FFFFFF'] { fill: transparent }
";

/// The page, with nothing to load from anywhere else.
pub fn render(page: &Page<'_>) -> Result<String> {
    let mut html = String::new();
    let outcome = page.outcome;
    write!(
        html,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Tidewright demo</title><style>{STYLE}</style></head><body>\n<h1>Tidewright demo</h1>\n"
    )?;
    let failed = page.claims.iter().filter(|claim| !claim.holds).count();
    let verdict = if failed == 0 {
        "Everything that the demo claims happened.".to_owned()
    } else {
        format!("{failed} of the claims did not hold.")
    };
    writeln!(html, "<p><strong>{verdict}</strong> {}</p>", escape(page.hardware))?;

    html.push_str("<h2>Claims</h2>\n<table>");
    for claim in page.claims {
        let class = if claim.holds { "yes" } else { "no" };
        writeln!(
            html,
            "<tr><td class=\"{class}\">{}</td><td>{}</td></tr>",
            escape(&claim.text),
            escape(&claim.measured)
        )?;
    }
    write!(
        html,
        "</table>\n<h2>Over time</h2>\n<p>Seconds since the first request. Each shaded span is one kind of load; between them {TRICKLE} requests per \
         second go on, and after the last nothing is sent.</p>\n"
    )?;
    for plot in plots(page) {
        html.push_str(&plots::svg(&plot)?);
        html.push('\n');
    }

    html.push_str("<h2>Scale-ups</h2>\n<p>Decisions of Kubernetes’ own HorizontalPodAutoscaler controller, with its own words.</p>\n<table><tr><th>at</th><th>replicas</th><th>cause</th><th>event</th></tr>");
    for scale_up in page.scale_ups {
        writeln!(
            html,
            "<tr><td class=\"n\">{:.0} s</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            scale_up.seconds,
            scale_up.replicas,
            scale_up.cause,
            escape(&scale_up.message)
        )?;
    }
    let (totals, latency) = (&page.load.totals, &page.load.latency);
    write!(
        html,
        "</table>\n<h2>Load</h2>\n<p>Open loop with Poisson arrivals; latency counts from when a request was due, over all phases, the overload of a single replica included.</p>\n\
         <table><tr><td>requests due</td><td class=\"n\">{}</td></tr><tr><td>right answers</td><td class=\"n\">{}</td></tr>\
         <tr><td>wrong answers</td><td class=\"n\">{}</td></tr><tr><td>failed</td><td class=\"n\">{}</td></tr>\
         <tr><td>sent on another connection (theirs had closed before a byte of them was written)</td><td class=\"n\">{}</td></tr>\
         <tr><td>connections</td><td class=\"n\">{}</td></tr>\
         <tr><td>latency p50 / p90 / p99 / p99.9 / max, ms</td><td class=\"n\">{:.1} / {:.1} / {:.0} / {:.0} / {:.0}</td></tr>\
         <tr><td>latest that the generator itself was, ms</td><td class=\"n\">{:.1}</td></tr></table>\n",
        totals.due,
        totals.ok,
        totals.wrong,
        totals.failed(),
        totals.retried,
        totals.connections_opened,
        latency.p50,
        latency.p90,
        latency.p99,
        latency.p999,
        latency.max,
        page.load.generator_late_max
    )?;
    if !page.load.failures.is_empty() {
        html.push_str("<p>First failures:</p><pre>");
        for (seconds, text) in &page.load.failures {
            writeln!(html, "{seconds:8.2} s  {}", escape(text))?;
        }
        html.push_str("</pre>\n");
    }
    html.push_str("<h2>Phases</h2>\n<table>");
    for phase in &outcome.phases {
        writeln!(
            html,
            "<tr><td>{}</td><td class=\"n\">{:.1} s</td></tr>",
            escape(&phase.name),
            phase.seconds
        )?;
    }
    html.push_str("</table>\n<h2>What kubectl says</h2>\n");
    for (command, text) in page.texts {
        writeln!(
            html,
            "<p><code>{}</code></p><pre>{}</pre>",
            escape(command),
            escape(text)
        )?;
    }
    html.push_str("<h2>Versions</h2>\n<table>");
    for (name, version) in &outcome.versions {
        writeln!(html, "<tr><td>{}</td><td>{}</td></tr>", escape(name), escape(version))?;
    }
    html.push_str("</table>\n</body></html>\n");
    Ok(html)
}

fn plots<'a>(page: &'a Page<'a>) -> Vec<Plot<'a>> {
    let timeline = &page.load.timeline;
    let last_sample = page.samples.last().map_or(0.0, |sample| sample.seconds);
    let seconds = last_sample.max(timeline.len() as f64).max(1.0);
    let by_second = |value: fn(&load::Second) -> f64| -> Vec<(f64, f64)> {
        timeline
            .iter()
            .enumerate()
            .map(|(second, counts)| (second as f64 + 0.5, value(counts)))
            .collect()
    };
    let sampled = |value: fn(&Sample) -> Option<f64>| -> Vec<(f64, f64)> {
        page.samples
            .iter()
            .filter_map(|sample| Some((sample.seconds, value(sample)?)))
            .collect()
    };
    let line = |name, colour, points| Line {
        name,
        colour,
        points,
        steps: false,
    };
    let step = |name, colour, points| Line {
        name,
        colour,
        points,
        steps: true,
    };
    let plot = |title, logarithmic_from, lines| Plot {
        title,
        lines,
        bands: page.bands,
        seconds,
        logarithmic_from,
    };
    vec![
        plot(
            "Load, requests per second (logarithmic; the bottom line is 0)",
            Some(0.5),
            vec![
                line("offered", plots::BLUE, by_second(|second| second.offered as f64)),
                line("served", plots::GREEN, by_second(|second| second.served as f64)),
                line("failed", plots::RED, by_second(|second| second.failed as f64)),
            ],
        ),
        plot(
            "Replicas",
            None,
            vec![
                step(
                    "desired",
                    plots::ORANGE,
                    sampled(|sample| sample.desired.map(f64::from)),
                ),
                step("ready", plots::GREEN, sampled(|sample| sample.ready.map(f64::from))),
            ],
        ),
        plot(
            "Signals per replica as the HorizontalPodAutoscaler sees them, as multiples of their targets",
            None,
            vec![
                step("request rate", plots::BLUE, sampled(|sample| sample.request_rate)),
                step("CPU", plots::ORANGE, sampled(|sample| sample.cpu)),
                step("queue depth", plots::VIOLET, sampled(|sample| sample.queue_depth)),
            ],
        ),
        plot(
            "Queue, waiting requests over all replicas",
            None,
            vec![step("queue", plots::VIOLET, sampled(|sample| sample.queue))],
        ),
        plot(
            "Latency from when a request was due, milliseconds (logarithmic)",
            Some(1.0),
            vec![
                line("p99", plots::RED, ended(timeline, |second| second.p99)),
                line("p50", plots::BLUE, ended(timeline, |second| second.p50)),
            ],
        ),
    ]
}

/// A latency exists only where something ended.
fn ended(timeline: &[load::Second], value: fn(&load::Second) -> f64) -> Vec<(f64, f64)> {
    timeline
        .iter()
        .enumerate()
        .filter(|(_, second)| second.served + second.failed > 0)
        .map(|(index, second)| (index as f64 + 0.5, value(second)))
        .collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome() -> Outcome {
        Outcome {
            phases: vec![Phase {
                name: "cluster".to_owned(),
                seconds: 11.25,
            }],
            requests_total: 7,
            requests_failed: 1,
            answers_checked: 6,
            answers_wrong: 0,
            replicas_start: 1,
            replicas_max: 3,
            replicas_end: 1,
            first_scale_up_seconds: Some(8.5),
            scale_up_reasons: vec!["RequestRate".to_owned()],
            versions: BTreeMap::from([("kubernetes".to_owned(), "v1.37.2".to_owned())]),
        }
    }

    #[test]
    fn the_result_has_exactly_the_documented_fields() {
        let value = serde_json::to_value(outcome()).unwrap();
        let fields: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
        let mut expected = vec![
            "phases",
            "requests_total",
            "requests_failed",
            "answers_checked",
            "answers_wrong",
            "replicas_start",
            "replicas_max",
            "replicas_end",
            "first_scale_up_seconds",
            "scale_up_reasons",
            "versions",
        ];
        expected.sort_unstable();
        let mut found = fields;
        found.sort_unstable();
        assert_eq!(found, expected);
        assert_eq!(
            value["phases"][0],
            serde_json::json!({"name": "cluster", "seconds": 11.25})
        );
    }

    #[test]
    fn the_page_is_whole_and_loads_nothing() {
        let load = load::Report {
            in_time: 0,
            totals: load::Totals {
                due: 7,
                ok: 6,
                reset: 1,
                ..load::Totals::default()
            },
            latency: load::Quantiles::default(),
            timeline: vec![load::Second {
                offered: 7,
                served: 6,
                failed: 1,
                p50: 1.0,
                p99: 12.0,
            }],
            failures: vec![(0.5, "Reset(\"<closed>\")".to_owned())],
            generator_late_max: 1.5,
        };
        let samples = [Sample {
            seconds: 0.5,
            desired: Some(3),
            ready: Some(1),
            queue: Some(4.0),
            ..Sample::default()
        }];
        let claims = [Claim {
            text: "no request failed".to_owned(),
            measured: "1 failed".to_owned(),
            holds: false,
        }];
        let texts = [("kubectl get isvc".to_owned(), "NAME <digits>".to_owned())];
        let outcome = outcome();
        let page = Page {
            outcome: &outcome,
            claims: &claims,
            hardware: "2 cores",
            load: &load,
            samples: &samples,
            scale_ups: &[],
            bands: &[(0.0..1.0, "many".to_owned())],
            texts: &texts,
        };
        let dir = tempfile::tempdir().unwrap();
        let (json, html) = write(dir.path(), &page).unwrap();
        assert!(serde_json::from_slice::<serde_json::Value>(&fs::read(json).unwrap()).is_ok());
        let html = fs::read_to_string(html).unwrap();
        assert_eq!(html.matches("<svg ").count(), 5);
        assert!(
            html.contains("1 of the claims did not hold")
                && html.contains("&lt;digits&gt;")
                && html.contains("&lt;closed&gt;")
        );
        for outside in ["<script", "<link", "src=", "@import", "url("] {
            assert!(!html.contains(outside), "{outside}");
        }
        assert!(html.trim_end().ends_with("</html>"));
    }
}
