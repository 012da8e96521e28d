//! Lines over time as SVG that follows the page's colours, light or dark.
use std::ops::Range;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

/// One line of a plot.
#[derive(Debug, Clone)]
pub struct Line {
    pub name: &'static str,
    pub colour: RGBColor,
    /// (seconds, value)
    pub points: Vec<(f64, f64)>,
    /// Holds its value until the next point: for what changes in steps.
    pub steps: bool,
}

/// What a plot shows.
#[derive(Debug, Clone)]
pub struct Plot<'a> {
    pub title: &'a str,
    pub lines: Vec<Line>,
    /// Spans of time with a name, as a background.
    pub bands: &'a [(Range<f64>, String)],
    pub seconds: f64,
    /// Powers of ten on the vertical axis, from this value up.
    pub logarithmic_from: Option<f64>,
}

// Mid tones, readable on white and on black.
pub const BLUE: RGBColor = RGBColor(59, 130, 246);
pub const GREEN: RGBColor = RGBColor(22, 163, 74);
pub const RED: RGBColor = RGBColor(220, 38, 38);
pub const VIOLET: RGBColor = RGBColor(147, 51, 234);
pub const ORANGE: RGBColor = RGBColor(217, 119, 6);

/// Stands for the page's own text colour until [`follow_page`] puts that in.
const TEXT: RGBColor = RGBColor(1, 2, 3);

const SIZE: (u32, u32) = (960, 250);

/// Draws it.
pub fn svg(plot: &Plot<'_>) -> Result<String> {
    let values = plot
        .lines
        .iter()
        .flat_map(|line| line.points.iter().map(|(_, value)| *value));
    let top = values.fold(1.0_f64, f64::max) * 1.1;
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        let root = root
            .titled(plot.title, ("sans-serif", 15).into_font().color(&TEXT))
            .map_err(failed)?;
        let mut builder = ChartBuilder::on(&root);
        builder.margin(6).x_label_area_size(30).y_label_area_size(52);
        let across = 0.0..plot.seconds;
        if let Some(bottom) = plot.logarithmic_from {
            let top = top.max(bottom * 10.0);
            let mut chart = builder
                .build_cartesian_2d(across, (bottom..top).log_scale())
                .map_err(failed)?;
            draw(&mut chart, plot, bottom, top)?;
        } else {
            let mut chart = builder.build_cartesian_2d(across, 0.0..top).map_err(failed)?;
            draw(&mut chart, plot, 0.0, top)?;
        }
        root.present().map_err(failed)?;
    }
    Ok(follow_page(&text))
}

fn draw<'a, Y>(
    chart: &mut ChartContext<'a, SVGBackend<'a>, Cartesian2d<plotters::coord::types::RangedCoordf64, Y>>,
    plot: &Plot<'_>,
    bottom: f64,
    top: f64,
) -> Result<()>
where
    Y: Ranged<ValueType = f64> + plotters::coord::ranged1d::ValueFormatter<f64>,
{
    for (index, (span, name)) in plot.bands.iter().enumerate() {
        let shade = VIOLET.mix(if index % 2 == 0 { 0.10 } else { 0.05 });
        chart
            .draw_series([Rectangle::new([(span.start, bottom), (span.end, top)], shade.filled())])
            .map_err(failed)?;
        let label = Text::new(
            name.clone(),
            (span.start, top),
            ("sans-serif", 11).into_font().color(&TEXT),
        );
        chart.draw_series([label]).map_err(failed)?;
    }
    let label = |size: u32| ("sans-serif", size).into_font().color(&TEXT);
    chart
        .configure_mesh()
        .disable_x_mesh()
        .axis_style(TEXT)
        .bold_line_style(TEXT.mix(0.15))
        .light_line_style(TRANSPARENT)
        .label_style(label(11))
        .x_label_formatter(&|seconds| format!("{seconds:.0} s"))
        .y_label_formatter(&|value| {
            if *value >= 10.0 {
                format!("{value:.0}")
            } else {
                format!("{value:.3}")
                    .trim_end_matches('0')
                    .trim_end_matches('.')
                    .to_owned()
            }
        })
        .y_labels(6)
        .x_labels(12)
        .draw()
        .map_err(failed)?;
    for line in &plot.lines {
        let colour = line.colour;
        let points = stepped(line).into_iter().map(|(x, y)| (x, y.max(bottom)));
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)))
            .map_err(failed)?
            .label(line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 14, y)], colour.stroke_width(3)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .label_font(label(12))
        .draw()
        .map_err(failed)
}

fn stepped(line: &Line) -> Vec<(f64, f64)> {
    if !line.steps {
        return line.points.clone();
    }
    let mut points = Vec::with_capacity(line.points.len() * 2);
    for (seconds, value) in &line.points {
        if let Some((_, last)) = points.last().copied() {
            points.push((*seconds, last));
        }
        points.push((*seconds, *value));
    }
    points
}

/// Text and axes in the colour of the page's text; a size that follows its width.
fn follow_page(svg: &str) -> String {
    let (width, height) = SIZE;
    svg.replace("#010203", "currentColor").replacen(
        &format!("width=\"{width}\" height=\"{height}\""),
        "width=\"100%\" role=\"img\"",
        1,
    )
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("drawing a plot: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(logarithmic_from: Option<f64>, bands: &[(Range<f64>, String)]) -> String {
        let line = Line {
            name: "served",
            colour: BLUE,
            points: vec![(0.0, 0.0), (5.0, 120.0), (9.0, 40.0)],
            steps: true,
        };
        svg(&Plot {
            title: "requests/s",
            lines: vec![line],
            bands,
            seconds: 10.0,
            logarithmic_from,
        })
        .unwrap()
    }

    #[test]
    fn a_plot_has_its_names_and_follows_the_page() {
        for logarithmic_from in [None, Some(1.0)] {
            let svg = plot(logarithmic_from, &[(1.0..4.0, "rate".to_owned())]);
            assert!(
                svg.starts_with("<svg ")
                    && svg.contains("requests/s")
                    && svg.contains("served")
                    && svg.contains("rate"),
                "{svg}"
            );
            assert!(
                svg.contains("currentColor") && !svg.contains("#010203") && svg.contains("width=\"100%\""),
                "{svg}"
            );
        }
    }

    #[test]
    fn nothing_is_a_plot_too() {
        let nothing = Plot {
            title: "queue",
            lines: Vec::new(),
            bands: &[],
            seconds: 1.0,
            logarithmic_from: None,
        };
        assert!(svg(&nothing).unwrap().contains("queue"));
    }
}
