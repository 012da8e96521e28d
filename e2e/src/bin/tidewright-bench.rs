//! The server's speed, as ratios to a bare HTTP echo.
use std::process::ExitCode;

fn main() -> ExitCode {
    tidewright_e2e::bench::main()
}
