//! Processes of pods, as the machine sees them: to kill one as the kernel would, and to ask one directly.
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tidewright_contract::routes::ADMIN_PORT;

/// Kills a program of a pod with SIGKILL.
pub fn kill_in_pod(pod: &Pod, program: &str) -> Result<()> {
    kill_process(find_in_pod(pod, program)?)
}

/// SIGKILL.
pub fn kill_process(pid: i32) -> Result<()> {
    Ok(kill(Pid::from_raw(pid), Signal::SIGKILL)?)
}

/// The process of a pod that runs a program. Exactly one must be meant.
pub fn find_in_pod(pod: &Pod, program: &str) -> Result<i32> {
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
    Ok(found[0])
}

/// Of one pod alone.
pub fn pod_address(pod: &Pod, port: u16) -> Result<SocketAddr> {
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.as_ref());
    Ok(SocketAddr::new(
        address.context("a pod without address")?.parse()?,
        port,
    ))
}

/// The sum of a metric of the pod's server over its series with all of these labels.
pub async fn server_metric(pod: &Pod, name: &str, labels: &[String]) -> Result<f64> {
    let address = pod_address(pod, ADMIN_PORT)?;
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(5))
        .build()?;
    let text = client
        .get(format!("http://{address}/metrics"))
        .send()
        .await?
        .text()
        .await?;
    let mut sum = 0.0;
    for line in text.lines().filter(|line| line.starts_with(name)) {
        if labels.iter().all(|label| line.contains(label)) {
            sum += line.rsplit(' ').next().context("no value")?.parse::<f64>()?;
        }
    }
    Ok(sum)
}
