//! Which sources these are, for the labels of images.
use std::process::Command;

use crate::paths;

/// The commit of this checkout, with `-dirty` where files differ from it; `unknown` outside of git.
pub fn of_checkout() -> String {
    let describe = ["describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"];
    // Root looks at a checkout of somebody else, and nothing in it is run.
    let git = Command::new("git")
        .arg("-C")
        .arg(paths::repository_dir())
        .args(["-c", "safe.directory=*"])
        .args(describe)
        .output();
    let text = git
        .ok()
        .filter(|output| output.status.success())
        .map(|output| output.stdout);
    let text = String::from_utf8_lossy(&text.unwrap_or_default()).trim().to_owned();
    if text.is_empty() { "unknown".to_owned() } else { text }
}
