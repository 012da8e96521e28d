//! The operator's entry point.

use std::process::ExitCode;

use clap::Parser;
use tidewright_operator::args::Cli;

fn main() -> ExitCode {
    tidewright_operator::run::main(Cli::parse())
}
