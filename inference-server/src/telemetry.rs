//! Log lines to standard error: JSON for machines, plain for people.

use std::io::IsTerminal;

use tidewright_contract::config::{LogConfig, LogFormat};
use tracing_subscriber::EnvFilter;

/// Starts logging; once per process.
///
/// # Errors
/// When the filter is none.
pub fn start(config: &LogConfig) -> Result<(), String> {
    let filter = EnvFilter::try_new(&config.filter).map_err(|error| format!("log.filter: {error}"))?;
    // The runtime's own chatter is only of interest when it warns.
    let filter = match "ort=warn".parse() {
        Ok(directive) if !config.filter.contains("ort") => filter.add_directive(directive),
        _ => filter,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let started = match config.format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Human => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
    };
    started.map_err(|error| format!("cannot start logging: {error}"))
}
