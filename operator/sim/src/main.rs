//! The simulator's entry point.

use std::process::ExitCode;

use clap::Parser as _;
use tidewright_sim::args::Cli;

fn main() -> ExitCode {
    tidewright_sim::cli::main(Cli::parse())
}
