//! One InferenceService, served and scaled for real; exits 0 only if all of it happened.
use std::process::ExitCode;

fn main() -> ExitCode {
    tidewright_e2e::demo::main()
}
