//! Which boxes are up on this machine, whose leftovers are to be swept, and who gets which slot.
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::clock::Stopwatch;
use crate::network::{self, Network};
use crate::{cgroup, paths};

/// A process, safe against reuse of its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat`: clock ticks since boot.
    pub started_ticks: u64,
}

impl ProcessId {
    pub fn of(pid: i32) -> Result<Self> {
        let (_, started_ticks) = stat(pid).with_context(|| format!("process {pid} is gone"))?;
        Ok(Self { pid, started_ticks })
    }

    /// Running, and still the same process. One that only waits to be reaped is dead.
    pub fn is_alive(self) -> bool {
        stat(self.pid).is_some_and(|(state, started)| started == self.started_ticks && !matches!(state, 'Z' | 'X'))
    }
}

fn stat(pid: i32) -> Option<(char, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may hold anything: read on behind the last one.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some((fields.first()?.chars().next()?, fields.get(19)?.parse().ok()?))
}

/// What is known about a box, in `/run/tidewright/NAME.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub name: String,
    pub slot: u8,
    pub keeper: ProcessId,
    /// The box's process 1, as the machine numbers it. None while the box is being set up.
    pub init: Option<ProcessId>,
    pub dir: PathBuf,
}

impl Record {
    pub fn network(&self) -> Network {
        Network::of_slot(self.slot)
    }

    pub fn socket(&self) -> PathBuf {
        socket_path(&self.name)
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    pub fn is_up(&self) -> bool {
        self.keeper.is_alive()
    }

    /// Writes the record in one step: a reader never sees half of it.
    pub fn write(&self) -> Result<()> {
        let path = record_path(&self.name);
        let partial = path.with_extension("partial");
        fs::write(&partial, serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("writing {}", partial.display()))?;
        fs::rename(&partial, &path).with_context(|| format!("writing {}", path.display()))
    }

    /// Removes everything of a box whose processes are dead or shall be.
    pub fn sweep(&self) -> Result<()> {
        if let Some(init) = self.init.filter(|init| init.is_alive()) {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(init.pid), nix::sys::signal::Signal::SIGKILL);
        }
        let watch = Stopwatch::start();
        while self.init.is_some_and(ProcessId::is_alive) && watch.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.network().disconnect();
        let groups = cgroup::remove(&self.name, Duration::from_secs(10));
        let files = remove_dir(&self.dir);
        let _ = fs::remove_file(self.socket());
        let _ = fs::remove_file(record_path(&self.name));
        groups.and(files)
    }
}

fn remove_dir(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", dir.display()))
        }
        _ => {
            // The folder of all boxes goes with the last one.
            if let Some(parent) = dir.parent() {
                let _ = fs::remove_dir(parent);
            }
            Ok(())
        }
    }
}

fn record_path(name: &str) -> PathBuf {
    Path::new(paths::REGISTRY_DIR).join(format!("{name}.json"))
}

pub fn socket_path(name: &str) -> PathBuf {
    Path::new(paths::REGISTRY_DIR).join(format!("{name}.sock"))
}

/// A name that fits a host name, a control group and a socket path.
pub fn check_name(name: &str) -> Result<()> {
    let valid = !name.is_empty()
        && name.len() <= 40
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    if !valid {
        bail!("{name:?} is no name for a box: use up to 40 of a-z, 0-9 and '-', with no '-' at the ends");
    }
    Ok(())
}

/// The registry, held by one process at a time.
#[derive(Debug)]
pub struct Registry {
    _lock: Flock<fs::File>,
}

impl Registry {
    pub fn lock() -> Result<Self> {
        let dir = Path::new(paths::REGISTRY_DIR);
        loop {
            fs::create_dir_all(dir).with_context(|| format!("creating {} (a box needs root)", dir.display()))?;
            let Ok(file) = fs::File::open(dir) else { continue };
            let inode = file.metadata()?.ino();
            let lock = Flock::lock(file, FlockArg::LockExclusive)
                .map_err(|(_, errno)| errno)
                .context("locking the registry")?;
            // Whoever held the lock may have removed the folder with the last box.
            if fs::metadata(dir).is_ok_and(|now| now.ino() == inode) {
                return Ok(Self { _lock: lock });
            }
        }
    }

    pub fn records(&self) -> Vec<Record> {
        records()
    }

    /// Removes what dead boxes have left behind. What cannot be removed is said, and is no reason not to start another box.
    pub fn sweep(&self) {
        for record in self.records().iter().filter(|record| !record.is_up()) {
            if let Err(error) = record.sweep() {
                crate::console::progress(format_args!("sweeping the dead box {}: {error:#}", record.name));
            }
        }
        // A record is written before everything else and removed last, unless somebody emptied /run.
        let known = self.records();
        for name in cgroup::boxes()
            .iter()
            .filter(|name| known.iter().all(|record| record.name != **name))
        {
            let _ = cgroup::remove(name, Duration::ZERO);
        }
    }

    /// Claims the name and a free slot for `keeper`.
    pub fn claim(&self, name: &str, keeper: ProcessId) -> Result<Record> {
        check_name(name)?;
        self.sweep();
        let taken = self.records();
        if taken.iter().any(|record| record.name == name) {
            bail!(
                "box {name} is already up: `{} down --name {name}` ends it",
                paths::box_call()
            );
        }
        let routes = network::routes_of_host()?;
        let slot = (0..network::SLOTS).find(|slot| {
            let network = Network::of_slot(*slot);
            taken.iter().all(|record| record.slot != *slot)
                && !network.is_connected()
                && !network.collides_with(&routes)
        });
        let Some(slot) = slot else {
            bail!(
                "no free addresses for one more box: all {} slots are in use or collide with routes of this machine",
                network::SLOTS
            );
        };
        let record = Record {
            name: name.to_owned(),
            slot,
            keeper,
            init: None,
            dir: paths::box_dir(name)?,
        };
        // A crash of an earlier kind may have left a folder without a record.
        remove_dir(&record.dir)?;
        record.write()?;
        Ok(record)
    }

    /// Removes a box's traces and, after the last one, the registry itself.
    pub fn release(&self, record: &Record) -> Result<()> {
        let swept = record.sweep();
        let _ = fs::remove_dir(paths::REGISTRY_DIR);
        swept
    }
}

/// All records, also of boxes that died.
pub fn records() -> Vec<Record> {
    let entries = fs::read_dir(paths::REGISTRY_DIR)
        .into_iter()
        .flatten()
        .filter_map(Result::ok);
    let mut records: Vec<Record> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .filter_map(|path| serde_json::from_slice(&fs::read(path).ok()?).ok())
        .collect();
    records.sort_by(|one, other| one.name.cmp(&other.name));
    records
}

/// The record of a box that is up.
pub fn find(name: &str) -> Result<Record> {
    check_name(name)?;
    let found = records()
        .into_iter()
        .find(|record| record.name == name && record.is_up());
    found.with_context(|| {
        let call = paths::box_call();
        format!("no box called {name} is up (`{call} up --name {name}` starts one)")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_number_and_start() {
        let me = ProcessId::of(std::process::id().cast_signed()).unwrap();
        assert!(me.is_alive());
        assert!(
            !ProcessId {
                started_ticks: me.started_ticks + 1,
                ..me
            }
            .is_alive()
        );
    }

    #[test]
    fn names_fit_host_names_and_paths() {
        for name in ["a", "e2e-4711", "default"] {
            check_name(name).unwrap();
        }
        for name in ["", "-a", "a-", "A", "a/b", "a.b", "..", &"a".repeat(41)] {
            check_name(name).unwrap_err();
        }
    }
}
