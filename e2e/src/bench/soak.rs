//! `make soak`: the server under steady load for a long time, while models come and go; what it holds is looked at every ten seconds.
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;
use tokio::net::TcpStream;

use crate::clock::{Stopwatch, now};
use crate::console::progress;
use crate::load::{Arrivals, Load, LoadOptions, Profile, Request, digits};
use crate::models::Models;
use crate::{images, paths};

const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Of the run, at its start: caches and arenas fill.
const WARM_UP_SHARE: f64 = 0.2;
/// Growth from the first to the last quarter after that, which is taken for noise.
const GROWTH_MAX: f64 = 1.05;

/// What a soak is asked for.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Options {
    /// Minutes of load.
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    /// Requests per second.
    #[arg(long, default_value_t = 300.0)]
    rate: f64,
    /// Loads and unloads of a model per minute, besides those that a bound on memory makes.
    #[arg(long, default_value_t = 30)]
    cycles_per_minute: u32,
}

/// What the process holds at one time.
#[derive(Debug, Clone, Copy, Serialize)]
struct Held {
    seconds: f64,
    resident_bytes: u64,
    descriptors: usize,
    threads: usize,
    answered: u64,
    failed: u64,
    cycles: u64,
}

/// A server process, killed when it is dropped.
struct Server {
    child: Child,
    http: SocketAddr,
    admin: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs it, and fails if a request failed or something grew.
pub(super) fn run(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(soak(options))
}

async fn soak(options: &Options) -> Result<()> {
    let models = Models::ensure()?;
    let folder = paths::target_dir().join("soak");
    let directory = folder.join("models");
    let _ = fs::remove_dir_all(&folder);
    for file in ["cycled.onnx", "one.onnx", "other.onnx"] {
        fs::create_dir_all(&directory)?;
        fs::copy(&models.digits.onnx, directory.join(file)).context("copy a model")?;
    }
    let bytes = fs::metadata(&models.digits.onnx)?.len();
    // The first model, the cycled one, and one of the two others: with each of their requests in turn they push each other out.
    let server = start(&models.digits.onnx, &directory, bytes * 3 + bytes / 2, &folder)?;
    let steady = digits::single(&models.digits);
    let mut requests: Vec<Request> = steady.iter().cloned().collect();
    // One in a hundred asks for a model that may have to be loaded first.
    for (index, request) in steady.iter().take(steady.len() / 100 + 2).enumerate() {
        let model = if index % 2 == 0 { "one" } else { "other" };
        requests.push(of_model(request, model)?);
    }
    let mut to = LoadOptions::to(server.http);
    to.arrivals = Arrivals::Poisson;
    let load = Load::start(
        to,
        Profile {
            rate: options.rate,
            requests: requests.into(),
        },
    );
    let watch = Stopwatch::start();
    let lasts = Duration::from_secs(options.minutes * 60);
    let pause = Duration::from_secs(60) / options.cycles_per_minute.max(1);
    let (mut held, mut cycles, mut next_look) = (Vec::new(), 0, Duration::ZERO);
    while watch.elapsed() < lasts {
        let begun = now();
        change(server.admin, "load").await?;
        change(server.admin, "unload").await?;
        cycles += 1;
        if watch.elapsed() >= next_look {
            next_look += LOOK_EVERY;
            let look = look(server.child.id(), &watch, &load, cycles)?;
            progress(format_args!(
                "{:>5.0} s: {} answered, {} failed, {} cycles; {:.1} MiB, {} descriptors, {} threads",
                look.seconds,
                look.answered,
                look.failed,
                cycles,
                look.resident_bytes as f64 / f64::from(1 << 20),
                look.descriptors,
                look.threads
            ));
            held.push(look);
        }
        tokio::time::sleep(pause.saturating_sub(begun.elapsed())).await;
    }
    let report = load.stop().await;
    let totals = &report.totals;
    fs::write(folder.join("soak.json"), serde_json::to_string_pretty(&held)?)?;
    let id = i32::try_from(server.child.id())?;
    kill(Pid::from_raw(id), Signal::SIGTERM)?;
    let flat = Flat::of(&held)?;
    progress(format_args!(
        "{} requests, {} failed, {} wrong, {cycles} cycles; from the first to the last quarter after the warm-up: {flat}",
        totals.due,
        totals.failed(),
        totals.wrong
    ));
    ensure!(totals.failed() == 0 && totals.wrong == 0, "requests failed: {totals:?}");
    ensure!(flat.is_flat(), "something grows: {flat}");
    Ok(())
}

fn of_model(request: &Request, model: &str) -> Result<Request> {
    let body: serde_json::Value = serde_json::from_slice(&request.body)?;
    let features = body.get("features").context("a request without features")?;
    let body = serde_json::json!({ "instances": [features] });
    Ok(Request {
        path: format!("/v1/models/{model}:predict"),
        body: Bytes::from(body.to_string()),
        // What it answers is checked by others; here it must answer.
        check: Arc::new(|_| Ok(())),
        ..request.clone()
    })
}

fn start(model: &Path, directory: &Path, bytes_max: u64, folder: &Path) -> Result<Server> {
    let program: PathBuf = images::release_binary("tidewright-server", "inference-server")?;
    let log = fs::File::create(folder.join("server.log"))?;
    let mut command = Command::new(program);
    command
        .args([
            "serve",
            "--http",
            "127.0.0.1:0",
            "--grpc",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
        ])
        .args(["--repository", "true", "--workers", "1", "--log", "warn"])
        .arg(format!("--model=digits={}", model.display()))
        .arg(format!("--repository-directory={}", directory.display()))
        .arg(format!("--loaded-bytes-max={bytes_max}"))
        .env("ORT_DYLIB_PATH", images::onnxruntime()?)
        .stdout(Stdio::piped())
        .stderr(log)
        .process_group(0);
    let mut child = command.spawn().context("start the server")?;
    let mut line = String::new();
    let output = child.stdout.take().context("the server's output")?;
    BufReader::new(output).read_line(&mut line)?;
    let mut addresses = line
        .split("://")
        .skip(1)
        .filter_map(|rest| rest.split([' ', ')']).next()?.parse().ok());
    let (http, admin) = (addresses.next(), addresses.next());
    let (Some(http), Some(admin)) = (http, admin) else {
        let _ = child.kill();
        anyhow::bail!("the server does not start; see {}", folder.join("server.log").display());
    };
    Ok(Server { child, http, admin })
}

/// Loads or unloads the model that is cycled.
async fn change(admin: SocketAddr, verb: &str) -> Result<()> {
    let stream = TcpStream::connect(admin).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = http::Request::post(format!("/v2/repository/models/cycled/{verb}"))
        .header("host", "soak")
        .body(Full::<Bytes>::default())?;
    let status = sender.send_request(request).await?.status();
    ensure!(status == 200, "{verb}: {status}");
    Ok(())
}

fn look(process: u32, watch: &Stopwatch, load: &Load, cycles: u64) -> Result<Held> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok())
            .with_context(|| format!("{name} of the process"))
    };
    let totals = load.totals();
    Ok(Held {
        seconds: watch.seconds(),
        resident_bytes: field("VmRSS:")? * 1024,
        descriptors: fs::read_dir(format!("/proc/{process}/fd"))?.count(),
        threads: usize::try_from(field("Threads:")?)?,
        answered: totals.ok,
        failed: totals.failed() + totals.wrong,
        cycles,
    })
}

/// Medians of the last quarter over those of the first, after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Flat {
    memory: f64,
    descriptors: f64,
    threads: f64,
}

impl Flat {
    fn of(held: &[Held]) -> Result<Self> {
        let warm = held
            .get((held.len() as f64 * WARM_UP_SHARE) as usize..)
            .unwrap_or_default();
        let quarter = warm.len() / 4;
        ensure!(quarter > 0, "too short to say anything: {} looks", held.len());
        let (first, last) = (&warm[..quarter], &warm[warm.len() - quarter..]);
        let ratio = |of: fn(&Held) -> f64| median(last, of) / median(first, of).max(1.0);
        Ok(Self {
            memory: ratio(|held| held.resident_bytes as f64),
            descriptors: ratio(|held| held.descriptors as f64),
            threads: ratio(|held| held.threads as f64),
        })
    }

    /// A few descriptors and threads more or less are connections and a model that is being loaded.
    fn is_flat(&self) -> bool {
        self.memory <= GROWTH_MAX && self.descriptors <= GROWTH_MAX + 0.2 && self.threads <= GROWTH_MAX + 0.2
    }
}

fn median(held: &[Held], of: fn(&Held) -> f64) -> f64 {
    let mut values: Vec<f64> = held.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

impl std::fmt::Display for Flat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            memory,
            descriptors,
            threads,
        } = self;
        write!(
            f,
            "memory x {memory:.3}, descriptors x {descriptors:.3}, threads x {threads:.3}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(memory: impl Fn(u64) -> u64) -> Vec<Held> {
        let one = |index: u64| Held {
            seconds: index as f64,
            resident_bytes: memory(index),
            descriptors: 20,
            threads: 10,
            answered: 0,
            failed: 0,
            cycles: 0,
        };
        (0..100).map(one).collect()
    }

    #[test]
    fn what_grows_after_the_warm_up_is_no_flat_line() {
        let warms_up = held(|index| 1000 + index.min(20) * 100);
        assert!(Flat::of(&warms_up).unwrap().is_flat());
        let leaks = held(|index| 100_000 + index * 200);
        assert!(!Flat::of(&leaks).unwrap().is_flat(), "{}", Flat::of(&leaks).unwrap());
        assert!(Flat::of(&leaks[..3]).is_err());
    }
}
