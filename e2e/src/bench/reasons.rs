//! Why rows miss their targets: what is known of it stands beside the peers' programs, and the report repeats it for the rows that do.
use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result};

use super::claims::{Row, Verdict};
use crate::paths;

/// From the root of the repository.
const FILE: &str = "inference-server/bench/reasons.md";
const START: &str = "- row ";

/// Numbers of rows, and a sentence or some.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reasons(Vec<(u8, String)>);

impl Reasons {
    pub(super) fn read() -> Result<Self> {
        let path = paths::repository_dir().join(FILE);
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        Self::parse(&text)
    }

    /// Each item of the list is a reason; what stands round it is for readers of the file.
    fn parse(text: &str) -> Result<Self> {
        let items = text.lines().filter(|line| line.starts_with('-'));
        let reason = |line: &str| {
            let (number, reason) = line.strip_prefix(START)?.split_once(": ")?;
            let number = number.parse().ok().filter(|number| (1..=9).contains(number))?;
            Some((number, reason.trim().to_owned()))
        };
        let all =
            items.map(|line| reason(line).with_context(|| format!("{FILE}: expected \"- row 1: why\", not {line:?}")));
        Ok(Self(all.collect::<Result<_>>()?))
    }

    /// A line for each row that was missed: why, or that this is not known.
    pub(super) fn of(&self, rows: &[Row]) -> Vec<String> {
        let missed = rows.iter().filter(|row| row.verdict == Verdict::Missed);
        let numbers: BTreeSet<u8> = missed.map(|row| row.number).collect();
        let line = |number| {
            let known = self.0.iter().filter(|(of, _)| *of == number);
            let reasons: Vec<&str> = known.map(|(_, reason)| reason.as_str()).collect();
            if reasons.is_empty() {
                format!("row {number}: no reason is known; one that is found belongs into {FILE}")
            } else {
                format!("row {number}: {}", reasons.join(" "))
            }
        };
        numbers.into_iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(number: u8, verdict: Verdict) -> Row {
        Row {
            number,
            what: "a / b".to_owned(),
            unit: "",
            target: None,
            found: None,
            verdict,
        }
    }

    #[test]
    fn each_missed_row_has_its_reason_or_says_that_there_is_none() {
        let reasons = Reasons::parse("# Why\n\n- row 4: short queues.\n- row 4: no gain.\n- row 5: other.\n").unwrap();
        let rows = [
            row(1, Verdict::Reached),
            row(4, Verdict::Missed),
            row(5, Verdict::Stated),
            row(3, Verdict::Missed),
            row(3, Verdict::Missed),
        ];
        assert_eq!(
            reasons.of(&rows),
            [
                "row 3: no reason is known; one that is found belongs into inference-server/bench/reasons.md",
                "row 4: short queues. no gain.",
            ]
        );
    }

    #[test]
    fn a_line_that_is_no_reason_is_named() {
        for wrong in [
            "- Row 4: why",
            "- row four: why",
            "- row 10: why",
            "- row 4 why",
            "-row 4: why",
        ] {
            let error = Reasons::parse(wrong).unwrap_err().to_string();
            assert!(error.contains(wrong), "{error}");
        }
    }

    #[test]
    fn the_file_can_be_read() {
        Reasons::read().unwrap();
    }
}
