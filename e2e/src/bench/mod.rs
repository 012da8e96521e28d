//! `make bench`: the server against a bare HTTP echo, both sides alive in turn in one run, and only ratios are claimed.
//!
//! The echo answers the same body from the same HTTP library without parsing it: it is what HTTP itself costs on this machine at that moment. Each
//! round measures every side once, in an order that alternates; a ratio is taken within a round, so that a machine that slows down slows both.
mod batch_part;
mod claims;
mod closed_loop;
mod cluster;
mod digits_part;
mod echo;
mod open_loop;
mod peers;
mod processor;
mod reasons;
mod report;
mod rows;
mod rows_plots;
mod rows_report;
mod search;
mod sides;
mod soak;
mod start_part;
mod tensors;
mod text_part;
mod tuning;
mod visits;
mod wheels;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::console::progress;
use report::Round;
use sides::Side;

/// Measures the inference server against a bare HTTP echo on this machine.
#[derive(Debug, Parser)]
#[command(name = "tidewright-bench", version, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// Rounds; each measures every side once.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of one measurement, after one second of warm-up.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the echo (used by the benchmark itself).
    Echo {
        #[arg(long)]
        address: std::net::SocketAddr,
    },
    /// Measure the server beside servers of others (`make bench-server`).
    Rows(rows::Options),
    /// Measure the autoscaler on a cluster in a box (`make bench-cluster`).
    Cluster(cluster::Options),
    /// Load the server for a long time while models come and go, and look at what it holds (`make soak`).
    Soak(soak::Options),
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Some(Command::Echo { address }) => echo::serve(address),
        Some(Command::Rows(options)) => rows::run(options),
        Some(Command::Cluster(options)) => cluster::run(&options),
        Some(Command::Soak(options)) => soak::run(&options),
        None => run(cli.rounds, cli.seconds),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress(format_args!("tidewright-bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(rounds_wanted: usize, seconds: u64) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let sides = Side::all()?;
    closed_loop::pin_to_last_core()?;
    let mut rounds = Vec::new();
    for index in 0..rounds_wanted {
        let mut order: Vec<&Side> = sides.iter().collect();
        if index % 2 == 1 {
            order.reverse();
        }
        let mut round = Round::default();
        for side in order {
            let measured = runtime.block_on(sides::measure(side, seconds))?;
            progress(format_args!("round {}: {}: {measured}", index + 1, side.name));
            round.insert(side.name, measured);
        }
        rounds.push(round);
    }
    report::write(&rounds, seconds)
}
