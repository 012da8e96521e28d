//! Several policies on several workloads, side by side: a table, JSON, and a page with a plot of price against lateness for each workload.

use clap::Parser as _;
use plotters::prelude::*;
use serde::Serialize;

use crate::args::{Cli, Command, CompareArgs, RunArgs};
use crate::error::{Error, Result};
use crate::policies;
use crate::run::{self, Unwatched};
use crate::score::Score;
use crate::settings::Settings;

/// Who is compared, with which knobs; the first is the yardstick of the price.
const CONTENDERS: [(&str, &[&str]); 7] = [
    ("clairvoyant", &[]),
    ("tidewright", &["push=true"]),
    ("tidewright", &[]),
    ("hpa-cpu", &[]),
    ("hpa-rps", &[]),
    ("keda", &[]),
    ("kpa", &[]),
];
/// With `--sweep`: each policy's own knob, so that nobody is judged by one setting alone.
const KNOBS: [(&str, &str, &[&str]); 5] = [
    ("tidewright", "price", &["1", "2", "4", "16"]),
    ("hpa-cpu", "target", &["0.4", "0.5", "0.6", "0.8", "0.9"]),
    ("hpa-rps", "target", &["0.4", "0.5", "0.6", "0.8", "0.9"]),
    ("keda", "target", &["0.4", "0.5", "0.6", "0.8", "0.9"]),
    ("kpa", "target", &["0.4", "0.5", "0.6", "0.8", "0.9"]),
];

/// One policy on one workload, over all seeds.
#[derive(Debug, Serialize)]
pub struct Row {
    pub workload: String,
    pub policy: String,
    pub settings: Vec<String>,
    /// One per seed.
    pub scores: Vec<Score>,
    /// Mean share of late or lost requests, and the least and the most of the seeds.
    pub violations: [f64; 3],
    /// Mean price, relative to the work at full utilisation.
    pub cost: f64,
    /// Mean pod-seconds over those of the clairvoyant.
    pub to_clairvoyant: f64,
}

/// Runs all and renders the table or JSON; writes the page if asked to.
pub fn compare(args: &CompareArgs) -> Result<String> {
    let mut rows = Vec::new();
    for workload in &args.traces {
        rows.extend(one_workload(workload, args)?);
    }
    if let Some(path) = &args.html {
        let page = html(&rows)?;
        std::fs::write(path, page).map_err(|source| Error::File {
            path: path.clone(),
            source,
        })?;
    }
    if args.json {
        // Numbers and texts only: this cannot fail.
        Ok(serde_json::to_string(&rows).unwrap_or_default() + "\n")
    } else {
        Ok(table(&rows, args.seeds))
    }
}

fn one_workload(workload: &str, args: &CompareArgs) -> Result<Vec<Row>> {
    let mut contenders: Vec<(&str, Vec<String>)> = CONTENDERS
        .iter()
        .map(|(policy, settings)| (*policy, settings.iter().map(|&text| text.to_owned()).collect()))
        .collect();
    if args.sweep {
        for (policy, knob, values) in KNOBS {
            contenders.extend(values.iter().map(|value| (policy, vec![format!("{knob}={value}")])));
        }
    }
    let mut rows: Vec<Row> = Vec::new();
    for (policy, settings) in contenders {
        let mut scores = Vec::new();
        for seed in 1..=args.seeds {
            scores.push(one_run(workload, policy, &settings, seed, &args.faults)?);
        }
        let mean = |value: fn(&Score) -> f64| scores.iter().map(value).sum::<f64>() / scores.len().max(1) as f64;
        let violations = scores.iter().map(|score| score.violations);
        let yardstick = rows.first().map(|row: &Row| row.cost);
        let cost = mean(|score| score.cost);
        rows.push(Row {
            workload: name(workload),
            policy: policy.to_owned(),
            settings,
            violations: [
                mean(|score| score.violations),
                violations.clone().fold(f64::INFINITY, f64::min),
                violations.fold(0.0, f64::max),
            ],
            cost,
            to_clairvoyant: cost / yardstick.unwrap_or(cost),
            scores,
        });
    }
    Ok(rows)
}

/// By way of the command line of `run`, so that a word means the same in both.
fn one_run(workload: &str, policy: &str, settings: &[String], seed: u64, faults: &[String]) -> Result<Score> {
    let args = run_args(workload, policy, seed, faults)?;
    let load = args.load.workload()?;
    let scenario = args.world.scenario(&load)?;
    let mut policy = policies::build(policy, Settings::parse(settings)?, &scenario, &load)?;
    run::run(&scenario, &load, policy.as_mut(), &mut Unwatched)
        .ok_or_else(|| Error::option("--slo-ms", "no histogram of latencies can be made"))
}

/// `FILE,key=value,…`: the options of `run` without their dashes.
fn run_args(workload: &str, policy: &str, seed: u64, faults: &[String]) -> Result<RunArgs> {
    let mut parts = workload.split(',');
    let mut words = vec!["tidewright-sim".to_owned(), "run".to_owned(), "--trace".to_owned()];
    words.push(parts.next().unwrap_or_default().to_owned());
    words.extend(["--policy".to_owned(), policy.to_owned(), format!("--seed={seed}")]);
    words.extend(parts.map(|part| format!("--{part}")));
    words.extend(faults.iter().map(|fault| format!("--fault={fault}")));
    let refused = |problem: String| Error::option(format!("--trace {workload}"), problem);
    match Cli::try_parse_from(words)
        .map_err(|problem| refused(problem.to_string()))?
        .command
    {
        Command::Run(args) => Ok(*args),
        _ => Err(refused("is no workload".to_owned())),
    }
}

/// The file's name without its endings, and what was changed.
fn name(workload: &str) -> String {
    let (file, rest) = workload.split_once(',').unwrap_or((workload, ""));
    let file = file.rsplit('/').next().unwrap_or(file);
    let file = file.trim_end_matches(".zst").trim_end_matches(".csv");
    if rest.is_empty() {
        file.to_owned()
    } else {
        format!("{file} ({rest})")
    }
}

fn table(rows: &[Row], seeds: u64) -> String {
    let mut text = format!(
        "| workload | policy | late or lost, % ({seeds} seeds: least to most) | cost | to clairvoyant | actions/day | reversals | lost |\n\
         |---|---|---|---|---|---|---|---|\n"
    );
    for row in rows {
        let mean =
            |value: fn(&Score) -> f64| row.scores.iter().map(value).sum::<f64>() / row.scores.len().max(1) as f64;
        let line = [
            row.workload.clone(),
            format!("{} {}", row.policy, row.settings.join(" "))
                .trim_end()
                .to_owned(),
            format!(
                "{:.3} ({:.3} to {:.3})",
                row.violations[0] * 100.0,
                row.violations[1] * 100.0,
                row.violations[2] * 100.0
            ),
            format!("{:.3}", row.cost),
            format!("{:.3}", row.to_clairvoyant),
            format!("{:.0}", mean(|score| score.actions_per_day)),
            format!("{:.0}", mean(|score| score.reversals as f64)),
            format!("{:.0}", mean(|score| score.lost as f64)),
        ];
        text.push_str("| ");
        text.push_str(&line.join(" | "));
        text.push_str(" |\n");
    }
    text
}

fn html(rows: &[Row]) -> Result<String> {
    let mut page = String::from(
        "<!doctype html><meta charset=utf-8><title>tidewright-sim compare</title>\
         <style>body{font:15px/1.5 sans-serif;max-width:64em;margin:2em auto;padding:0 1em}</style>\
         <h1>Price against lateness</h1><p>Left and low is better. Both axes are logarithmic; the line is the promise.",
    );
    let mut workloads: Vec<&str> = rows.iter().map(|row| row.workload.as_str()).collect();
    workloads.dedup();
    for workload in workloads {
        let points: Vec<&Row> = rows.iter().filter(|row| row.workload == workload).collect();
        let plot = plot(workload, &points).map_err(|problem| Error::option("--html", problem))?;
        page.push_str(&plot);
    }
    Ok(page)
}

/// Least violations that the plot tells apart.
const VIOLATIONS_MIN: f64 = 2e-4;

fn plot(workload: &str, rows: &[&Row]) -> std::result::Result<String, String> {
    let failed = |problem: DrawingAreaErrorKind<std::io::Error>| problem.to_string();
    let costs = rows.iter().map(|row| row.cost);
    let (low, high) = (costs.clone().fold(f64::INFINITY, f64::min), costs.fold(1.0, f64::max));
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, (860, 420)).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let mut chart = ChartBuilder::on(&root)
            .caption(workload, ("sans-serif", 16))
            .margin(8)
            .x_label_area_size(36)
            .y_label_area_size(56)
            .build_cartesian_2d((low * 0.9..high * 1.1).log_scale(), (VIOLATIONS_MIN..0.5).log_scale())
            .map_err(failed)?;
        chart
            .configure_mesh()
            .x_desc("pod-seconds over the work at full utilisation")
            .y_desc("share late or lost")
            .draw()
            .map_err(failed)?;
        let promise = [(low * 0.9, 0.01), (high * 1.1, 0.01)];
        chart
            .draw_series(LineSeries::new(promise, &BLACK.mix(0.4)))
            .map_err(failed)?;
        let mut names: Vec<&str> = rows.iter().map(|row| row.policy.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        for (index, name) in names.iter().enumerate() {
            let colour = Palette99::pick(index).to_rgba();
            let points = rows.iter().filter(|row| row.policy == *name);
            let circles =
                points.map(|row| Circle::new((row.cost, row.violations[0].max(VIOLATIONS_MIN)), 5, colour.filled()));
            chart
                .draw_series(circles)
                .map_err(failed)?
                .label(*name)
                .legend(move |(x, y)| Circle::new((x + 8, y), 5, colour.filled()));
        }
        chart
            .configure_series_labels()
            .border_style(BLACK.mix(0.3))
            .background_style(WHITE.mix(0.8))
            .draw()
            .map_err(failed)?;
        root.present().map_err(failed)?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Twenty minutes of five requests per second, as a trace.
    fn trace() -> tempfile::NamedTempFile {
        let file = tempfile::Builder::new().suffix(".csv").tempfile().unwrap();
        let rows: Vec<String> = (0..1200).map(|second| format!("{second},5")).collect();
        std::fs::write(file.path(), format!("second,count\n{}\n", rows.join("\n"))).unwrap();
        file
    }

    fn args(trace: &str) -> CompareArgs {
        let words = ["tidewright-sim", "compare", "--trace", trace, "--seeds", "1"];
        match Cli::try_parse_from(words).unwrap().command {
            Command::Compare(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn everybody_has_a_row_and_the_clairvoyant_is_the_yardstick() {
        let file = trace();
        let text = compare(&args(&format!("{},peak-pods=4", file.path().display()))).unwrap();
        for (policy, _) in CONTENDERS {
            assert!(text.contains(&format!("| {policy}")), "{policy}: {text}");
        }
        let first = text.lines().nth(2).unwrap();
        assert!(
            first.contains("(peak-pods=4) | clairvoyant |") && first.contains("| 1.000 |"),
            "{first}"
        );
    }

    #[test]
    fn the_page_has_a_plot_per_workload() {
        let file = trace();
        let folder = tempfile::tempdir().unwrap();
        let mut args = args(&file.path().display().to_string());
        args.html = Some(folder.path().join("page.html"));
        compare(&args).unwrap();
        let page = std::fs::read_to_string(folder.path().join("page.html")).unwrap();
        assert_eq!(page.matches("<svg").count(), 1);
        assert!(page.contains("tidewright") && page.contains("hpa-rps"));
    }

    #[test]
    fn a_word_that_run_does_not_know_is_refused() {
        let problem = compare(&args("x.csv,thinn=0.5")).unwrap_err().to_string();
        assert!(problem.contains("thinn"), "{problem}");
    }
}
