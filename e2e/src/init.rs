//! The inside of a box: enters new namespaces, hides the machine's state folders, and becomes the supervisor.
use std::fs;
use std::io::{BufRead as _, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};

use crate::registry::socket_path;
use crate::{network::Network, supervisor};

/// What the inside has to know. Handed over as one JSON argument.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Inside {
    pub name: String,
    pub slot: u8,
    pub dir: PathBuf,
    pub cache: PathBuf,
    pub hostname: String,
}

/// Enters new namespaces and starts their process 1, whose number goes to standard output. Ends with it.
pub fn enter(argument: &str) -> Result<ExitCode> {
    prctl::set_pdeathsig(Signal::SIGKILL).context("asking to die with the keeper")?;
    unshare(
        CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC,
    )
    .context("entering new namespaces (a box needs root)")?;
    let mut child = Command::new("/proc/self/exe")
        .args(["inside", argument])
        .spawn()
        .context("starting the inside of the box")?;
    writeln!(std::io::stdout().lock(), "{}", child.id())?;
    let status = child.wait().context("waiting for the inside of the box")?;
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Process 1 of the box. Ends when its standard input does: that is how it notices the keeper's death, whatever the reason.
pub fn run(argument: &str) -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL).context("asking to die with the keeper")?;
    // The keeper blocks signals, to wait for them. Whether a child inherits that is left to nobody: pods must hear SIGTERM to drain.
    SigSet::all().thread_unblock().context("unblocking signals")?;
    let inside: Inside = serde_json::from_str(argument).context("reading the settings of the box")?;
    let mut go = String::new();
    std::io::stdin().lock().read_line(&mut go)?;
    ensure!(go == "go\n", "the keeper went away");
    std::thread::Builder::new().name("lifeline".to_owned()).spawn(|| {
        let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());
        std::process::exit(0);
    })?;

    // Nothing that is mounted from here on shows outside.
    remount("/", MsFlags::MS_REC | MsFlags::MS_PRIVATE)?;
    let listener = UnixListener::bind(socket_path(&inside.name)).context("creating the supervisor's socket")?;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), None::<&str>).context("mounting /proc")?;
    hide_state_folders(&inside)?;
    pretend_kernel_settings(&inside.dir)?;

    nix::unistd::sethostname(&inside.hostname).context("setting the host name")?;
    Network::of_slot(inside.slot).configure_inside()?;
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("switching on forwarding")?;
    // Absent where the kernel filters bridged packets only with a module that is not loaded.
    let _ = fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "1");

    writeln!(std::io::stdout().lock(), "ready")?;
    supervisor::serve(&listener, &inside.dir.join("logs"))
}

fn remount(path: &str, flags: MsFlags) -> Result<()> {
    mount(None::<&str>, path, None::<&str>, flags, None::<&str>).with_context(|| format!("changing the mount {path}"))
}

/// Programs of a node write below fixed folders. Each gets an empty one instead of the machine's.
fn hide_state_folders(inside: &Inside) -> Result<()> {
    for folder in ["/run", "/var/lib", "/var/log", "/opt", "/etc/cni"] {
        if Path::new(folder).is_dir() {
            cover(Path::new(folder), &[&inside.cache, &inside.dir])?;
        }
    }
    let kubelet = inside.dir.join("kubelet");
    for (source, target) in [
        (&kubelet, "/var/lib/kubelet"),
        (&inside.dir.join("pod-logs"), "/var/log/pods"),
    ] {
        fs::create_dir_all(source)?;
        fs::create_dir_all(target)?;
        mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .with_context(|| format!("mounting {target}"))?;
    }
    // Volumes that the kubelet mounts must reach the containers.
    remount("/var/lib/kubelet", MsFlags::MS_REC | MsFlags::MS_SHARED)?;
    remount("/run", MsFlags::MS_REC | MsFlags::MS_SHARED)
}

/// Mounts an empty folder over `folder`, in which those of `keep` that lie below it stay visible.
fn cover(folder: &Path, keep: &[&Path]) -> Result<()> {
    let mut kept = Vec::new();
    for path in keep.iter().filter(|path| path.starts_with(folder)) {
        let handle = fs::File::options()
            .read(true)
            .custom_flags(nix::libc::O_PATH | nix::libc::O_DIRECTORY)
            .open(path);
        kept.push((*path, handle.with_context(|| format!("opening {}", path.display()))?));
    }
    mount(
        Some("tmpfs"),
        folder,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("mode=0755"),
    )
    .with_context(|| format!("hiding {}", folder.display()))?;
    for (path, handle) in kept {
        fs::create_dir_all(path)?;
        let source = format!("/proc/self/fd/{}", handle.as_raw_fd());
        mount(
            Some(source.as_str()),
            path,
            None::<&str>,
            MsFlags::MS_BIND | MsFlags::MS_REC,
            None::<&str>,
        )
        .with_context(|| format!("keeping {}", path.display()))?;
    }
    Ok(())
}

/// The kubelet sets these for the whole machine where they differ. It is shown what it wants to see instead.
fn pretend_kernel_settings(dir: &Path) -> Result<()> {
    const WANTED: [(&str, &str); 6] = [
        ("vm/overcommit_memory", "1"),
        ("vm/panic_on_oom", "0"),
        ("kernel/panic", "10"),
        ("kernel/panic_on_oops", "1"),
        ("kernel/keys/root_maxkeys", "1000000"),
        ("kernel/keys/root_maxbytes", "25000000"),
    ];
    let folder = dir.join("kernel-settings");
    fs::create_dir_all(&folder)?;
    for (name, value) in WANTED {
        let target = Path::new("/proc/sys").join(name);
        if target.exists() {
            let source = folder.join(name.replace('/', "."));
            fs::write(&source, format!("{value}\n"))?;
            mount(Some(&source), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
                .with_context(|| format!("covering {}", target.display()))?;
        }
    }
    Ok(())
}
