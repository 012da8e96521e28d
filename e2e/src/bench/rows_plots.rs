//! Plots of `make bench-server` as SVG: the ratios as bars, what is served under overload, and the memory of workers.
use std::fmt::Write as _;

use anyhow::Result;
use plotters::prelude::*;

use super::claims::{Row, title};
use super::report::spread;
use super::rows_report::escape;
use super::visits::Visits;
use super::{start_part, text_part};

const SIZE: (u32, u32) = (960, 320);
// Mid tones, readable on white and on black.
const BLUE: RGBColor = RGBColor(59, 130, 246);
const ORANGE: RGBColor = RGBColor(217, 119, 6);
const PURPLE: RGBColor = RGBColor(147, 51, 234);
const GREEN: RGBColor = RGBColor(22, 163, 74);
/// Stands for the page's own text colour until the drawing is done.
const TEXT: RGBColor = RGBColor(1, 2, 3);

/// One line with points.
struct Curve {
    name: String,
    colour: RGBColor,
    points: Vec<(f64, f64)>,
}

/// Names and drawings; what was not measured is not drawn.
pub(super) fn all(rows: &[Row], visits: &Visits) -> Result<Vec<(&'static str, String)>> {
    let mut plots = vec![("ratios", bars(rows))];
    let overload: Vec<Curve> = [
        (text_part::TOLD, PURPLE),
        (text_part::OBJECTIVE, BLUE),
        ("server", GREEN),
        ("triton", ORANGE),
    ]
    .into_iter()
    .map(|(side, colour)| Curve {
        name: title(side).to_owned(),
        colour,
        points: medians(visits, text_part::PART, side, &text_part::OVERLOADS, |times| {
            format!("goodput_at_{times}")
        }),
    })
    .filter(|curve| !curve.points.is_empty())
    .collect();
    if !overload.is_empty() {
        let says = ("answers in time per second, by offered load / what is served", "times");
        plots.push(("overload", curves(says, &overload)?));
    }
    let counts = start_part::COUNTS.map(f64::from);
    let memory: Vec<Curve> = [("idle", "pss_mib", BLUE), ("having served", "pss_mib_served", ORANGE)]
        .into_iter()
        .map(|(name, what, colour)| Curve {
            name: name.to_owned(),
            colour,
            points: medians(visits, start_part::WORKERS, "server", &counts, |count| {
                format!("{what}_{count}")
            }),
        })
        .filter(|curve| !curve.points.is_empty())
        .collect();
    if !memory.is_empty() {
        plots.push((
            "workers",
            curves(("memory (PSS) in MiB, by workers", "workers"), &memory)?,
        ));
    }
    Ok(plots)
}

/// The median over all rounds at each place.
fn medians(visits: &Visits, part: &str, side: &str, at: &[f64], what: impl Fn(f64) -> String) -> Vec<(f64, f64)> {
    let median = |place: f64| {
        let name = what(place);
        let of_side = visits.0.iter().filter(|visit| visit.part == part && visit.side == side);
        let (_, median, _) = spread(of_side.filter_map(|visit| visit.values.get(&name).copied()));
        (place, median)
    };
    at.iter()
        .map(|place| median(*place))
        .filter(|(_, value)| value.is_finite())
        .collect()
}

fn curves((heading, across): (&str, &str), all: &[Curve]) -> Result<String> {
    let points = || all.iter().flat_map(|curve| &curve.points);
    let right = points().map(|(x, _)| *x).fold(1.0_f64, f64::max) * 1.02;
    let top = points().map(|(_, y)| *y).fold(1.0_f64, f64::max) * 1.15;
    let label = |size: u32| ("sans-serif", size).into_font().color(&TEXT);
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        let root = root.titled(heading, label(15)).map_err(failed)?;
        let mut chart = ChartBuilder::on(&root)
            .margin(6)
            .x_label_area_size(40)
            .y_label_area_size(52)
            .build_cartesian_2d(0.0..right, 0.0..top)
            .map_err(failed)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .axis_style(TEXT)
            .bold_line_style(TEXT.mix(0.15))
            .light_line_style(TRANSPARENT)
            .label_style(label(11))
            .axis_desc_style(label(12))
            .x_desc(across)
            .draw()
            .map_err(failed)?;
        for (index, curve) in all.iter().enumerate() {
            let colour = curve.colour;
            chart
                .draw_series(LineSeries::new(curve.points.clone(), colour.stroke_width(2)))
                .map_err(failed)?;
            chart
                .draw_series(curve.points.iter().map(|point| Circle::new(*point, 4, colour.filled())))
                .map_err(failed)?;
            let place = (right * 0.02, top * (0.98 - 0.07 * index as f64));
            let name = Text::new(curve.name.clone(), place, ("sans-serif", 13).into_font().color(&colour));
            chart.draw_series([name]).map_err(failed)?;
        }
        root.present().map_err(failed)?;
    }
    Ok(text.replace("#010203", "currentColor"))
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow::anyhow!("drawing a plot: {error}")
}

/// A bar for each row that is a ratio, on a logarithmic scale, with a whisker from least to most.
fn bars(rows: &[Row]) -> String {
    const LEFT: f64 = 620.0;
    const DECADE: f64 = 110.0;
    let across = |value: f64| LEFT + (value.clamp(0.01, 1000.0).log10() + 2.0) * DECADE;
    let ratios: Vec<_> = rows
        .iter()
        .filter(|row| row.unit.is_empty())
        .filter_map(|row| Some((row, row.found?)))
        .collect();
    let height = 40 + 30 * ratios.len();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 1220 {height}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"currentColor\">"
    );
    for (decade, label) in [(0.01, "0.01"), (0.1, "0.1"), (1.0, "1"), (10.0, "10"), (100.0, "100")] {
        let x = across(decade);
        let _ = write!(
            svg,
            "<line x1=\"{x}\" x2=\"{x}\" y1=\"20\" y2=\"{height}\" stroke=\"currentColor\" opacity=\"0.3\"/><text x=\"{x}\" y=\"14\" \
             text-anchor=\"middle\">{label}</text>"
        );
    }
    for (index, (row, found)) in ratios.iter().enumerate() {
        let top = 30 + 30 * index;
        let (start, end, middle) = (across(0.01), across(found.median), top + 9);
        let _ = write!(
            svg,
            "<text x=\"0\" y=\"{}\">{} {}</text><rect x=\"{start:.0}\" y=\"{top}\" width=\"{:.0}\" height=\"18\" fill=\"rgb(59,130,246)\"/>\
             <line x1=\"{:.0}\" x2=\"{:.0}\" y1=\"{middle}\" y2=\"{middle}\" stroke=\"currentColor\"/><text x=\"{:.0}\" y=\"{}\">{:.2}</text>",
            top + 14,
            row.number,
            escape(&row.what),
            end - start,
            across(found.least),
            across(found.most),
            across(found.most) + 6.0,
            top + 14,
            found.median
        );
    }
    svg.push_str("</svg>");
    svg
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::bench::claims;
    use crate::bench::visits::tests::visit;

    #[test]
    fn what_was_measured_is_drawn() {
        let side = text_part::OBJECTIVE;
        let visits = Visits(vec![
            visit(
                text_part::PART,
                0,
                side,
                &[
                    ("goodput_at_0.5", 60.0),
                    ("goodput_at_5", 95.0),
                    ("goodput_peak", 100.0),
                ],
            ),
            visit(
                text_part::PART,
                1,
                side,
                &[
                    ("goodput_at_0.5", 62.0),
                    ("goodput_at_5", 97.0),
                    ("goodput_peak", 100.0),
                ],
            ),
            visit(
                text_part::PART,
                1,
                "server",
                &[("goodput_at_0.5", 60.0), ("goodput_at_5", 20.0), ("goodput_peak", 80.0)],
            ),
        ]);
        let points = medians(&visits, text_part::PART, side, &text_part::OVERLOADS, |times| {
            format!("goodput_at_{times}")
        });
        assert_eq!(points, [(0.5, 62.0), (5.0, 97.0)]);
        let rows = claims::rows(&visits, &BTreeMap::new(), |_| true);
        let plots = all(&rows, &visits).unwrap();
        assert_eq!(
            plots.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
            ["ratios", "overload"]
        );
        assert!(
            plots
                .iter()
                .all(|(_, svg)| svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"))
        );
        assert!(plots[0].1.contains(">0.97</text>"), "{}", plots[0].1);
        assert!(plots[1].1.contains("objective"));
        // Tuned for overload, and by default.
        assert!(plots[1].1.contains("#3B82F6") && plots[1].1.contains("#16A34A"));
        assert!(plots[0].1.contains(">0.25</text>"), "{}", plots[0].1);
    }
}
