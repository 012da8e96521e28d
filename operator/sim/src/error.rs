//! What can be wrong with what the user gave: each error says what, where, and what to do.

use std::path::PathBuf;

use thiserror::Error;

#[derive(Debug, Error)]
pub enum Error {
    /// A file could not be opened or read.
    #[error("{}: {source}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// A line of a trace is not what its header promises.
    #[error("{}:{line}: {problem}", path.display())]
    Trace {
        path: PathBuf,
        /// From 1; the header is line 1.
        line: usize,
        problem: String,
    },
    /// An option, or two that do not fit together.
    #[error("{option}: {problem}")]
    Option {
        /// As typed, e.g. `--fault pods-lost:2:60`.
        option: String,
        problem: String,
    },
}

impl Error {
    pub fn option(option: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Option {
            option: option.into(),
            problem: problem.into(),
        }
    }
}

pub type Result<T> = std::result::Result<T, Error>;
