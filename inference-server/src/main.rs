//! The `inference-server` binary: reads the command line and hands over to a role.

use std::process::ExitCode;

use clap::Parser;
use tidewright_server::args::{Args, Command};
use tidewright_server::roles;

/// Requests are many small allocations, and half of those of a batch are freed by another thread than the one that made them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// ONNX Runtime reports to its makers from its first call on, until it is told not to: an id of the machine in the home folder, what the machine is, a thread
/// that sends. It looks at this before that call.
const TELEMETRY_OFF: (&str, &str) = ("ORT_DISABLE_TELEMETRY", "1");

#[expect(
    unsafe_code,
    reason = "the library reads the environment, and there is no other way to tell it in time"
)]
fn main() -> ExitCode {
    let (name, value) = TELEMETRY_OFF;
    // SAFETY: this is the first that happens, and no other thread is there to read the environment.
    unsafe { std::env::set_var(name, value) };
    match Args::parse().command {
        Command::Serve(args) => roles::serve::main(&args),
        Command::CheckConfig(args) => roles::check_config::main(&args),
        Command::Inspect(args) => roles::inspect::main(&args),
        Command::Bench(args) => roles::bench::main(&args),
        Command::ProbeModel => roles::probe_model::main(),
        Command::Completion(args) => args.print(),
    }
}
