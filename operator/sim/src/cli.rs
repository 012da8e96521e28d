//! Does what the command line says.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::process::ExitCode;

use clap::CommandFactory as _;

use crate::args::{ArrivalsArgs, Cli, Command, RunArgs};
use crate::compare;
use crate::error::{Error, Result};
use crate::policies;
use crate::report::{DecisionLog, Report};
use crate::run::{self, Unwatched};
use crate::score::Score;
use crate::settings::Settings;

/// The exit code says whether it could be done; what went wrong is on standard error.
pub fn main(cli: Cli) -> ExitCode {
    let done = match cli.command {
        Command::Run(args) => simulate(*args),
        Command::Compare(args) => compare::compare(&args),
        Command::Arrivals(args) => arrivals(&args),
        Command::Policies => {
            let lines: Vec<String> = policies::NAMES
                .iter()
                .map(|(name, what)| format!("{name:<12} {what}"))
                .collect();
            Ok(lines.join("\n") + "\n")
        }
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "tidewright-sim", &mut script);
            Ok(String::from_utf8_lossy(&script).into_owned())
        }
    };
    match done {
        Ok(text) => {
            // A reader that has gone is no failure.
            let _ = std::io::stdout().lock().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr().lock(), "tidewright-sim: {error}");
            ExitCode::FAILURE
        }
    }
}

fn arrivals(args: &ArrivalsArgs) -> Result<String> {
    let mut workload = args.load.workload()?;
    let mut from = args.load.from;
    if let Some(seconds) = args.busiest {
        (from, workload) = workload.round_busiest(seconds)?;
    }
    let instants = workload.instants_ms(args.seed);
    let text = serde_json::json!({"from": from, "seconds": workload.seconds(), "arrival_ms": instants});
    Ok(text.to_string() + "\n")
}

fn simulate(args: RunArgs) -> Result<String> {
    let settings = Settings::parse(&args.settings)?;
    let workload = args.load.workload()?;
    let scenario = args.world.scenario(&workload)?;
    let mut policy = policies::build(&args.policy, settings, &scenario, &workload)?;
    let none = || Error::option("--slo-ms", "no histogram of latencies can be made");
    let score: Score = match &args.decisions {
        None => run::run(&scenario, &workload, policy.as_mut(), &mut Unwatched).ok_or_else(none)?,
        Some(path) => {
            let failed = |source| Error::File {
                path: path.clone(),
                source,
            };
            let mut log = DecisionLog::new(BufWriter::new(File::create(path).map_err(failed)?));
            let score = run::run(&scenario, &workload, policy.as_mut(), &mut log).ok_or_else(none)?;
            log.finish().map_err(failed)?;
            score
        }
    };
    let load = match (&args.load.trace, args.load.arrivals) {
        (Some(path), _) => path
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
        (None, form) => form.unwrap_or_default(),
    };
    let mut report = Report::new(args.policy, args.settings, load, &scenario, score);
    report.seconds = workload.seconds();
    report.faults = args.world.faults;
    if args.json {
        // Numbers and texts only: this cannot fail.
        Ok(serde_json::to_string(&report).unwrap_or_default() + "\n")
    } else {
        Ok(report.to_text())
    }
}
