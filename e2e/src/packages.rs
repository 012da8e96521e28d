//! The Debian packages that a box needs: installed when this is root on Debian, asked for in one sentence otherwise.
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::clock::Stopwatch;
use crate::console::progress;

/// (a program that shows the package is there, the package)
type Needed = &'static [(&'static str, &'static str)];

/// Needed for every box.
pub const CONTROL_PLANE: Needed = &[("ip", "iproute2"), ("nsenter", "util-linux")];

/// Needed where containers run.
pub const NODE: Needed = &[
    ("runc", "runc"),
    ("iptables", "iptables"),
    ("nft", "nftables"),
    ("conntrack", "conntrack"),
    ("ipset", "ipset"),
    ("ethtool", "ethtool"),
    ("socat", "socat"),
    ("mount", "mount"),
];

/// Needed to build images.
pub const IMAGES: Needed = &[
    ("buildah", "buildah"),
    ("mmdebstrap", "mmdebstrap"),
    ("cc", "gcc"),
    ("cc", "libc6-dev"),
];

/// Installs what is missing.
pub fn ensure(needed: &[Needed]) -> Result<()> {
    let missing: Vec<&str> = needed
        .iter()
        .flat_map(|list| list.iter())
        .filter(|(program, _)| find(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !nix::unistd::geteuid().is_root() || find("apt-get").is_none() {
        bail!("these packages are missing: {list}. Install them, on Debian with `apt-get install {list}` as root");
    }
    progress(format_args!("installing the packages {list} …"));
    let watch = Stopwatch::start();
    apt_get(&["update"])?;
    let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
    arguments.extend(&missing);
    apt_get(&arguments)?;
    progress(format_args!("installed in {:.0} s", watch.seconds()));
    Ok(())
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let output = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .output()
        .context("running apt-get")?;
    if !output.status.success() {
        bail!(
            "apt-get {} failed:\n{}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// Looks a program up in PATH and in the folders of system programs, which a user's PATH may lack.
pub fn find(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"])
        .map(|dir| Path::new(dir).join(program))
        .find(|path| path.is_file())
}
