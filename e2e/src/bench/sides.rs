//! What is measured: how each side is started, and that its answers are right before its speed is looked at.
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as Probe};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use hyper_util::rt::TokioIo;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::net::TcpStream;

use super::closed_loop::{self, Measured};
use crate::load::{Request, digits};
use crate::models::{Classifier, Models};
use crate::wait::{Seen, await_condition};
use crate::{images, paths};

/// As many as a small fleet of clients.
const CONNECTIONS: usize = 32;
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// For a side to end by itself, and to remove what it shares with its children.
const END_TIMEOUT: Duration = Duration::from_secs(3);

/// One thing that is measured.
#[derive(Clone)]
pub(super) struct Side {
    pub(super) name: &'static str,
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    pub(super) environment: Vec<(String, PathBuf)>,
    pub(super) requests: Arc<[Request]>,
    pub(super) kind: Kind,
}

/// What a side understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Takes `--address`, and answers the question, which is not what a check wants.
    Echo,
    /// Our server: takes `--http`, `--grpc`, `--admin`.
    Server,
    /// A server of others: takes `--address`.
    Peer,
}

impl Side {
    /// The echo, the server, and the server with every answer in its memory cache.
    pub(super) fn all() -> Result<Vec<Self>> {
        let Classifier {
            onnx, images: held_out, ..
        } = &Models::ensure()?.digits;
        let models = Models::ensure()?;
        let server = images::release_binary("tidewright-server", "inference-server")?;
        let library = images::onnxruntime()?;
        let requests = digits::single(&models.digits);
        let serve = |more: &[&str]| -> Self {
            let mut arguments = vec![
                "serve".to_owned(),
                "--model".to_owned(),
                format!("digits={}", onnx.display()),
            ];
            arguments.extend(more.iter().map(|text| (*text).to_owned()));
            Self {
                name: if more.is_empty() { "server" } else { "server, cached" },
                program: server.clone(),
                arguments,
                environment: vec![("ORT_DYLIB_PATH".to_owned(), library.clone())],
                requests: Arc::clone(&requests),
                kind: Kind::Server,
            }
        };
        anyhow::ensure!(!held_out.is_empty(), "no images to send");
        let echo = Self::echo(&requests)?;
        Ok(vec![echo, serve(&[]), serve(&["--cache-bytes", "67108864"])])
    }

    /// The echo, which gets the same requests as the others.
    pub(super) fn echo(requests: &Arc<[Request]>) -> Result<Self> {
        Ok(Self {
            name: "echo",
            program: std::env::current_exe().context("find this program")?,
            arguments: vec!["echo".to_owned()],
            environment: Vec::new(),
            requests: Arc::clone(requests),
            kind: Kind::Echo,
        })
    }
}

/// A side that runs. Killed with its children when it has been measured: one is alive at a time.
pub(super) struct Running {
    child: Child,
    pub(super) address: SocketAddr,
}

impl Running {
    /// The process that was started: taskset becomes it.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end, and kills what is left after a while.
    pub(super) async fn stop(mut self) {
        if let Ok(group) = i32::try_from(self.child.id()) {
            let _ = killpg(Pid::from_raw(group), Signal::SIGTERM);
        }
        // One that does not end is killed with the others when this is dropped.
        let _ = await_condition("the side has ended", END_TIMEOUT, || {
            let status = self.child.try_wait();
            async move {
                Ok(match status? {
                    Some(_) => Seen::Done(()),
                    None => Seen::not_yet("it runs"),
                })
            }
        })
        .await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It leads a group of its own.
        if let Ok(group) = i32::try_from(self.child.id()) {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

/// Starts a side on the first core and asks it every question once: no speed is looked at before the answers are right.
pub(super) async fn start(side: &Side) -> Result<Running> {
    let log = log(side.name)?;
    let mut running = spawn(side, &log)?;
    let address = running.address;
    let exited = await_condition(&format!("{} answers", side.name), START_TIMEOUT, || {
        let exited = running.child.try_wait();
        async move {
            if let Some(status) = exited? {
                return Ok(Seen::Done(Some(status)));
            }
            Ok(match ask_all(address, &side.requests, side.kind != Kind::Echo).await {
                Ok(()) => Seen::Done(None),
                Err(error) => Seen::not_yet(format!("{error:#}")),
            })
        }
    })
    .await?;
    if let Some(status) = exited {
        let said = fs::read_to_string(&log).unwrap_or_default();
        bail!(
            "it ended, {status}: {}",
            said.lines().last().unwrap_or("without a word")
        );
    }
    Ok(running)
}

/// Where a side's own words go: the last start's.
fn log(name: &str) -> Result<PathBuf> {
    let folder = paths::target_dir().join("bench/logs");
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    Ok(folder.join(format!("{}.log", name.replace([' ', ','], "-"))))
}

/// Starts a side that logs into a file, and does not wait for it.
pub(super) fn spawn(side: &Side, log: &Path) -> Result<Running> {
    let address = free_address()?;
    let mut command = Command::new("taskset");
    command
        .args(["--cpu-list", "0"])
        .arg(&side.program)
        .args(&side.arguments);
    if side.kind == Kind::Server {
        for (flag, address) in [
            ("--http", address),
            ("--grpc", free_address()?),
            ("--admin", free_address()?),
        ] {
            command.args([flag, &address.to_string()]);
        }
    } else {
        command.args(["--address", &address.to_string()]);
    }
    command
        .envs(side.environment.iter().cloned())
        .current_dir(paths::repository_dir())
        .stdout(Stdio::null())
        .stderr(fs::File::create(log).with_context(|| format!("creating {}", log.display()))?)
        .process_group(0);
    let child = command.spawn().context("start taskset (package util-linux)")?;
    Ok(Running { child, address })
}

/// Starts a side, warms it up, measures it.
pub(super) async fn measure(side: &Side, seconds: u64) -> Result<Measured> {
    let running = start(side).await?;
    let address = running.address;
    let (lasts, warm_up) = (Duration::from_secs(seconds), Duration::from_secs(1));
    closed_loop::run(address, &side.requests, CONNECTIONS, warm_up).await?;
    let (per_second, busy) = closed_loop::run(address, &side.requests, CONNECTIONS, lasts).await?;
    let (_, alone) = closed_loop::run(address, &side.requests, 1, lasts / 2).await?;
    Ok(Measured {
        per_second,
        alone_p50_micros: alone.value_at_quantile(0.5),
        busy_p99_micros: busy.value_at_quantile(0.99),
    })
}

/// Asks every question once; an error if an answer is none, or is not the right one.
pub(super) async fn ask_all(address: SocketAddr, requests: &[Request], is_checked: bool) -> Result<()> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    for request in requests {
        sender.ready().await?;
        let (status, body) = closed_loop::send(&mut sender, request, address).await?;
        if status != 200 {
            bail!("status {status}");
        }
        if is_checked {
            (request.check)(&body).map_err(anyhow::Error::msg)?;
        }
    }
    Ok(())
}

fn free_address() -> Result<SocketAddr> {
    Ok(Probe::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
