//! The `inference-server` binary: reads the command line and hands over to a role.

use std::process::ExitCode;

use clap::Parser;
use tidewright_server::args::{Args, Command};
use tidewright_server::roles;

/// Requests are many small allocations, and half of those of a batch are freed by another thread than the one that made them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match Args::parse().command {
        Command::Serve(args) => roles::serve::main(&args),
        Command::CheckConfig(args) => roles::check_config::main(&args),
        Command::Inspect(args) => roles::inspect::main(&args),
        Command::Bench(args) => roles::bench::main(&args),
        Command::ProbeModel => roles::probe_model::main(),
        Command::Completion(args) => args.print(),
    }
}
