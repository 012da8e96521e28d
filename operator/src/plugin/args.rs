//! The command line of `kubectl tide`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// Says why an InferenceService has the replicas that it has, and what would change that.
#[derive(Debug, Parser)]
#[command(
    name = "kubectl-tide",
    bin_name = "kubectl tide",
    version,
    about,
    max_term_width = 120
)]
pub struct Cli {
    /// Where to look.
    #[command(flatten)]
    pub place: Place,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Where to look, and how to answer.
#[derive(Debug, Args)]
pub struct Place {
    /// Namespace of the service; without it that of the context.
    #[arg(long, short, global = true)]
    pub namespace: Option<String>,
    /// Context of the kubeconfig.
    #[arg(long, global = true)]
    pub context: Option<String>,
    /// Namespace of the operator, which keeps the decisions.
    #[arg(long, global = true, default_value = "tidewright-system")]
    pub operator_namespace: String,
    /// How to answer.
    #[arg(long, short, global = true, value_enum, default_value = "text")]
    pub output: Output,
}

/// How to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// One JSON value.
    Json,
}

/// Decisions that are looked at.
#[derive(Debug, Args)]
pub struct Subject {
    /// Name of the InferenceService.
    pub name: String,
    /// Decisions as `kubectl tide ledger` has written them, instead of those of the cluster.
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say why a service has as many replicas as it has: the sentence, what each signal asks for, the limits, what would change it.
    Why(Subject),
    /// Execute a recorded decision again, bit for bit, and say whether it comes out the same. Exits with 3 if not.
    Explain {
        /// Of what.
        #[command(flatten)]
        subject: Subject,
        /// The last decision at or before this time: RFC 3339, such as 2026-01-31T14:07:30Z, or so long ago, such as 90s, 5m or 2h.
        #[arg(long, value_name = "TIME")]
        at: String,
    },
    /// What another spec would have decided from the same observations: replica-seconds, time short of what was asked for, changes, reversals.
    Replay {
        /// Of what.
        #[command(flatten)]
        subject: Subject,
        /// A manifest of the InferenceService with other numbers or schedules. Its signals must be those of the recorded one.
        #[arg(long, value_name = "FILE")]
        policy: PathBuf,
        /// From this time on.
        #[arg(long, value_name = "TIME")]
        from: Option<String>,
        /// Up to this time.
        #[arg(long, value_name = "TIME")]
        to: Option<String>,
    },
    /// What would be decided now with another request rate, queue or concurrency.
    WhatIf {
        /// Of what.
        #[command(flatten)]
        subject: Subject,
        /// Requests per second.
        #[arg(long)]
        rate: Option<f64>,
        /// Waiting requests.
        #[arg(long)]
        queue: Option<f64>,
        /// Requests in work or waiting.
        #[arg(long)]
        concurrency: Option<f64>,
    },
    /// All services, live.
    Top {
        /// Of all namespaces.
        #[arg(long, short = 'A')]
        all_namespaces: bool,
        /// Print once and end.
        #[arg(long)]
        once: bool,
    },
    /// Write the recorded decisions of a service as JSON lines.
    Ledger {
        /// Name of the InferenceService.
        name: String,
        /// From this time on.
        #[arg(long, value_name = "TIME")]
        from: Option<String>,
        /// Up to this time.
        #[arg(long, value_name = "TIME")]
        to: Option<String>,
    },
    /// Print a completion script for a shell.
    Completion {
        /// The shell.
        shell: Shell,
    },
}
