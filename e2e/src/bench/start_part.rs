//! Rows 8 and 9: from exec to the first right answer, and the memory of further workers; both with the transformer of 69 MB.
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::closed_loop;
use super::peers::{Field, TELEMETRY_OFF, Workload};
use super::rows::{Bench, Outcome, in_turn};
use super::sides::{self, Side};
use super::text_part::Texts;
use crate::clock::Stopwatch;
use crate::console::progress;
use crate::paths;

pub(super) const WARM: &str = "start, files in memory";
pub(super) const COLD: &str = "start, files on disk";
pub(super) const WORKERS: &str = "workers";
pub(super) const SESSION: &str = "session alone";
/// The server with models kept as ONNX Runtime optimised them.
pub(super) const OPTIMISED: &str = "server, optimised-model cache";
pub(super) const MILLIS: &str = "millis";
/// Workers of row 9.
pub(super) const COUNTS: [u32; 5] = [1, 2, 4, 8, 16];
const START_TIMEOUT: Duration = Duration::from_secs(60);
const MIB: f64 = 1_048_576.0;
/// Between two looks at a side that starts.
const LOOK: Duration = Duration::from_millis(1);

/// Both rows, once: they are no ratios of speeds that change within a run.
pub(super) async fn measure(bench: &mut Bench, field: &Field, texts: &Texts) -> Result<()> {
    let Some(work) = &texts.work else {
        return Ok(());
    };
    if bench.options.wants(&[8]) {
        let starts = bench.options.starts;
        for (part, count) in [(WARM, starts), (COLD, starts.div_ceil(2))] {
            if part == COLD && drop_caches().is_err() {
                progress("the kernel's cache cannot be dropped here: no starts from disk");
                break;
            }
            for round in 0..count {
                starts_of(bench, field, work, part, round).await?;
            }
        }
    }
    if bench.options.wants(&[9]) {
        let side = field.server("server", work, &[]);
        bench
            .visit(WORKERS, 0, "server", async |outcome: &mut Outcome| {
                memory(&side, &work.model, outcome).await
            })
            .await?;
    }
    Ok(())
}

async fn starts_of(bench: &mut Bench, field: &Field, work: &Workload, part: &'static str, round: usize) -> Result<()> {
    let kept = field.folder("optimised")?;
    let cache = ["--optimized-model-cache".to_owned(), kept.display().to_string()];
    let optimised = field.server(OPTIMISED, work, &cache);
    if fs::read_dir(&kept)?.next().is_none() {
        // The first start fills it, and is none of those that count.
        sides::start(&optimised).await?.stop().await;
    }
    let mut all = vec![Some(field.server("server", work, &[])), Some(optimised), None];
    all.extend(field.peer("fastapi", work).map(Some));
    for side in in_turn(all, round) {
        let name = side.as_ref().map_or(SESSION, |side| side.name);
        bench
            .visit(part, round, name, async |outcome: &mut Outcome| {
                if part == COLD {
                    drop_caches()?;
                }
                let millis = match &side {
                    Some(side) => first_answer(side).await?,
                    None => session_alone(field, work)?,
                };
                outcome.put(MILLIS, millis);
                Ok(())
            })
            .await?;
    }
    Ok(())
}

/// Milliseconds from exec to the first right answer.
async fn first_answer(side: &Side) -> Result<f64> {
    let log = paths::target_dir().join("bench/logs/start.log");
    let watch = Stopwatch::start();
    let running = sides::spawn(side, &log)?;
    let request = side.requests.get(..1).context("no request")?;
    while sides::ask_all(running.address, request, true).await.is_err() {
        if watch.elapsed() > START_TIMEOUT {
            bail!("no answer within {START_TIMEOUT:?}");
        }
        tokio::time::sleep(LOOK).await;
    }
    let millis = watch.seconds() * 1e3;
    running.stop().await;
    Ok(millis)
}

/// Milliseconds in which ONNX Runtime makes the session, in a process of its own.
fn session_alone(field: &Field, work: &Workload) -> Result<f64> {
    let found = ["fastapi", "mosec"]
        .iter()
        .find_map(|peer| field.python(peer, "session_load.py", work));
    let (program, arguments) = found.context("no peer is installed whose packages make a session")?;
    let output = Command::new("taskset")
        .args(["--cpu-list", "0"])
        .arg(program)
        .args(arguments)
        .args(["--address", "none:0"])
        .env(TELEMETRY_OFF, "1")
        .output()
        .context("start taskset (package util-linux)")?;
    ensure!(
        output.status.success(),
        "session_load.py: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

fn drop_caches() -> Result<()> {
    nix::unistd::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").context("dropping the kernel's cache")
}

/// Proportional set size with more and more workers, each of which has served.
async fn memory(side: &Side, model: &Path, outcome: &mut Outcome) -> Result<()> {
    let model_bytes = fs::metadata(model)?.len() as f64;
    let mut first = (0.0, 0.0);
    for count in COUNTS {
        let mut side = side.clone();
        side.arguments.extend(["--workers".to_owned(), count.to_string()]);
        let running = sides::start(&side).await?;
        let idle = pss_bytes(running.id())?;
        closed_loop::run(running.address, &side.requests, 32, Duration::from_secs(3)).await?;
        let served = pss_bytes(running.id())?;
        running.stop().await;
        if count == 1 {
            first = (idle, served);
        }
        outcome.put(format!("pss_mib_{count}"), idle / MIB);
        outcome.put(format!("pss_mib_served_{count}"), served / MIB);
        if count > 1 {
            let extra = |now: f64, first: f64| (now - first) / f64::from(count - 1) / model_bytes;
            outcome.put(format!("extra_{count}"), extra(idle, first.0));
            outcome.put(format!("extra_served_{count}"), extra(served, first.1));
        }
    }
    Ok(())
}

fn pss_bytes(process: u32) -> Result<f64> {
    let path = format!("/proc/{process}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    read_pss(&text).with_context(|| format!("{path} has no line Pss"))
}

fn read_pss(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proportional_set_size_is_read() {
        let text = "55e0-7ffc ---p 00000000 00:00 0 [rollup]\nRss:  2048 kB\nPss:     1500 kB\nPss_Anon: 3 kB\n";
        assert_eq!(read_pss(text), Some(1_536_000.0));
        assert_eq!(read_pss("Rss: 1 kB\n"), None);
        assert!(pss_bytes(std::process::id()).unwrap() > 100_000.0);
    }
}
