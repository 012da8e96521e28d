//! A box as its owner holds it: it ends when this value is dropped, and also when the owner is killed.
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::clock::Stopwatch;
use crate::keeper::{Answer, DETACH};
use crate::registry::Record;
use crate::supervisor::{Component, Program, Request, Response};
use crate::{paths, registry};

/// Longest wait for the supervisor: `Stop` takes up to twenty seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Namespaces with a supervisor in them and a wire to the machine; empty otherwise.
#[derive(Debug)]
pub struct Sandbox {
    record: Record,
    owned: Option<Owned>,
}

#[derive(Debug)]
struct Owned {
    keeper: Child,
    lifeline: Option<ChildStdin>,
}

impl Sandbox {
    /// Starts a box that lives as long as this value.
    pub fn start(name: &str) -> Result<Self> {
        let mut keeper = Command::new(paths::box_program()?)
            .args(["keeper", name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the keeper of the box")?;
        let lifeline = keeper.stdin.take();
        let mut line = String::new();
        if let Some(output) = keeper.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        match serde_json::from_str::<Answer>(&line) {
            Ok(Ok(record)) => Ok(Self {
                record,
                owned: Some(Owned { keeper, lifeline }),
            }),
            Ok(Err(message)) => {
                keeper.wait()?;
                bail!("{message}");
            }
            Err(_) => bail!("the keeper of the box ended without an answer: {}", keeper.wait()?),
        }
    }

    /// A box that somebody else keeps. Dropping this value does nothing to it.
    pub fn attach(name: &str) -> Result<Self> {
        Ok(Self {
            record: registry::find(name)?,
            owned: None,
        })
    }

    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Leaves the box up when this process ends. `tidewright-box down` ends it.
    pub fn detach(mut self) -> Result<()> {
        if let Some(mut owned) = self.owned.take()
            && let Some(mut lifeline) = owned.lifeline.take()
        {
            writeln!(lifeline, "{DETACH}").context("letting the box go")?;
        }
        Ok(())
    }

    /// Ends the box, whoever keeps it, and waits until nothing is left.
    pub fn down(mut self) -> Result<()> {
        if let Some(mut owned) = self.owned.take() {
            return owned.end();
        }
        let _ = ask(&self.record, &Request::Shutdown);
        let watch = Stopwatch::start();
        while self.record.is_up() {
            if watch.elapsed() > Duration::from_secs(30) {
                bail!(
                    "box {} does not go down: process {} keeps it",
                    self.record.name,
                    self.record.keeper.pid
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Asks the supervisor. Blocks until it has answered.
    pub fn ask(&self, request: &Request) -> Result<Vec<Component>> {
        ask(&self.record, request)
    }

    pub fn run(&self, program: Program) -> Result<()> {
        self.ask(&Request::Run(program)).map(drop)
    }

    /// A command that will run inside the box.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Result<Command> {
        let init = self.record.init.context("the box is still being set up")?;
        let mut command = Command::new("nsenter");
        command
            .arg("--target")
            .arg(init.pid.to_string())
            .args(["--mount", "--net", "--pid", "--uts", "--ipc", "--"])
            .arg(program);
        Ok(command)
    }
}

impl Owned {
    fn end(&mut self) -> Result<()> {
        self.lifeline = None;
        let status = self.keeper.wait().context("waiting for the keeper of the box")?;
        if !status.success() {
            bail!("the keeper of the box failed: {status}");
        }
        Ok(())
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if let Some(mut owned) = self.owned.take()
            && let Err(error) = owned.end()
        {
            crate::console::progress(format_args!("taking the box {} down: {error:#}", self.record.name));
        }
    }
}

fn ask(record: &Record, request: &Request) -> Result<Vec<Component>> {
    let mut connection = UnixStream::connect(record.socket())
        .with_context(|| format!("the supervisor of box {} does not answer", record.name))?;
    connection.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    let mut text = serde_json::to_vec(request)?;
    text.push(b'\n');
    connection.write_all(&text)?;
    let mut line = String::new();
    BufReader::new(connection)
        .read_line(&mut line)
        .context("waiting for the supervisor")?;
    let response: Response = serde_json::from_str(&line).context("reading the supervisor's answer")?;
    response.map_err(anyhow::Error::msg)
}
