//! The process that outlives whoever asked for a box: it waits for that end, or for the box's, and leaves nothing behind.
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Sender, channel};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

use crate::init::Inside;
use crate::registry::{ProcessId, Record, Registry};
use crate::{cgroup, console, paths};

/// Why a box ends.
enum End {
    /// Whoever asked for the box is gone.
    OwnerGone,
    /// Somebody sent SIGTERM or SIGINT.
    Signal,
    /// Process 1 of the box ended, because it was asked to or by itself.
    BoxGone,
}

/// What the owner may say on standard input before it goes.
pub const DETACH: &str = "detach";

/// Answer on standard output: the record of the box, or what went wrong.
pub type Answer = Result<Record, String>;

/// Starts a box, keeps it, clears up. Standard input is the lifeline to the owner.
pub fn run(name: &str) -> Result<()> {
    // A terminal's Ctrl-C is for the owner; the keeper hears of it by the lifeline, when there is nothing left to disturb.
    nix::unistd::setsid().context("starting a session of its own")?;
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block().context("blocking signals")?;

    let me = ProcessId::of(std::process::id().cast_signed())?;
    let claimed = Registry::lock().and_then(|registry| registry.claim(name, me));
    let mut record = match claimed {
        Ok(record) => record,
        Err(error) => return answer(&Err(format!("{error:#}"))),
    };
    let outcome = keep(&mut record, signals);
    let released = Registry::lock().and_then(|registry| registry.release(&record));
    if let Err(error) = outcome {
        answer(&Err(format!("{error:#}")))?;
    }
    released
}

fn answer(answer: &Answer) -> Result<()> {
    console::result(serde_json::to_string(answer)?);
    Ok(())
}

fn keep(record: &mut Record, signals: SigSet) -> Result<()> {
    let (child, running) = start(record)?;
    let (sender, ends) = channel();
    watch_owner(sender.clone())?;
    watch_box(child, sender.clone())?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let _ = signals.wait();
        let _ = sender.send(End::Signal);
    })?;
    answer(&Ok(record.clone()))?;

    let end = ends.recv().context("waiting for the end")?;
    if !matches!(end, End::BoxGone) {
        // Ends process 1, and with it everything in the box, also where it hangs.
        if let Some(init) = record.init {
            let _ = kill(Pid::from_raw(init.pid), Signal::SIGKILL);
        }
        drop(running);
        while !matches!(ends.recv(), Ok(End::BoxGone) | Err(_)) {}
    }
    Ok(())
}

/// The pipes of a running box. It ends when the first is closed.
struct Pipes {
    _lifeline: ChildStdin,
    _output: BufReader<ChildStdout>,
}

fn start(record: &mut Record) -> Result<(Child, Pipes)> {
    fs::create_dir_all(record.dir.join("logs")).with_context(|| format!("creating {}", record.dir.display()))?;
    cgroup::create(&record.name)?;
    let log = record.dir.join("logs/box.log");
    let failure = || crate::control_plane::log_tail(&record.dir, "box");
    let inside = Inside {
        name: record.name.clone(),
        slot: record.slot,
        dir: record.dir.clone(),
        cache: paths::cache_dir()?,
        hostname: format!("box-{}", record.name),
    };
    let mut child = Command::new("/proc/self/exe")
        .args(["enter", &serde_json::to_string(&inside)?])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // Not the owner's: whoever reads that would wait for a detached box.
        .stderr(fs::File::create(&log)?)
        .spawn()
        .context("starting the box")?;
    let (Some(mut lifeline), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        bail!("the box has no pipes")
    };
    let mut output = BufReader::new(output);
    let mut line = String::new();
    output.read_line(&mut line)?;
    let init: i32 = line.trim().parse().with_context(failure)?;
    record.init = Some(ProcessId::of(init)?);
    record.write()?;
    record.network().connect(init)?;
    lifeline.write_all(b"go\n")?;
    line.clear();
    output.read_line(&mut line)?;
    if line != "ready\n" {
        bail!(
            "the box did not get ready: {}",
            crate::control_plane::log_tail(&record.dir, "box")
        );
    }
    record.network().route_from_host()?;
    Ok((
        child,
        Pipes {
            _lifeline: lifeline,
            _output: output,
        },
    ))
}

fn watch_owner(sender: Sender<End>) -> Result<()> {
    std::thread::Builder::new().name("owner".to_owned()).spawn(move || {
        let detached = std::io::stdin()
            .lock()
            .lines()
            .map_while(Result::ok)
            .any(|line| line == DETACH);
        if detached {
            // Nor may the keeper itself hold on to the owner's terminal or pipe.
            if let Ok(nowhere) = fs::File::options().write(true).open("/dev/null") {
                let _ = nix::unistd::dup2_stderr(nowhere);
            }
        } else {
            let _ = sender.send(End::OwnerGone);
        }
    })?;
    Ok(())
}

fn watch_box(mut child: Child, sender: Sender<End>) -> Result<()> {
    std::thread::Builder::new().name("box".to_owned()).spawn(move || {
        let _ = child.wait();
        let _ = sender.send(End::BoxGone);
    })?;
    Ok(())
}
