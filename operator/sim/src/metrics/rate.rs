//! `rate()` as Prometheus 3 computes it (`extrapolatedRate` in promql/functions.go), over the samples of one counter.

/// One scraped value. Timestamps are milliseconds, as in Prometheus.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    pub at_ms: i64,
    pub value: f64,
}

/// A series must be sampled within this share above the average spacing from the edge of the window to be extended to the edge.
const EXTRAPOLATION_THRESHOLD: f64 = 1.1;

/// Increase per second over the left-open window `(end_ms - range_ms, end_ms]`, from the points inside it, ascending.
///
/// `None` with fewer than two points. The increase is extended to the edges of the window, or by half a spacing where the series seems to begin or
/// end inside it, and never to before the counter's zero. A value below the one before it is a counter that began again at zero.
pub fn rate(points: impl Iterator<Item = Point>, end_ms: i64, range_ms: i64) -> Option<f64> {
    let start_ms = end_ms - range_ms;
    let mut first: Option<Point> = None;
    let mut last = Point { at_ms: 0, value: 0.0 };
    let mut count = 0_u32;
    let mut resets = 0.0;
    for point in points.filter(|point| point.at_ms > start_ms && point.at_ms <= end_ms) {
        if first.is_none() {
            first = Some(point);
        } else if point.value < last.value {
            resets += last.value;
        }
        last = point;
        count += 1;
    }
    let first = first.filter(|_| count >= 2)?;
    let increase = last.value - first.value + resets;
    let seconds = |ms: i64| ms as f64 / 1_000.0;
    let sampled = seconds(last.at_ms - first.at_ms);
    let spacing = sampled / f64::from(count - 1);
    let edge = |distance: f64| {
        if distance >= spacing * EXTRAPOLATION_THRESHOLD {
            spacing / 2.0
        } else {
            distance
        }
    };
    let mut before = edge(seconds(first.at_ms - start_ms));
    if increase > 0.0 && first.value >= 0.0 {
        before = before.min(sampled * (first.value / increase));
    }
    let after = edge(seconds(end_ms - last.at_ms));
    Some(increase * (sampled + before + after) / sampled / seconds(range_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (second, value) pairs, a window of 60 s that ends at second 100.
    fn rate_of(points: &[(f64, f64)]) -> Option<f64> {
        let points = points.iter().map(|(second, value)| Point {
            at_ms: (second * 1_000.0) as i64,
            value: *value,
        });
        rate(points, 100_000, 60_000)
    }

    /// Name, samples, and what comes out.
    type Case<'a> = (&'a str, &'a [(f64, f64)], Option<f64>);

    /// Expected values are worked out by hand from the rules in promql/functions.go.
    #[test]
    fn hand_computed_cases() {
        let cases: [Case<'_>; 11] = [
            ("no sample", &[], None),
            ("one sample", &[(50.0, 7.0)], None),
            // Increase 45 in 45 s; 10 s before and 5 s after are within 1.1 x 15 s: extended to 60 s.
            (
                "extended to both edges",
                &[(50.0, 100.0), (65.0, 115.0), (80.0, 130.0), (95.0, 145.0)],
                Some(45.0 * (45.0 + 10.0 + 5.0) / 45.0 / 60.0),
            ),
            // The window is left-open: the sample at 40 is outside, the one at 100 inside.
            (
                "left-open",
                &[
                    (40.0, 0.0),
                    (55.0, 1_000.0),
                    (70.0, 1_015.0),
                    (85.0, 1_030.0),
                    (100.0, 1_045.0),
                ],
                Some(45.0 * (45.0 + 15.0) / 45.0 / 60.0),
            ),
            // Ends at 70: 30 s to the edge is more than 1.1 spacings, so half a spacing is added.
            (
                "a series that ended",
                &[(55.0, 500.0), (70.0, 530.0)],
                Some(30.0 * (15.0 + 15.0 + 7.5) / 15.0 / 60.0),
            ),
            // Begins at 85, 45 s inside the window; zero is not the limit, because the counter was already high.
            (
                "a series that began, high",
                &[(85.0, 500.0), (100.0, 530.0)],
                Some(30.0 * (15.0 + 7.5) / 15.0 / 60.0),
            ),
            // The zero point lies 15 s * 4/30 = 2 s before the first sample: nearer than half a spacing.
            (
                "a series that began near zero",
                &[(85.0, 4.0), (100.0, 34.0)],
                Some(30.0 * (15.0 + 2.0) / 15.0 / 60.0),
            ),
            // Nobody saw the first 20 requests of this new pod: they are lost.
            ("first increments are lost", &[(85.0, 20.0), (100.0, 20.0)], Some(0.0)),
            // 110 -> 5 is a restart: the increase is 10 + 5 + 20 = 35; the zero point by that slope lies far off.
            (
                "a reset",
                &[(55.0, 100.0), (70.0, 110.0), (85.0, 5.0), (100.0, 25.0)],
                Some(35.0 * (45.0 + 15.0) / 45.0 / 60.0),
            ),
            // 16.4 s before the first sample: less than 1.1 x 15 s = 16.5 s, so extended in full.
            (
                "just within the threshold",
                &[(56.4, 100.0), (71.4, 130.0), (86.4, 160.0)],
                Some(60.0 * (30.0 + 16.4 + 13.6) / 30.0 / 60.0),
            ),
            (
                "just beyond the threshold",
                &[(56.6, 100.0), (71.6, 130.0), (86.6, 160.0)],
                Some(60.0 * (30.0 + 7.5 + 13.4) / 30.0 / 60.0),
            ),
        ];
        for (name, points, expected) in cases {
            match (rate_of(points), expected) {
                (None, None) => {}
                (Some(value), Some(expected)) => {
                    assert!((value - expected).abs() < 1e-9, "{name}: {value}, expected {expected}");
                }
                (value, expected) => panic!("{name}: {value:?}, expected {expected:?}"),
            }
        }
    }
}
