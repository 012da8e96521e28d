//! `kubectl tide`: the plugin's entry point.

use std::process::ExitCode;

use clap::Parser;
use tidewright_operator::plugin::{self, args::Cli};

fn main() -> ExitCode {
    plugin::main(Cli::parse())
}
