//! The rows of `make bench-server`: ratios within rounds as a table, a page with bars, and the raw rounds as JSON.
use std::fmt::Write as _;
use std::fs;

use anyhow::Result;
use serde::Serialize;
use serde_json::json;

use super::report::{machine, spread};
use super::rows::{Round, Sample};
use crate::console::result;
use crate::paths;

/// A round in which the host took more of the processors than this says nothing.
const STOLEN_MAX: f64 = 0.10;
/// Nor does one in which the echo, which never changes, is so far from its median.
const ECHO_SHIFT_MAX: f64 = 0.15;

/// A row: what is claimed is the median of its ratios, and their least and greatest beside it.
#[derive(Debug, Serialize)]
struct Row {
    number: &'static str,
    what: &'static str,
    unit: &'static str,
    /// Least, median, greatest.
    found: (f64, f64, f64),
    wanted: &'static str,
}

/// Prints the table and writes `target/bench-server/`.
pub(super) fn write(rounds: &[Round], seconds: u64) -> Result<()> {
    let kept = kept(rounds);
    let machine = machine();
    let rows = rows(&kept);
    let mut table = String::from("| row | what | least | median | most | wanted |\n|---|---|---:|---:|---:|---|\n");
    for row in &rows {
        let (least, median, most) = row.found;
        let Row {
            number,
            what,
            unit,
            wanted,
            ..
        } = row;
        writeln!(
            table,
            "| {number} | {what}{unit} | {least:.2} | {median:.2} | {most:.2} | {wanted} |"
        )?;
    }
    let about = format!(
        "{machine}\n{} rounds of {seconds} s, {} kept; sides on core 0, load on the last core; digits MLP 64-128-64-10, Open Inference Protocol v2 as JSON, \
         one image per request; every side: one thread of the same ONNX Runtime, the same model file, answers compared before",
        rounds.len(),
        kept.len()
    );
    result(&about);
    result(&table);
    let folder = paths::repository_dir().join("target/bench-server");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("table.md"), format!("{about}\n\n{table}"))?;
    let raw = json!({"machine": machine, "seconds": seconds, "rows": rows, "rounds": rounds});
    fs::write(folder.join("result.json"), serde_json::to_string_pretty(&raw)? + "\n")?;
    fs::write(folder.join("report.html"), page(&about, &rows))?;
    result("target/bench-server: table.md, report.html, and the raw rounds in result.json");
    Ok(())
}

/// The rounds that the host and other work left alone.
fn kept(rounds: &[Round]) -> Vec<&Round> {
    let echo = |round: &Round| sample(round, "echo").map_or(f64::NAN, |sample| sample.closed_64);
    let (_, median, _) = spread(rounds.iter().map(echo));
    rounds
        .iter()
        .filter(|round| {
            round.samples.iter().all(|sample| sample.stolen <= STOLEN_MAX)
                && (echo(round) / median - 1.0).abs() <= ECHO_SHIFT_MAX
        })
        .collect()
}

fn sample<'a>(round: &'a Round, side: &str) -> Option<&'a Sample> {
    round.samples.iter().find(|sample| sample.side == side)
}

fn rows(rounds: &[&Round]) -> Vec<Row> {
    let ratio = |value: fn(&Sample) -> Option<f64>, above: &str, below: &str| {
        spread(rounds.iter().filter_map(|round| {
            let quotient = value(sample(round, above)?)? / value(sample(round, below)?)?;
            quotient.is_finite().then_some(quotient)
        }))
    };
    let row = |number, what, found, wanted| Row {
        number,
        what,
        unit: "",
        found,
        wanted,
    };
    let closed_64 = |sample: &Sample| Some(sample.closed_64);
    let closed_32 = |sample: &Sample| Some(sample.closed_32);
    let open = |sample: &Sample| sample.highest_rate;
    vec![
        row(
            "1",
            "answers/s with 64 connections, server / echo",
            ratio(closed_64, "server", "echo"),
            "0.9",
        ),
        row(
            "2",
            "Poisson rate with p99 <= 20 ms, server / mosec",
            ratio(open, "server", "mosec"),
            "-",
        ),
        row(
            "2",
            "Poisson rate with p99 <= 20 ms, server / FastAPI",
            ratio(open, "server", "fastapi"),
            "-",
        ),
        row(
            "3",
            "answers/s with 32 connections, server / mosec",
            ratio(closed_32, "server", "mosec"),
            "3",
        ),
        row(
            "3",
            "answers/s with 32 connections, server / FastAPI",
            ratio(closed_32, "server", "fastapi"),
            "30",
        ),
        row(
            "5",
            "served items/s in requests of 32 / ONNX Runtime alone at its best batch",
            spread(
                rounds.iter().filter_map(|round| {
                    Some(sample(round, "server")?.batched_items? / round.bare_loop.items_per_second)
                }),
            ),
            "0.97 (larger models)",
        ),
        Row {
            number: "6",
            what: "p50 of one connection, server - echo - ONNX Runtime",
            unit: ", us",
            found: spread(rounds.iter().filter_map(|round| {
                let p50 = |side| Some(sample(round, side)?.alone_p50_micros as f64);
                Some(p50("server")? - p50("echo")? - round.bare_loop.one_micros)
            })),
            wanted: "25",
        },
    ]
}

/// A bar for each row that is a ratio, on a logarithmic scale, with a whisker from least to most.
fn page(about: &str, rows: &[Row]) -> String {
    const LEFT: f64 = 470.0;
    const DECADE: f64 = 150.0;
    let across = |value: f64| LEFT + (value.max(0.1).log10() + 1.0) * DECADE;
    let ratios: Vec<&Row> = rows
        .iter()
        .filter(|row| row.unit.is_empty() && row.found.1.is_finite())
        .collect();
    let height = 40 + 30 * ratios.len();
    let mut svg =
        format!("<svg viewBox=\"0 0 960 {height}\" font-family=\"sans-serif\" font-size=\"13\" fill=\"currentColor\">");
    for (decade, label) in [(0.1, "0.1"), (1.0, "1"), (10.0, "10"), (100.0, "100")] {
        let x = across(decade);
        let _ = write!(
            svg,
            "<line x1=\"{x}\" x2=\"{x}\" y1=\"20\" y2=\"{height}\" stroke=\"currentColor\" opacity=\"0.3\"/><text x=\"{x}\" y=\"14\" text-anchor=\"middle\">{label}</text>"
        );
    }
    for (index, row) in ratios.iter().enumerate() {
        let (least, median, most) = row.found;
        let top = 30 + 30 * index;
        let (start, end, middle) = (across(0.1), across(median), top + 9);
        let _ = write!(
            svg,
            "<text x=\"0\" y=\"{}\">{} {}</text><rect x=\"{start}\" y=\"{top}\" width=\"{}\" height=\"18\" fill=\"rgb(59,130,246)\"/>\
             <line x1=\"{}\" x2=\"{}\" y1=\"{middle}\" y2=\"{middle}\" stroke=\"currentColor\"/><text x=\"{}\" y=\"{}\">{median:.2}</text>",
            top + 14,
            row.number,
            row.what.replace("<=", "&lt;="),
            end - start,
            across(least),
            across(most),
            across(most) + 6.0,
            top + 14
        );
    }
    svg.push_str("</svg>");
    let about = about.replace('\n', "<br>");
    format!(
        "<!doctype html><meta charset=\"utf-8\"><meta name=\"color-scheme\" content=\"light dark\"><title>Inference server beside others</title>\
         <h1>Inference server beside others</h1><p>{about}</p>{svg}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::peers::BareLoop;

    fn round(echo: f64, server: f64, mosec: f64, stolen: f64) -> Round {
        let side = |side, rate: f64, alone| Sample {
            side,
            closed_64: rate,
            closed_32: rate,
            closed_32_p99_micros: 0,
            alone_p50_micros: alone,
            batched_items: (side == "server").then_some(500.0),
            highest_rate: (side != "echo").then_some(rate),
            probes: Vec::new(),
            stolen,
        };
        Round {
            bare_loop: BareLoop {
                items_per_second: 1000.0,
                one_micros: 10.0,
            },
            samples: vec![
                side("echo", echo, 50),
                side("server", server, 80),
                side("mosec", mosec, 200),
            ],
        }
    }

    #[test]
    fn rows_are_ratios_within_rounds() {
        let rounds = [
            round(100.0, 80.0, 20.0, 0.0),
            round(100.0, 90.0, 30.0, 0.0),
            round(100.0, 70.0, 10.0, 0.0),
        ];
        let rows = rows(&kept(&rounds));
        let found = |name: &str, what: &str| {
            let row = rows.iter().find(|row| row.number == name && row.what.contains(what));
            row.unwrap().found
        };
        assert_eq!(found("1", "echo"), (0.7, 0.8, 0.9));
        assert_eq!(found("3", "mosec"), (3.0, 4.0, 7.0));
        assert_eq!(found("5", ""), (0.5, 0.5, 0.5));
        assert_eq!(found("6", ""), (20.0, 20.0, 20.0));
    }

    #[test]
    fn disturbed_rounds_do_not_count() {
        let rounds = [
            round(100.0, 80.0, 20.0, 0.0),
            round(100.0, 80.0, 20.0, 0.2),
            round(80.0, 80.0, 20.0, 0.0),
            round(100.0, 80.0, 20.0, 0.05),
        ];
        assert_eq!(kept(&rounds).len(), 2);
    }
}
