//! A real Kubernetes on this machine, which leaves nothing behind.
use std::process::ExitCode;

fn main() -> ExitCode {
    tidewright_e2e::cli::main()
}
