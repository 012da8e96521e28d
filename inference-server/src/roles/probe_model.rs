//! `probe-model`: the child's side of a trial load. Limits itself, loads, runs once, answers on standard output.

use std::io::{self, Write};
use std::process::ExitCode;

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::getppid;
use tidewright_contract::exit::{self, Reason};

use crate::engine::ort::{Runtime, library_path};
use crate::engine::probe::{self, Answer, Limits, Report, Request};
use crate::model::source::LoadError;

/// From one line of JSON to another.
pub fn main() -> ExitCode {
    let answer = match run() {
        Ok(report) => Answer::Works(report),
        Err(error) => Answer::Refused {
            reason: error.reason,
            message: error.message,
        },
    };
    let written = serde_json::to_string(&answer)
        .map_err(io::Error::other)
        .and_then(|text| writeln!(io::stdout(), "{text}"));
    ExitCode::from(if written.is_ok() { exit::OK } else { exit::FAILURE })
}

fn run() -> Result<Report, LoadError> {
    let failure = |error: &dyn std::fmt::Display| LoadError::new(Reason::Failure, format!("trial load: {error}"));
    // If the server goes, nobody waits for the answer any more.
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(|error| failure(&error))?;
    let request: Request = serde_json::from_reader(io::stdin()).map_err(|error| failure(&error))?;
    // It may have gone before that was said.
    if u32::try_from(getppid().as_raw()) != Ok(request.server_id) {
        return Err(failure(&"the server that asked for it has ended"));
    }
    limit(request.limits).map_err(|error| failure(&error))?;
    let runtime = Runtime::load(&library_path())?;
    probe::probe(&runtime, &request)
}

fn limit(limits: Limits) -> nix::Result<()> {
    // A crash is expected here; its memory, weights included, is not to be written anywhere.
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    setrlimit(
        Resource::RLIMIT_CPU,
        limits.cpu_seconds,
        limits.cpu_seconds.saturating_add(5),
    )?;
    // Twice what an optimised model can have. The file for it is memory that no limit on the address space counts.
    setrlimit(Resource::RLIMIT_FSIZE, 4 << 30, 4 << 30)?;
    if let Some(bytes) = limits.address_space_bytes {
        setrlimit(Resource::RLIMIT_AS, bytes, bytes)?;
    }
    Ok(())
}
