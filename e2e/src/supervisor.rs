//! Process 1 of a box: starts, stops and restarts the cluster's programs on request, and reaps what nobody else waits for.
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::clock::Stopwatch;

/// A program to run. Its output goes to `logs/NAME.log`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Program {
    pub name: String,
    pub path: PathBuf,
    pub arguments: Vec<String>,
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
}

/// What can be asked of the supervisor: one JSON line each, answered by one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Start a program, for the first time or with other arguments.
    Run(Program),
    /// Start a stopped program again, as it was.
    Start(String),
    /// SIGTERM, after ten seconds SIGKILL; answered when it is dead.
    Stop(String),
    /// SIGKILL; answered when it is dead.
    Kill(String),
    /// SIGSTOP: the program hangs.
    Freeze(String),
    /// SIGCONT: it goes on.
    Thaw(String),
    Status,
    /// End of the box, with everything in it.
    Shutdown,
}

/// A program and how it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Component {
    pub name: String,
    /// Process number inside the box; none when it does not run.
    pub pid: Option<i32>,
    /// How it ended last time.
    pub exit: Option<String>,
    /// Times it was started.
    pub starts: u32,
}

pub type Response = Result<Vec<Component>, String>;

struct Entry {
    program: Program,
    state: Component,
}

/// The table of programs, shared by the connections and the reaper.
struct Table {
    entries: Mutex<BTreeMap<String, Entry>>,
    changed: Condvar,
    logs: PathBuf,
}

/// Serves requests on `listener` until somebody asks for the end. Does not return.
pub fn serve(listener: &UnixListener, logs: &Path) -> Result<()> {
    let table = Arc::new(Table {
        entries: Mutex::default(),
        changed: Condvar::new(),
        logs: logs.to_owned(),
    });
    let reaped = Arc::clone(&table);
    std::thread::Builder::new()
        .name("reaper".to_owned())
        .spawn(move || reaped.reap())?;
    for connection in listener.incoming() {
        let table = Arc::clone(&table);
        let connection = connection.context("accepting a connection")?;
        std::thread::Builder::new()
            .name("connection".to_owned())
            .spawn(move || table.answer(connection))?;
    }
    Ok(())
}

impl Table {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, connection: UnixStream) {
        let mut line = String::new();
        let Ok(mut writer) = connection.try_clone() else { return };
        if BufReader::new(connection).read_line(&mut line).is_err() {
            return;
        }
        let response: Response = serde_json::from_str(&line)
            .map_err(anyhow::Error::from)
            .and_then(|request| self.handle(request))
            .map_err(|error| format!("{error:#}"));
        if let Ok(mut text) = serde_json::to_vec(&response) {
            text.push(b'\n');
            let _ = writer.write_all(&text);
        }
    }

    fn handle(&self, request: Request) -> Result<Vec<Component>> {
        match request {
            Request::Run(program) => self.start(program)?,
            Request::Start(name) => {
                let program = self.lock().get(&name).map(|entry| entry.program.clone());
                self.start(program.with_context(|| format!("{name} was never started"))?)?;
            }
            Request::Stop(name) => {
                if self.signal(&name, Signal::SIGTERM)? && !self.wait_for_exit(&name, Duration::from_secs(10)) {
                    self.end(&name)?;
                }
            }
            Request::Kill(name) => self.end(&name)?,
            Request::Freeze(name) => ensure!(self.signal(&name, Signal::SIGSTOP)?, "{name} does not run"),
            Request::Thaw(name) => ensure!(self.signal(&name, Signal::SIGCONT)?, "{name} does not run"),
            Request::Status => {}
            // The kernel ends every other process of the namespace with its process 1.
            Request::Shutdown => std::process::exit(0),
        }
        Ok(self.lock().values().map(|entry| entry.state.clone()).collect())
    }

    fn start(&self, program: Program) -> Result<()> {
        // The lock is held from the start to the entry in the table: the reaper cannot miss an early end.
        let mut entries = self.lock();
        let starts = match entries.get(&program.name) {
            Some(entry) if entry.state.pid.is_some() => bail!("{} runs already", program.name),
            Some(entry) => entry.state.starts,
            None => 0,
        };
        let log_path = self.logs.join(format!("{}.log", program.name));
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(&log_path)
            .with_context(|| format!("opening {}", log_path.display()))?;
        let child = Command::new(&program.path)
            .args(&program.arguments)
            .envs(&program.environment)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {}", program.path.display()))?;
        let state = Component {
            name: program.name.clone(),
            pid: Some(child.id().cast_signed()),
            exit: None,
            starts: starts + 1,
        };
        entries.insert(program.name.clone(), Entry { program, state });
        Ok(())
    }

    /// False when the program does not run.
    fn signal(&self, name: &str, signal: Signal) -> Result<bool> {
        let entries = self.lock();
        let entry = entries.get(name).with_context(|| format!("{name} was never started"))?;
        let Some(pid) = entry.state.pid else { return Ok(false) };
        kill(Pid::from_raw(pid), signal).with_context(|| format!("sending {signal} to {name}"))?;
        Ok(true)
    }

    fn end(&self, name: &str) -> Result<()> {
        if self.signal(name, Signal::SIGKILL)? {
            ensure!(self.wait_for_exit(name, Duration::from_secs(10)), "{name} does not die");
        }
        Ok(())
    }

    fn wait_for_exit(&self, name: &str, deadline: Duration) -> bool {
        let watch = Stopwatch::start();
        let mut entries = self.lock();
        while entries.get(name).is_some_and(|entry| entry.state.pid.is_some()) {
            let Some(left) = deadline.checked_sub(watch.elapsed()) else {
                return false;
            };
            entries = self
                .changed
                .wait_timeout(entries, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        true
    }

    /// Waits for any child for ever. Also for those that it inherits: every orphan of the box is a child of process 1.
    fn reap(&self) {
        loop {
            // Looks first and takes the child under the lock: a child that `start` is still looking at must not vanish.
            let ended = waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
            let Some(pid) = ended.ok().and_then(|status| status.pid()) else {
                std::thread::sleep(Duration::from_millis(50));
                continue;
            };
            let mut entries = self.lock();
            let Ok(status) = waitpid(pid, Some(WaitPidFlag::WNOHANG)) else {
                continue;
            };
            if let Some(entry) = entries.values_mut().find(|entry| entry.state.pid == Some(pid.as_raw())) {
                entry.state.pid = None;
                entry.state.exit = Some(match status {
                    WaitStatus::Exited(_, code) => format!("exited with {code}"),
                    WaitStatus::Signaled(_, signal, _) => format!("killed by {signal}"),
                    other => format!("{other:?}"),
                });
                self.changed.notify_all();
            }
        }
    }
}
