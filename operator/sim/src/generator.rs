//! Arrivals that are drawn: a rate over time, and how irregular the gaps are.

use crate::error::{Error, Result};
use crate::time::{self, Nanos, SECOND};

/// Requests at a rate that follows `profile`, with gaps of a given variability.
#[derive(Debug, Clone, PartialEq)]
pub struct Generator {
    pub profile: Profile,
    /// Coefficient of variation of the gaps at constant rate: 0 is a metronome, 1 Poisson, above it bursts (gamma).
    pub gap_cv: f64,
    pub seconds: u64,
}

/// Requests per second over time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Profile {
    Flat {
        rate: f64,
    },
    /// `mean * (1 - amplitude * cos(2 pi t / period))`: begins in the trough.
    Diurnal {
        mean: f64,
        amplitude: f64,
        period: Nanos,
    },
    /// `base`, and `peak` from `at` on for `length`.
    Flash {
        base: f64,
        peak: f64,
        at: Nanos,
        length: Nanos,
    },
}

impl Profile {
    pub fn rate(&self, second: u64) -> f64 {
        match *self {
            Self::Flat { rate } => rate,
            Self::Diurnal {
                mean,
                amplitude,
                period,
            } => {
                let turn = second as f64 * SECOND as f64 / period as f64;
                mean * (1.0 - amplitude * libm::cos(turn * std::f64::consts::TAU))
            }
            Self::Flash { base, peak, at, length } => {
                let now = second * SECOND;
                if now >= at && now < at.saturating_add(length) {
                    peak
                } else {
                    base
                }
            }
        }
    }
}

const FORMS: &str = "constant:RATE:LENGTH, poisson:RATE:LENGTH, gamma:RATE:CV:LENGTH, \
                     diurnal:MEAN:AMPLITUDE:PERIOD:LENGTH or flash:BASE:PEAK:AT:FOR:LENGTH, for example poisson:20:1h";

impl Generator {
    /// Reads what `--arrivals` takes.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |what: String| Error::option(format!("--arrivals {text}"), what);
        let fields: Vec<&str> = text.split(':').collect();
        let number = |field: &str| match field.parse::<f64>() {
            Ok(value) if value.is_finite() && value >= 0.0 => Ok(value),
            _ => Err(wrong(format!("`{field}` must be a number that is not negative"))),
        };
        let span = |field: &str| time::parse(field).map_err(wrong);
        let (profile, gap_cv, length) = match fields.as_slice() {
            [form @ ("constant" | "poisson"), rate, length] => {
                let cv = if *form == "constant" { 0.0 } else { 1.0 };
                (Profile::Flat { rate: number(rate)? }, cv, length)
            }
            ["gamma", rate, cv, length] => (Profile::Flat { rate: number(rate)? }, number(cv)?, length),
            ["diurnal", mean, amplitude, period, length] => {
                let (amplitude, period) = (number(amplitude)?, span(period)?);
                if amplitude > 1.0 || period == 0 {
                    return Err(wrong("the amplitude must be at most 1 and the period above 0".into()));
                }
                let mean = number(mean)?;
                (
                    Profile::Diurnal {
                        mean,
                        amplitude,
                        period,
                    },
                    1.0,
                    length,
                )
            }
            ["flash", base, peak, at, duration, length] => {
                let (base, peak) = (number(base)?, number(peak)?);
                let (at, duration) = (span(at)?, span(duration)?);
                (
                    Profile::Flash {
                        base,
                        peak,
                        at,
                        length: duration,
                    },
                    1.0,
                    length,
                )
            }
            _ => return Err(wrong(format!("write {FORMS}"))),
        };
        let seconds = span(length)? / SECOND;
        if seconds == 0 {
            return Err(wrong(format!("the length `{length}` is less than a second")));
        }
        Ok(Self {
            profile,
            gap_cv,
            seconds,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arrivals::{Workload, busiest};

    fn counts_of(spec: &str, seed: u64) -> Vec<u32> {
        Workload::Generated(Generator::parse(spec).unwrap()).per_second(seed)
    }

    fn mean_and_dispersion(counts: &[u32]) -> (f64, f64) {
        let n = counts.len() as f64;
        let mean = counts.iter().map(|count| f64::from(*count)).sum::<f64>() / n;
        let variance = counts
            .iter()
            .map(|count| (f64::from(*count) - mean).powi(2))
            .sum::<f64>()
            / n;
        (mean, variance / mean)
    }

    #[test]
    fn generators_keep_the_asked_mean_and_variability() {
        // Index of dispersion of counts over long windows is the squared CV of the gaps; over 1 s at 20/s nearly so.
        for (spec, dispersion, tolerance) in [
            ("constant:20:2h", 0.0, 0.06),
            ("poisson:20:2h", 1.0, 0.06),
            ("gamma:20:2:2h", 4.0, 0.6),
        ] {
            let (mean, seen) = mean_and_dispersion(&counts_of(spec, 4));
            assert!((mean - 20.0).abs() < 0.5, "{spec}: mean {mean}");
            assert!((seen - dispersion).abs() < tolerance, "{spec}: dispersion {seen}");
        }
    }

    #[test]
    fn profiles_have_their_shape() {
        let day = counts_of("diurnal:10:0.8:1h:2h", 1);
        let mean = |range: std::ops::Range<usize>| {
            day[range.clone()].iter().map(|c| f64::from(*c)).sum::<f64>() / range.len() as f64
        };
        assert!((mean(0..120) - 2.0).abs() < 0.5 && (mean(1740..1860) - 18.0).abs() < 1.5);
        let flash = counts_of("flash:2:50:10m:60:20m", 1);
        assert!(flash[..600].iter().sum::<u32>() < 1_500 && flash[600..660].iter().sum::<u32>() > 2_600);
        assert_eq!(busiest(&flash, 60).0 / 10, 60);
    }

    #[test]
    fn wrong_generators_are_refused_with_the_forms() {
        for text in [
            "poisson:1",
            "poisson:x:1h",
            "weibull:1:1h",
            "diurnal:1:2:1h:1h",
            "poisson:1:10ms",
        ] {
            let error = Generator::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--arrivals {text}: ")), "{error}");
        }
    }
}
