//! Lines for the person who watches. A closed pipe is no reason to fail.
use std::fmt::Display;
use std::io::Write as _;

/// Progress: what happens now and how long it took. Goes to standard error, so that standard output stays for results.
pub fn progress(line: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// A result: what the command was asked for.
pub fn result(line: impl Display) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
