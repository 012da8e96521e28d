//! What is left of a run: `table.md` for people who read a terminal, `report.html` with plots, `result.json` with every sample.
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, Result};

use super::Results;
use super::lives::course;
use super::race::{DIRECT, HPA};
use super::replayed::Replayed;
use super::tables::{Table, tables};
use crate::bench::rows_report::escape;
use crate::console::{progress, result};
use crate::demo::plots::{BLUE, GREEN, Line, ORANGE, Plot, VIOLET, svg};
use crate::load::Sample;
use crate::paths;

/// Requests per second are shown as means over so many.
const BIN_SECONDS: f64 = 5.0;

/// Writes all of it, and prints the tables.
pub(super) fn write(results: &Results) -> Result<()> {
    let folder = paths::target_dir().join("bench-cluster");
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let tables = tables(results);
    let mut text = format!("# The autoscaler on a cluster\n\n{}\n\n", results.about());
    text.extend(tables.iter().map(|table| table.to_markdown() + "\n"));
    let put = |file: &str, content: &str| {
        let path = folder.join(file);
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))
    };
    put("table.md", &text)?;
    put("result.json", &serde_json::to_string(results)?)?;
    put("report.html", &page(results, &tables)?)?;
    result(text.trim_end());
    progress(format_args!(
        "table.md, report.html and result.json are in {}",
        folder.display()
    ));
    Ok(())
}

fn page(results: &Results, tables: &[Table]) -> Result<String> {
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"color-scheme\" content=\"light dark\"><title>The autoscaler on a cluster</title>\
         <style>body{{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem}}td,th{{padding:2px 10px 2px 0;text-align:left}}\
         svg rect[fill='#FFFFFF']{{fill:transparent}}</style><h1>The autoscaler on a cluster</h1><p>{}</p>",
        escape(&results.about())
    );
    for table in tables {
        write!(html, "<h2>{}</h2><table><tr>", escape(&table.title))?;
        for column in &table.columns {
            write!(html, "<th>{}", escape(column))?;
        }
        for row in &table.rows {
            html.push_str("<tr>");
            for cell in row {
                write!(html, "<td>{}", escape(cell))?;
            }
        }
        write!(html, "</table><p>{}</p>", escape(&table.note))?;
    }
    html.push_str("<h2>Over time</h2>");
    for plot in drawings(results)? {
        html.push_str(&plot);
    }
    html.push('\n');
    Ok(html)
}

fn drawings(results: &Results) -> Result<Vec<String>> {
    let mut all = Vec::new();
    if let Some(race) = &results.race {
        let seconds = race.slice.fitted.seconds;
        let bands: Vec<_> = race
            .replayed
            .events
            .iter()
            .map(|event| (event.seconds..event.seconds + seconds / 200.0, String::new()))
            .collect();
        let pods = [(DIRECT, BLUE), (HPA, ORANGE)].map(|(name, colour)| pods(&race.replayed, name, name, colour));
        all.push(svg(&Plot {
            title: "Chaos: pods that start or are ready (shaded: something goes wrong)",
            lines: pods.into(),
            bands: &bands,
            seconds,
            logarithmic_from: None,
        })?);
        let late = race.replayed.courses.iter().zip([BLUE, ORANGE]).zip([DIRECT, HPA]);
        let late = late.map(|((course, colour), name)| latencies(name, &course.samples, colour));
        all.push(svg(&Plot {
            title: "Chaos: the slowest answer of each 5 s, from when it was due, in ms",
            lines: late.collect(),
            bands: &bands,
            seconds,
            logarithmic_from: Some(10.0),
        })?);
    }
    if let Some(comparison) = &results.comparison {
        for (one, course) in comparison.compared.iter().zip(&comparison.replayed.courses) {
            let pods = pods(&comparison.replayed, &course.service, "pods", GREEN);
            all.push(svg(&Plot {
                title: &format!("{}: requests per second, and pods", one.slice.name),
                lines: vec![rate(&one.slice.fitted.times), pods],
                bands: &[],
                seconds: one.slice.fitted.seconds,
                logarithmic_from: None,
            })?);
        }
    }
    if let Some(reactions) = &results.reactions {
        let (direct, hpa) = reactions.seconds();
        all.push(svg(&Plot {
            title: "Reactions in seconds, sorted: across, the percentage of steps that took no longer",
            lines: vec![sorted("Direct", direct, BLUE), sorted("Hpa", hpa, ORANGE)],
            bands: &[],
            seconds: 100.0,
            logarithmic_from: Some(0.1),
        })?);
    }
    Ok(all)
}

fn pods(replayed: &Replayed, service: &str, name: &'static str, colour: plotters::style::RGBColor) -> Line {
    Line {
        name,
        colour,
        points: course(&replayed.lives, service),
        steps: true,
    }
}

fn rate(times: &[f64]) -> Line {
    let mut bins: Vec<f64> = Vec::new();
    for time in times {
        let bin = (time / BIN_SECONDS) as usize;
        if bins.len() <= bin {
            bins.resize(bin + 1, 0.0);
        }
        if let Some(count) = bins.get_mut(bin) {
            *count += 1.0 / BIN_SECONDS;
        }
    }
    Line {
        name: "requests/s",
        colour: VIOLET,
        points: bins
            .iter()
            .enumerate()
            .map(|(bin, rate)| (bin as f64 * BIN_SECONDS, *rate))
            .collect(),
        steps: true,
    }
}

fn latencies(name: &'static str, samples: &[Sample], colour: plotters::style::RGBColor) -> Line {
    let mut points: Vec<(f64, f64)> = Vec::new();
    for sample in samples {
        let at = (sample.due / BIN_SECONDS).floor() * BIN_SECONDS;
        match points.last_mut() {
            Some((bin, most)) if *bin >= at => *most = most.max(sample.latency_ms),
            _ => points.push((at, sample.latency_ms)),
        }
    }
    Line {
        name,
        colour,
        points,
        steps: true,
    }
}

fn sorted(name: &'static str, mut seconds: Vec<f64>, colour: plotters::style::RGBColor) -> Line {
    seconds.sort_by(f64::total_cmp);
    let count = seconds.len() as f64;
    let points = seconds.into_iter().enumerate();
    Line {
        name,
        colour,
        points: points
            .map(|(index, seconds)| ((index as f64 + 1.0) / count * 100.0, seconds))
            .collect(),
        steps: false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::steps::{Reaction, Reactions};
    use super::*;
    use crate::bench::processor::Shares;

    #[test]
    fn the_page_has_what_was_run_and_loads_nothing() {
        let steps = [(1.5, 14.0), (0.5, 9.0)].map(|(direct, hpa)| Reaction {
            direct: Some(direct),
            hpa: Some(hpa),
        });
        let results = Results {
            reactions: Some(Reactions {
                all: steps.into(),
                machine: Shares::default(),
            }),
            ..Results::default()
        };
        let html = page(&results, &tables(&results)).unwrap();
        assert_eq!((html.matches("<svg ").count(), html.matches("<table>").count()), (1, 1));
        assert!(html.contains("<td>max<td>1.50<td>14.00<td>0.11"), "{html}");
        for outside in ["<script", "<link", "src=", "url("] {
            assert!(!html.contains(outside), "{outside}");
        }
    }

    #[test]
    fn lines_are_made_of_what_was_measured() {
        assert_eq!(rate(&[0.0, 4.9, 5.0]).points, [(0.0, 0.4), (5.0, 0.2)]);
        let sample = |due, latency_ms| Sample {
            due,
            latency_ms,
            outcome: "ok",
        };
        let line = latencies("x", &[sample(1.0, 30.0), sample(4.0, 10.0), sample(11.0, 5.0)], BLUE);
        assert_eq!(line.points, [(0.0, 30.0), (10.0, 5.0)]);
        assert_eq!(sorted("x", vec![3.0, 1.0], BLUE).points, [(50.0, 1.0), (100.0, 3.0)]);
    }
}
