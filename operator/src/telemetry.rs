//! Logs.

use tracing_subscriber::EnvFilter;

use crate::args::LogFormat;

/// Starts logging to standard error.
///
/// # Errors
/// If the filter does not parse, or logging was started before.
pub fn start(format: LogFormat, filter: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Human => builder.with_ansi(false).try_init(),
    }
    .map_err(|error| anyhow::anyhow!("{error}"))
}
