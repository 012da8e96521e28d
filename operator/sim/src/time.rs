//! Simulated time: whole nanoseconds since the start of the run, so that sums are exact and two runs agree to the bit.

/// An instant or a span, in nanoseconds. 584 years fit.
pub type Nanos = u64;

pub const MILLISECOND: Nanos = 1_000_000;
pub const SECOND: Nanos = 1_000_000_000;
pub const MINUTE: Nanos = 60 * SECOND;
/// Later than everything: "never".
pub const NEVER: Nanos = Nanos::MAX;

/// Nearest nanosecond; negative and NaN become 0, what is too long becomes [`NEVER`].
pub fn from_seconds(seconds: f64) -> Nanos {
    (seconds * 1e9).round() as Nanos
}

pub fn to_seconds(span: Nanos) -> f64 {
    span as f64 / 1e9
}

/// Seconds, or a number with a unit: `90`, `1.5s`, `250ms`, `10m`, `36h`, `14d`.
pub fn parse(text: &str) -> Result<Nanos, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1.0,
        "ms" => 1e-3,
        "m" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        other => return Err(format!("`{other}` is no unit of time; use ms, s, m, h or d")),
    };
    match digits.parse::<f64>() {
        Ok(value) if value.is_finite() && value >= 0.0 => Ok(from_seconds(value * unit)),
        _ => Err(format!(
            "`{text}` is no span of time; write seconds or, for example, 10m"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_units() {
        let cases = [
            ("90", 90 * SECOND),
            ("1.5s", 3 * SECOND / 2),
            ("250ms", 250 * MILLISECOND),
            ("10m", 10 * MINUTE),
            ("36h", 36 * 60 * MINUTE),
            ("14d", 14 * 24 * 60 * MINUTE),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
        for text in ["", "-1", "5 parsecs", "1w", "NaN", "inf"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn odd_numbers_become_times() {
        assert_eq!(from_seconds(f64::NAN), 0);
        assert_eq!(from_seconds(-1.0), 0);
        assert_eq!(from_seconds(f64::INFINITY), NEVER);
    }
}
