//! `kubectl tide`, as a user runs it: the binary of this checkout.
use std::path::Path;

use anyhow::{Context as _, Result};
use tokio::process::Command;

use crate::operator_process::built;

/// How it ended, and what it printed.
#[derive(Debug)]
pub struct Answer {
    /// Exit status; none where a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs it against a cluster, or against nothing at all.
pub async fn tide(kubeconfig: &Path, arguments: &[&str]) -> Result<Answer> {
    let program = built("kubectl-tide")?;
    let output = Command::new(&program)
        .args(arguments)
        .env("KUBECONFIG", kubeconfig)
        .env("NO_PROXY", "*")
        .output()
        .await
        .with_context(|| format!("running {}", program.display()))?;
    Ok(Answer {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
