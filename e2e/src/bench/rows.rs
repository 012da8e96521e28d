//! `make bench-server`: rounds in which every side is measured once, one alive at a time, in an order that turns round; rows are ratios within rounds.
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::open_loop::{self, Probe};
use super::peers::{BATCH, BareLoop, Field};
use super::sides::{self, Kind, Side};
use super::{closed_loop, rows_report};
use crate::console::progress;
use crate::load::Request;

/// What one round found out about a side.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Sample {
    pub(super) side: &'static str,
    /// Answers per second with 64 and with 32 connections.
    pub(super) closed_64: f64,
    pub(super) closed_32: f64,
    /// 99th percentile with 32 connections, in microseconds.
    pub(super) closed_32_p99_micros: u64,
    /// Median with one connection, in microseconds.
    pub(super) alone_p50_micros: u64,
    /// Images per second in requests of 32, 4 connections; of our server.
    pub(super) batched_items: Option<f64>,
    /// Highest Poisson rate whose 99th percentile holds; not of the echo.
    pub(super) highest_rate: Option<f64>,
    pub(super) probes: Vec<Probe>,
    /// Share of the processors' time that the host took away meanwhile.
    pub(super) stolen: f64,
}

/// One round.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Round {
    pub(super) bare_loop: BareLoop,
    pub(super) samples: Vec<Sample>,
}

/// Measures and writes the report.
pub(super) fn run(rounds: usize, seconds: u64) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let field = Field::gather()?;
    closed_loop::pin_to_last_core()?;
    let mut done = Vec::new();
    for index in 0..rounds {
        let mut order: Vec<&Side> = field.sides.iter().collect();
        if index % 2 == 1 {
            order.reverse();
        }
        let bare_loop = field.bare_loop(seconds)?;
        progress(format_args!(
            "round {}: bare loop: {:.0} items/s, one item {:.1} us",
            index + 1,
            bare_loop.items_per_second,
            bare_loop.one_micros
        ));
        let mut samples = Vec::new();
        for side in order {
            let sample = runtime.block_on(measure(side, &field.batches, seconds))?;
            progress(format_args!(
                "round {}: {}: {:.0}/s with 64 connections, {:.0}/s with 32, p50 alone {} us{}",
                index + 1,
                side.name,
                sample.closed_64,
                sample.closed_32,
                sample.alone_p50_micros,
                sample
                    .highest_rate
                    .map_or_else(String::new, |rate| format!(", highest rate {rate:.0}/s"))
            ));
            samples.push(sample);
        }
        done.push(Round { bare_loop, samples });
    }
    rows_report::write(&done, seconds)
}

async fn measure(side: &Side, batches: &Arc<[Request]>, seconds: u64) -> Result<Sample> {
    let running = sides::start(side).await?;
    let (address, lasts) = (running.address, Duration::from_secs(seconds));
    let requests = &side.requests;
    closed_loop::run(address, requests, 32, Duration::from_secs(seconds.min(3))).await?;
    let before = processor_time()?;
    let (closed_64, _) = closed_loop::run(address, requests, 64, lasts).await?;
    let (closed_32, busy) = closed_loop::run(address, requests, 32, lasts).await?;
    let (_, alone) = closed_loop::run(address, requests, 1, lasts).await?;
    let batched_items = match side.kind {
        Kind::Server => {
            sides::ask_all(address, batches, true).await?;
            Some(closed_loop::run(address, batches, 4, lasts).await?.0 * BATCH as f64)
        }
        Kind::Echo | Kind::Peer => None,
    };
    let (highest_rate, probes) = match side.kind {
        Kind::Echo => (None, Vec::new()),
        Kind::Server | Kind::Peer => {
            let (rate, probes) = open_loop::highest_rate(address, requests, lasts).await;
            (Some(rate), probes)
        }
    };
    let after = processor_time()?;
    Ok(Sample {
        side: side.name,
        closed_64,
        closed_32,
        closed_32_p99_micros: busy.value_at_quantile(0.99),
        alone_p50_micros: alone.value_at_quantile(0.5),
        batched_items,
        highest_rate,
        probes,
        stolen: (after.0 - before.0) / (after.1 - before.1).max(1.0),
    })
}

/// Ticks that the host took away, and all ticks, of all processors (`/proc/stat`, columns as in proc(5)).
fn processor_time() -> Result<(f64, f64)> {
    const STEAL: usize = 7;
    let text = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
    let ticks: Vec<f64> = text
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .filter_map(|ticks| ticks.parse().ok())
        .collect();
    Ok((
        ticks.get(STEAL).copied().unwrap_or_default(),
        ticks.iter().take(STEAL + 1).sum(),
    ))
}
