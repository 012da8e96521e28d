//! A complaint about a config file: where and what. All of them are found in one pass, so that one edit can repair them all.

use std::fmt;

/// One thing that is wrong with a value in the config file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where, as written in the file: `models[1].name`.
    pub path: String,
    /// What is wrong and what would be right, without the value where it may be a secret.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.path, self.message)
    }
}

/// Collects problems while a config is walked.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<Problem>);

impl Problems {
    pub(crate) fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem {
            path: path.into(),
            message: message.into(),
        });
    }

    /// Complains when `value` is outside `minimum..=maximum`.
    pub(crate) fn within(&mut self, path: &str, value: u64, minimum: u64, maximum: u64) {
        if value < minimum || value > maximum {
            self.add(path, format!("must be between {minimum} and {maximum}, is {value}"));
        }
    }

    pub(crate) fn into_result(self) -> Result<(), Vec<Problem>> {
        if self.0.is_empty() { Ok(()) } else { Err(self.0) }
    }
}
