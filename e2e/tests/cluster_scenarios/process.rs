//! Processes of pods, as the machine sees them: to kill one as the kernel would.
use std::fs;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Kills a program of a pod with SIGKILL. Exactly one process must be meant.
pub fn kill_in_pod(pod: &Pod, program: &str) -> Result<()> {
    let uid = pod.metadata.uid.as_deref().context("a pod without UID")?;
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")
        .context("listing processes")?
        .filter_map(Result::ok)
    {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let path = entry.path();
        // A process may end while it is looked at.
        let (Ok(groups), Ok(command)) = (fs::read_to_string(path.join("cgroup")), fs::read(path.join("cmdline")))
        else {
            continue;
        };
        let command = String::from_utf8_lossy(&command);
        let name = command.split(['\0', ' ']).next().unwrap_or_default();
        if groups.contains(uid) && name.rsplit('/').next() == Some(program) {
            found.push(pid);
        }
    }
    ensure!(found.len() == 1, "{} processes {program} in the pod", found.len());
    for pid in found {
        kill(Pid::from_raw(pid), Signal::SIGKILL)?;
    }
    Ok(())
}
