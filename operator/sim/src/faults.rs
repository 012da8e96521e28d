//! What goes wrong on purpose, and when: `KIND:ARGUMENTS:START:LENGTH`.

use crate::error::{Error, Result};
use crate::time::{self, Nanos};

/// When something begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    At(Nanos),
    /// So that the middle of the fault is the middle of the busiest minute.
    Peak,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Prometheus neither scrapes nor answers.
    PrometheusDown,
    /// This share of the scrape targets cannot be reached; they go on serving.
    TargetsLost { share: f64 },
    /// Each answer is NaN.
    Nan,
    /// What the servers push does not arrive.
    PushDown,
    /// Pods that start meanwhile take this many times as long.
    SlowStart { factor: f64 },
    /// This share of the pods dies, with what they serve.
    PodsLost { share: f64 },
    /// The controller forgets what it holds in memory.
    ControllerRestart,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fault {
    pub kind: Kind,
    pub start: Start,
    /// 0 for what happens at an instant.
    pub length: Nanos,
}

const FORMS: &str = "prometheus-down:START:LENGTH, targets-lost:SHARE:START:LENGTH, nan:START:LENGTH, push-down:START:LENGTH, \
                     slow-start:FACTOR:START:LENGTH, pods-lost:SHARE:AT or controller-restart:AT, \
                     for example prometheus-down:2h:10m; `peak` as START means the busiest minute";

impl Fault {
    /// Reads what `--fault` takes.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |problem: String| Error::option(format!("--fault {text}"), problem);
        let fields: Vec<&str> = text.split(':').collect();
        let number = |field: &str, max: f64| match field.parse::<f64>() {
            Ok(value) if value > 0.0 && value <= max => Ok(value),
            _ => Err(wrong(format!("`{field}` must be a number above 0 and at most {max}"))),
        };
        let (kind, when) = match fields.as_slice() {
            ["prometheus-down", when @ ..] => (Kind::PrometheusDown, when),
            ["targets-lost", share, when @ ..] => {
                let share = number(share, 1.0)?;
                (Kind::TargetsLost { share }, when)
            }
            ["nan", when @ ..] => (Kind::Nan, when),
            ["push-down", when @ ..] => (Kind::PushDown, when),
            ["slow-start", factor, when @ ..] => {
                let factor = number(factor, 1_000.0)?;
                (Kind::SlowStart { factor }, when)
            }
            ["pods-lost", share, when @ ..] => {
                let share = number(share, 1.0)?;
                (Kind::PodsLost { share }, when)
            }
            ["controller-restart", when @ ..] => (Kind::ControllerRestart, when),
            _ => return Err(wrong(format!("write {FORMS}"))),
        };
        let (start, length) = match (kind.is_instant(), when) {
            (true, [at]) => (at, 0),
            (false, [start, length]) => (start, time::parse(length).map_err(wrong)?),
            _ => return Err(wrong(format!("write {FORMS}"))),
        };
        let start = match *start {
            "peak" => Start::Peak,
            start => Start::At(time::parse(start).map_err(wrong)?),
        };
        Ok(Self { kind, start, length })
    }

    /// Beginning and end, given the middle of the busiest minute.
    pub fn span(&self, peak: Nanos) -> (Nanos, Nanos) {
        let start = match self.start {
            Start::At(at) => at,
            Start::Peak => peak.saturating_sub(self.length / 2),
        };
        (start, start.saturating_add(self.length))
    }
}

impl Kind {
    fn is_instant(self) -> bool {
        matches!(self, Self::PodsLost { .. } | Self::ControllerRestart)
    }

    /// Whether it makes metrics missing or wrong while it lasts: nobody may shrink because of that.
    pub fn blinds(self) -> bool {
        matches!(
            self,
            Self::PrometheusDown | Self::TargetsLost { .. } | Self::Nan | Self::PushDown
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{MINUTE, SECOND};

    #[test]
    fn each_form_is_read() {
        let fault = |kind, start, length| Fault {
            kind,
            start: Start::At(start),
            length,
        };
        let cases = [
            ("prometheus-down:60:5m", fault(Kind::PrometheusDown, MINUTE, 5 * MINUTE)),
            (
                "targets-lost:0.67:1:2",
                fault(Kind::TargetsLost { share: 0.67 }, SECOND, 2 * SECOND),
            ),
            ("nan:1m:1m", fault(Kind::Nan, MINUTE, MINUTE)),
            ("push-down:1m:1m", fault(Kind::PushDown, MINUTE, MINUTE)),
            (
                "slow-start:3:0:1h",
                fault(Kind::SlowStart { factor: 3.0 }, 0, 60 * MINUTE),
            ),
            ("pods-lost:0.5:1h", fault(Kind::PodsLost { share: 0.5 }, 60 * MINUTE, 0)),
            ("controller-restart:9", fault(Kind::ControllerRestart, 9 * SECOND, 0)),
        ];
        for (text, expected) in cases {
            assert_eq!(Fault::parse(text).unwrap(), expected, "{text}");
        }
        let at_peak = Fault::parse("prometheus-down:peak:10m").unwrap();
        assert_eq!(at_peak.span(60 * MINUTE), (55 * MINUTE, 65 * MINUTE));
        assert_eq!(at_peak.span(MINUTE), (0, 10 * MINUTE));
    }

    #[test]
    fn wrong_forms_are_refused_by_name() {
        for text in [
            "prometheus-down",
            "prometheus-down:5",
            "targets-lost:1.5:1:1",
            "targets-lost:0:1:1",
            "pods-lost:0.5:1:1",
            "slow-start:NaN:1:1",
            "flood:1:1",
            "nan:1:soon",
        ] {
            let error = Fault::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--fault {text}: ")), "{error}");
        }
    }
}
