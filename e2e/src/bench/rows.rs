//! `make bench-server`: rounds in which every side is alive once, alone, in an order that turns round; rows are ratios within rounds.
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

use super::peers::{Field, HASTY};
use super::processor::Ticks;
use super::reasons::Reasons;
use super::sides::{self, Side};
use super::visits::{Visit, Visits};
use super::{batch_part, closed_loop, digits_part, rows_report, start_part, text_part, tuning};
use crate::clock::Stopwatch;
use crate::console::progress;

/// One measurement of the echo beside a visit.
const ANCHOR: Duration = Duration::from_millis(600);
const ANCHOR_CONNECTIONS: usize = 32;

/// Who stands beside our server in which row.
const PEERS_BY_ROW: [(u8, &[&str]); 6] = [
    (2, &["mosec", "triton"]),
    (3, &["mosec", "fastapi", "triton", "mlserver", "kserve"]),
    (4, &["mosec", "triton"]),
    (6, &["triton"]),
    (7, &["triton"]),
    (8, &["fastapi"]),
];

/// What is measured, and for how long.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Options {
    /// Rounds; each measures every side once
    #[arg(long, default_value_t = 3)]
    pub(super) rounds: usize,
    /// Seconds of one measurement
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(super) seconds: u64,
    /// Rows to measure, with commas between them; without it all
    #[arg(long, value_name = "ROWS", value_delimiter = ',', value_parser = clap::value_parser!(u8).range(1..=9))]
    pub(super) only: Vec<u8>,
    /// Cold starts of each side, with the files in the kernel's cache; half as many follow without
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    pub(super) starts: usize,
    /// Peers batch up to 32 items and wait a millisecond, Triton none, without trying what suits them best
    #[arg(long)]
    pub(super) untuned: bool,
    /// Flags of our server in the rows with text (4 and 7), with spaces between them
    #[arg(long, value_name = "FLAGS", default_value = "", allow_hyphen_values = true)]
    pub(super) text_flags: String,
}

impl Options {
    /// Whether one of the rows is measured.
    pub(super) fn wants(&self, rows: &[u8]) -> bool {
        self.only.is_empty() || rows.iter().any(|row| self.only.contains(row))
    }

    pub(super) fn lasts(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    pub(super) fn warm_up(&self) -> Duration {
        Duration::from_secs(self.seconds.min(2))
    }

    /// The servers of others that those of the given rows need which are measured.
    fn peers_of(&self, rows: &[u8]) -> BTreeSet<&'static str> {
        let wanted = PEERS_BY_ROW
            .iter()
            .filter(|(row, _)| rows.contains(row) && self.wants(&[*row]));
        wanted.flat_map(|(_, names)| names.iter().copied()).collect()
    }

    /// Those that have a batcher, with the small classifier and with texts.
    fn batching_peers(&self) -> [Vec<&'static str>; 2] {
        [&[2, 3, 6][..], &[4, 7]].map(|rows| {
            let all = self.peers_of(rows).into_iter();
            all.filter(|name| tuning::BATCHING.contains(name)).collect()
        })
    }

    /// The servers of others that the rows need.
    fn peers(&self) -> Vec<&'static str> {
        let mut names = self.peers_of(&PEERS_BY_ROW.map(|(row, _)| row));
        // Answers are looked up with its packages.
        names.insert("mosec");
        names.into_iter().collect()
    }
}

/// What a visit has found.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) values: BTreeMap<String, f64>,
    pub(super) detail: Value,
}

impl Outcome {
    pub(super) fn put(&mut self, what: impl Into<String>, value: f64) {
        self.values.insert(what.into(), value);
    }

    pub(super) fn detail(&mut self, detail: impl Serialize) {
        self.detail = serde_json::to_value(detail).unwrap_or_default();
    }
}

/// Everything that was measured, and what stands beside it.
pub(super) struct Bench {
    pub(super) options: Options,
    pub(super) visits: Visits,
    /// Sides of others that take no part any more, and why.
    pub(super) missing: BTreeMap<&'static str, String>,
    echo: Side,
    /// The echo after the last visit, which is the echo before the next one of the same part and round.
    anchor: Option<(&'static str, usize, f64)>,
}

impl Bench {
    /// Measures one side. One of others that fails takes no part any more.
    ///
    /// # Errors
    /// The echo or a required side fails.
    pub(super) async fn visit(
        &mut self,
        part: &'static str,
        round: usize,
        side: &'static str,
        measure: impl AsyncFnOnce(&mut Outcome) -> Result<()>,
    ) -> Result<()> {
        if self.missing.contains_key(side) {
            return Ok(());
        }
        let before = match self.anchor {
            Some((in_part, in_round, anchor)) if (in_part, in_round) == (part, round) => anchor,
            Some(_) | None => self.measure_echo().await?,
        };
        let watch = Stopwatch::start();
        let ticks = Ticks::now()?;
        let mut outcome = Outcome::default();
        let done = measure(&mut outcome).await;
        let shares = ticks.until(Ticks::now()?);
        if let Err(error) = done {
            if super::peers::is_peer(side) {
                progress(format_args!(
                    "{part}, round {}: {side} is left out: {error:#}",
                    round + 1
                ));
                self.missing.insert(side, format!("{error:#}"));
                self.anchor = None;
                return Ok(());
            }
            return Err(error.context(format!("{part}: {side}")));
        }
        let after = self.measure_echo().await?;
        self.anchor = Some((part, round, after));
        let values: Vec<String> = outcome
            .values
            .iter()
            .map(|(what, value)| format!("{what} {}", brief(*value)))
            .collect();
        progress(format_args!(
            "{part}, round {}: {side}: {} ({:.0} s)",
            round + 1,
            values.join(", "),
            watch.seconds()
        ));
        self.visits.0.push(Visit {
            part,
            round,
            side,
            anchors: (before, after),
            stolen: shares.stolen,
            values: outcome.values,
            detail: outcome.detail,
        });
        Ok(())
    }

    async fn measure_echo(&self) -> Result<f64> {
        let running = sides::start(&self.echo).await?;
        let (rate, _) = closed_loop::run(running.address, &self.echo.requests, ANCHOR_CONNECTIONS, ANCHOR).await?;
        Ok(rate)
    }
}

/// Every other round begins at the other end: what changes with time meets all sides alike.
pub(super) fn in_turn<T>(mut sides: Vec<T>, round: usize) -> Vec<T> {
    if round % 2 == 1 {
        sides.reverse();
    }
    sides
}

/// Measures and writes the report.
pub(super) fn run(options: Options) -> Result<()> {
    let watch = Stopwatch::start();
    // Before anything is measured: a slip in that file must not cost a run.
    let reasons = Reasons::read()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut field, mut missing) = Field::gather(&options.peers())?;
    // Sides that are another way of running a peer are missing where it is.
    for (peer, other) in [("mosec", text_part::PADDED), ("triton", HASTY)] {
        if let Some(reason) = missing.get(peer).cloned() {
            missing.insert(other, reason);
        }
    }
    let digits = digits_part::Digits::gather()?;
    closed_loop::pin_to_last_core()?;
    let mut bench = Bench {
        echo: Side::echo(&digits.one.requests)?,
        options,
        visits: Visits::default(),
        missing,
        anchor: None,
    };
    let texts = text_part::Texts::gather(&field, &bench.options)?;
    let batches = batch_part::Batches::gather(&field, &bench.options)?;
    progress(format_args!("everything is there after {:.0} s", watch.seconds()));
    if !bench.options.untuned {
        let [with_digits, with_texts] = bench.options.batching_peers();
        runtime.block_on(tuning::tune(&mut field, &digits.one, &with_digits));
        if let Some(work) = &texts.work {
            runtime.block_on(tuning::tune(&mut field, work, &with_texts));
        }
    }
    for round in 0..bench.options.rounds {
        runtime.block_on(async {
            digits_part::measure(&mut bench, &field, &digits, round).await?;
            text_part::measure(&mut bench, &field, &texts, round).await?;
            batch_part::measure(&mut bench, &field, &batches, round).await
        })?;
    }
    runtime.block_on(start_part::measure(&mut bench, &field, &texts))?;
    rows_report::write(&bench, &field.tuned, &reasons, watch.seconds())
}

/// Digits that matter.
fn brief(value: f64) -> String {
    if value.abs() >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.3}")
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn options(arguments: &[&str]) -> Options {
        Line::try_parse_from([&["bench"], arguments].concat()).unwrap().options
    }

    #[test]
    fn only_what_the_rows_need_is_installed() {
        assert_eq!(
            options(&[]).peers(),
            ["fastapi", "kserve", "mlserver", "mosec", "triton"]
        );
        assert_eq!(options(&["--only", "1,5"]).peers(), ["mosec"]);
        assert_eq!(options(&["--only", "8"]).peers(), ["fastapi", "mosec"]);
        let some = options(&["--only", "4,9", "--text-flags", "--max-batch-size 8"]);
        assert!(some.wants(&[1, 9]) && !some.wants(&[1, 2]));
        assert_eq!(some.text_flags, "--max-batch-size 8");
        assert!(Line::try_parse_from(["bench", "--only", "10"]).is_err());
        assert_eq!(some.starts, 20);
        assert_eq!(some.batching_peers(), [vec![], vec!["mosec", "triton"]]);
        assert_eq!(
            options(&["--only", "3,7"]).batching_peers(),
            [vec!["mlserver", "mosec", "triton"], vec!["triton"]]
        );
    }

    #[test]
    fn sides_take_turns() {
        assert_eq!(in_turn(vec![1, 2, 3], 0), [1, 2, 3]);
        assert_eq!(in_turn(vec![1, 2, 3], 1), [3, 2, 1]);
        assert_eq!(in_turn(vec![1, 2, 3], 2), [1, 2, 3]);
    }
}
