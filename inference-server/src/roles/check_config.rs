//! `check-config`: says everything that is wrong with a config file.

use std::io::Write;
use std::process::ExitCode;

use tidewright_contract::exit;

use crate::args::{CheckConfigArgs, read_config};

/// Reads, validates, prints.
pub fn main(args: &CheckConfigArgs) -> ExitCode {
    let problems = match read_config(&args.file) {
        Err(error) => vec![error],
        Ok(config) => match config.validate() {
            Ok(()) => {
                let _ = writeln!(std::io::stdout(), "{}: usable", args.file.display());
                return ExitCode::from(exit::OK);
            }
            Err(problems) => problems
                .iter()
                .map(|problem| format!("{}: {problem}", args.file.display()))
                .collect(),
        },
    };
    for problem in problems {
        let _ = writeln!(std::io::stderr(), "{problem}");
    }
    ExitCode::from(exit::CONFIG)
}
