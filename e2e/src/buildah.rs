//! Builds images without a container engine and, where no registry can be reached, without a registry.
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::clock::Stopwatch;
use crate::console::progress;
use crate::paths;

/// The base of all images. Pulled where that is possible; elsewhere an equal one is made of Debian's packages under the same name.
pub const BASE_IMAGE: &str = "docker.io/library/debian:bookworm-slim";

/// buildah with a storage of its own in the cache.
#[derive(Debug)]
pub struct Buildah {
    storage: PathBuf,
}

impl Buildah {
    pub fn open() -> Result<Self> {
        let storage = paths::cache_dir()?.join("buildah");
        fs::create_dir_all(&storage).with_context(|| format!("creating {}", storage.display()))?;
        Ok(Self { storage })
    }

    fn command(&self) -> Command {
        let mut command = Command::new("buildah");
        // Overlays need nothing here but the kernel; on top of another overlay only copies work.
        let driver = if crate::node::snapshotter(&self.storage) == "overlayfs" {
            "overlay"
        } else {
            "vfs"
        };
        command
            .arg("--root")
            .arg(self.storage.join("root"))
            .arg("--runroot")
            .arg(self.storage.join("run"))
            .args(["--storage-driver", driver]);
        // The only isolation that needs neither a container runtime nor control groups.
        command
            .env("BUILDAH_ISOLATION", "chroot")
            .env("TMPDIR", &self.storage)
            .stdin(Stdio::null());
        command
    }

    /// Runs buildah and returns what it printed.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<String> {
        let output = self.command().args(arguments).output().context("running buildah")?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        ensure!(
            output.status.success(),
            "buildah failed ({}): {text}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(text)
    }

    /// Whether the storage has an image.
    pub fn has(&self, reference: &str) -> bool {
        self.run(["images", "--quiet", reference])
            .is_ok_and(|answer| !answer.is_empty())
    }

    /// Gets the base image, once.
    pub fn ensure_base(&self) -> Result<()> {
        if self.has(BASE_IMAGE) {
            return Ok(());
        }
        let watch = Stopwatch::start();
        if registry_answers() && self.run(["pull", BASE_IMAGE]).is_ok() {
            progress(format_args!("pulled {BASE_IMAGE} in {:.0} s", watch.seconds()));
            return Ok(());
        }
        progress("no registry can be reached: making the base image of Debian's packages …");
        let archive = self.storage.join("base.tar");
        let output = Command::new("mmdebstrap")
            .args(["--variant=minbase", "--quiet", "bookworm"])
            .arg(&archive)
            .env("TMPDIR", &self.storage)
            .stdin(Stdio::null())
            .output()
            .context("running mmdebstrap")?;
        ensure!(
            output.status.success(),
            "mmdebstrap failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let container = self.run(["from", "scratch"])?;
        let committed = self
            .run([
                OsStr::new("add"),
                OsStr::new(&container),
                archive.as_os_str(),
                OsStr::new("/"),
            ])
            .and_then(|_| self.run(["config", "--cmd", "/bin/bash", &container]))
            .and_then(|_| self.run(["commit", "--quiet", &container, BASE_IMAGE]));
        self.run(["rm", &container])?;
        committed?;
        fs::remove_file(&archive).with_context(|| format!("removing {}", archive.display()))?;
        progress(format_args!("made the base image in {:.0} s", watch.seconds()));
        Ok(())
    }

    /// Writes an image as a folder in the layout of the Open Container Initiative, layers uncompressed: it is read here only.
    pub fn export(&self, reference: &str, folder: &Path) -> Result<()> {
        let target = format!("oci:{}:latest", folder.display());
        self.run(["push", "--quiet", "--disable-compression", reference, &target])
            .map(drop)
    }
}

/// Whether a TCP connection to the registry comes up: `buildah pull` retries for minutes where nobody answers.
fn registry_answers() -> bool {
    use std::net::{TcpStream, ToSocketAddrs as _};
    let addresses = ("registry-1.docker.io", 443).to_socket_addrs();
    addresses.is_ok_and(|mut addresses| {
        addresses.any(|address| TcpStream::connect_timeout(&address, Duration::from_secs(3)).is_ok())
    })
}
