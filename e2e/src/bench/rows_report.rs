//! The report of `make bench-server`: a table, a page with plots, and the raw rounds as JSON.
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::claims::{self, Row, Verdict};
use super::peers::PEERS;
use super::reasons::Reasons;
use super::report::machine;
use super::rows::{Bench, Options};
use super::rows_plots;
use super::tuning::{self, Tuned};
use super::visits::Visits;
use crate::console::result;
use crate::paths;

/// Name of a peer's package where it is not the peer's own.
const PACKAGES: [(&str, &str); 1] = [("triton", "nvidia-pytriton")];

/// Prints the table and writes `target/bench-server/`.
pub(super) fn write(bench: &Bench, tuned: &Tuned, reasons: &Reasons, seconds: f64) -> Result<()> {
    let rows = claims::rows(&bench.visits, &bench.missing, |number| bench.options.wants(&[number]));
    let versions = versions(&paths::repository_dir().join("inference-server/bench/environments"))?;
    let mut about = about(&bench.visits, &bench.options, &versions, seconds);
    about.extend(tuning::told(tuned));
    let table = table(&rows)?;
    let missing = left_out(&bench.missing);
    let reasons = reasons.of(&rows);
    let folder = paths::target_dir().join("bench-server");
    fs::create_dir_all(&folder)?;
    let plots = rows_plots::all(&rows, &bench.visits)?;
    for (name, svg) in &plots {
        fs::write(folder.join(format!("{name}.svg")), svg)?;
    }
    let markdown = format!("{}\n\n{table}{missing}{}", about.join("\n\n"), why(&reasons));
    fs::write(folder.join("table.md"), &markdown)?;
    let raw = json!({
        "about": about,
        "options": format!("{:?}", bench.options),
        "versions": versions,
        "rows": rows,
        "left_out": bench.missing,
        "reasons": reasons,
        "tuning": tuned.iter().map(|((work, peer), tried)| json!({"workload": work, "peer": peer, "tried": tried.rates})).collect::<Vec<_>>(),
        "visits": bench.visits.0,
    });
    fs::write(folder.join("result.json"), serde_json::to_string_pretty(&raw)? + "\n")?;
    fs::write(
        folder.join("report.html"),
        page(&about, &rows, (&missing, &reasons), &plots),
    )?;
    result(markdown);
    result(format_args!(
        "{}: table.md, report.html, plots as SVG, and the raw rounds in result.json",
        folder.display()
    ));
    Ok(())
}

/// What the figures stand on.
fn about(visits: &Visits, options: &Options, versions: &BTreeMap<String, String>, seconds: f64) -> Vec<String> {
    let (dropped, all) = visits.dropped();
    let (least, median, most) = visits.stolen();
    let others: Vec<String> = versions
        .iter()
        .map(|(name, version)| format!("{name} {version}"))
        .collect();
    vec![
        machine(),
        format!("Peers: {}. Triton is its PyPI build with the python backend, which is not its fastest.", others.join(", ")),
        format!(
            "{} rounds of {} s per measurement, {:.0} minutes in all. A visit is one side alive once; {dropped} of {all} were dropped, because the host \
             took more than 10 % of the processors or the echo beside them moved by more than 15 %. Time taken by the host (steal), least, median and \
             greatest of the visits: {:.1} %, {:.1} %, {:.1} %.",
            options.rounds,
            options.seconds,
            seconds / 60.0,
            least * 100.0,
            median * 100.0,
            most * 100.0
        ),
        "One side alive at a time, on core 0; the load on the last core. Open Inference Protocol v2 as JSON over HTTP/1.1 (row 5: tensors as bytes); one \
         item per request but in row 5; rows 1, 2, 3 and 6 with a classifier of 70 KB, 4, 7, 8 and 9 with a transformer of 69 MB. Every side: one thread \
         of the same ONNX Runtime without spinning, the same model file, every answer equal to ONNX Runtime's own within 1e-4 before anything is \
         measured. Ratios are taken within rounds."
            .to_owned(),
    ]
}

/// Versions of the peers and of ONNX Runtime, from their pins.
fn versions(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut versions = BTreeMap::new();
    for peer in PEERS {
        let path = folder.join(format!("{peer}.txt"));
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let own = PACKAGES
            .iter()
            .find(|(name, _)| *name == peer)
            .map_or(peer, |(_, package)| package);
        for package in [own, "onnxruntime"] {
            let version =
                pinned(&text, package).with_context(|| format!("{} does not pin {package}", path.display()))?;
            versions.insert(package.to_owned(), version.to_owned());
        }
    }
    Ok(versions)
}

fn pinned<'a>(requirements: &'a str, package: &str) -> Option<&'a str> {
    requirements.lines().find_map(|line| {
        let version = line.strip_prefix(package)?.strip_prefix("==")?;
        version.split_whitespace().next()
    })
}

fn table(rows: &[Row]) -> Result<String> {
    let mut table = String::from(
        "| row | what | least | median | most | rounds | target | |\n|---|---|---:|---:|---:|---:|---:|---|\n",
    );
    for row in rows {
        let unit = if row.unit.is_empty() {
            String::new()
        } else {
            format!(", {}", row.unit)
        };
        let target = row.target.map_or_else(String::new, |target| target.to_string());
        let figures = row.found.map_or_else(
            || "| | | |".to_owned(),
            |found| {
                format!(
                    "| {:.2} | {:.2} | {:.2} | {}",
                    found.least, found.median, found.most, found.rounds
                )
            },
        );
        writeln!(
            table,
            "| {} | {}{unit} {figures} | {target} | {} |",
            row.number,
            row.what,
            verdict(row)
        )?;
    }
    Ok(table)
}

fn verdict(row: &Row) -> String {
    let mut text = match &row.verdict {
        Verdict::Reached => "reached".to_owned(),
        Verdict::Missed => "missed".to_owned(),
        Verdict::Stated => String::new(),
        Verdict::NotMeasured(reason) => reason.replace(['|', '\n'], " "),
    };
    if row.found.is_some_and(|found| found.is_disturbed) {
        text.push_str(if text.is_empty() { "disturbed" } else { ", disturbed" });
    }
    text
}

/// Peers that took no part, with the reason.
fn left_out(missing: &BTreeMap<&'static str, String>) -> String {
    missing.iter().fold(String::new(), |mut text, (name, reason)| {
        let _ = write!(text, "\nLeft out: {}: {reason}\n", claims::title(name));
        text
    })
}

/// Why targets were missed, as Markdown.
fn why(reasons: &[String]) -> String {
    if reasons.is_empty() {
        return String::new();
    }
    format!("\nWhy targets are missed:\n\n- {}\n", reasons.join("\n- "))
}

fn page(
    about: &[String],
    rows: &[Row],
    (missing, reasons): (&str, &[String]),
    plots: &[(&'static str, String)],
) -> String {
    let mut body = String::new();
    for row in rows {
        let figures = row.found.map_or_else(
            || "<td><td><td><td>".to_owned(),
            |found| {
                format!(
                    "<td>{:.2}<td><b>{:.2}</b><td>{:.2}<td>{}",
                    found.least, found.median, found.most, found.rounds
                )
            },
        );
        let target = row.target.map_or_else(String::new, |target| target.to_string());
        let (what, says) = (escape(&row.what), escape(&verdict(row)));
        let _ = write!(
            body,
            "<tr><td>{}<td>{what} {}{figures}<td>{target}<td>{says}",
            row.number, row.unit
        );
    }
    let paragraphs: Vec<String> = about.iter().map(|text| format!("<p>{}</p>", escape(text))).collect();
    let plots: Vec<&str> = plots.iter().map(|(_, svg)| svg.as_str()).collect();
    let items: Vec<String> = reasons
        .iter()
        .map(|reason| format!("<p>Missed, {}</p>", escape(reason)))
        .collect();
    format!(
        "<!doctype html><meta charset=\"utf-8\"><meta name=\"color-scheme\" content=\"light dark\"><title>Inference server beside others</title>\
         <style>body{{font-family:sans-serif;max-width:70em;margin:auto}}td,th{{padding:2px 8px;text-align:left}}svg{{max-width:100%}}</style>\
         <h1>Inference server beside others</h1>{}<table><tr><th>row<th>what<th>least<th>median<th>most<th>rounds<th>target<th>{body}</table>\
         <p>{}</p>{}{}\n",
        paragraphs.concat(),
        escape(missing),
        items.concat(),
        plots.concat()
    )
}

pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::claims::Target;
    use crate::bench::visits::Found;

    fn row(verdict: Verdict, found: Option<Found>) -> Row {
        Row {
            number: 3,
            what: "a / b".to_owned(),
            unit: "",
            target: Some(Target::AtLeast(3.0)),
            found,
            verdict,
        }
    }

    #[test]
    fn the_table_says_what_was_missed_and_what_was_disturbed() {
        let found = Found {
            least: 1.0,
            median: 2.0,
            most: 4.0,
            rounds: 5,
            is_disturbed: true,
        };
        let rows = [
            row(Verdict::Missed, Some(found)),
            row(Verdict::NotMeasured("pip has\nfailed".to_owned()), None),
        ];
        let table = table(&rows).unwrap();
        let lines: Vec<&str> = table.lines().skip(2).collect();
        assert_eq!(
            lines[0],
            "| 3 | a / b | 1.00 | 2.00 | 4.00 | 5 | ≥ 3 | missed, disturbed |"
        );
        assert_eq!(lines[1], "| 3 | a / b | | | | | ≥ 3 | pip has failed |");
    }

    #[test]
    fn why_targets_were_missed_stands_below_the_table_and_on_the_page() {
        let reasons = ["row 3: a < b".to_owned(), "row 4: c".to_owned()];
        assert_eq!(
            why(&reasons),
            "\nWhy targets are missed:\n\n- row 3: a < b\n- row 4: c\n"
        );
        assert_eq!(why(&[]), "");
        let page = page(&[], &[], ("", &reasons), &[]);
        assert!(
            page.contains("<p>Missed, row 3: a &lt; b</p><p>Missed, row 4: c</p>"),
            "{page}"
        );
    }

    #[test]
    fn versions_come_from_the_pins() {
        let versions = versions(&paths::repository_dir().join("inference-server/bench/environments")).unwrap();
        let names: Vec<&str> = versions.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "fastapi",
                "kserve",
                "mlserver",
                "mosec",
                "nvidia-pytriton",
                "onnxruntime"
            ]
        );
        assert_eq!(pinned("a==1 \\\nonnx==1.2 ; x\n", "onnx"), Some("1.2"));
        assert_eq!(pinned("onnxruntime==1.2\n", "onnx"), None);
    }

    #[test]
    fn every_peer_runs_the_onnxruntime_that_the_server_loads() {
        let root = paths::repository_dir();
        let fetch = fs::read_to_string(root.join("inference-server/fetch-onnxruntime.sh")).unwrap();
        for peer in PEERS {
            let text =
                fs::read_to_string(root.join(format!("inference-server/bench/environments/{peer}.txt"))).unwrap();
            let version = pinned(&text, "onnxruntime").unwrap();
            assert!(fetch.contains(version), "{peer} pins {version}");
        }
    }
}
