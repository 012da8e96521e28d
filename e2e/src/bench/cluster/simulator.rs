//! `tidewright-sim` as a black box: it cuts slices out of traces, draws arrivals, and plays a slice in a world with the figures of the cluster.
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::capacity::Capacity;
use super::fit::{Fitted, dispersion, fit};
use super::ground::{MAX_REPLICAS, PERCENTILE, SCRAPE_SECONDS, TIMEOUT_SECONDS};
use crate::images;

/// Length of a slice, in the trace's own time, where the run is not longer.
pub(super) const SLICE_SECONDS: u64 = 1200;
/// Pods that the busiest minute of a slice needs at most, working all the time: for the objective it takes about two more, and in a burst some more than
/// that. With less room below the maximum a slice keeps everybody at it, and says little about who scales well.
pub(super) const BUSY_PODS: f64 = 3.0;
/// With fewer requests a slice says nothing.
const REQUESTS_MIN: usize = 150;
/// The same arrivals with other service and start times: how much of a difference is luck.
const SEEDS: u64 = 5;
/// The operator's, until it has seen pods start (operator/src/autoscaler/plan.rs).
const START_SECONDS_PRIOR: u32 = 15;
/// Of the request rate through Prometheus, in scrapes (prometheus.scrapeIntervalSeconds of the chart).
const RATE_WINDOW_SCRAPES: u64 = 6;
/// Of the rate that pods are asked for: two looks at least.
const ASKED_WINDOW_SECONDS_MIN: f64 = 2.0;

/// The program.
#[derive(Debug, Clone)]
pub(super) struct Simulator(PathBuf);

/// A part of a trace, or drawn arrivals.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Slice {
    /// The file and where in it, or the form that was drawn.
    pub(super) name: String,
    /// Variance over mean of the requests per second, before anything is done to it.
    pub(super) dispersion: f64,
    pub(super) fitted: Fitted,
}

impl Slice {
    /// In one sentence.
    pub(super) fn about(&self) -> String {
        let Fitted {
            times,
            seconds,
            speed,
            kept,
        } = &self.fitted;
        format!(
            "{} in {seconds:.0} s: {} requests ({:.0} % of them), {speed:.2} times as fast",
            self.name,
            times.len(),
            kept * 100.0
        )
    }
}

#[derive(Debug, Deserialize)]
struct Arrivals {
    from: u64,
    seconds: u64,
    arrival_ms: Vec<u64>,
}

/// What one simulated run was worth, as `run --json` says it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Simulated {
    pub(super) requests: u64,
    pub(super) violations: f64,
    pub(super) pod_seconds: f64,
    pub(super) actions: u64,
    pub(super) reversals: u64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

impl Simulator {
    /// Compiled, if it is not.
    pub(super) async fn find() -> Result<Self> {
        let find = || images::release_binary("tidewright-sim", "tidewright-sim");
        Ok(Self(tokio::task::spawn_blocking(find).await??))
    }

    async fn ask<T: for<'de> Deserialize<'de>>(&self, arguments: &[String]) -> Result<T> {
        let output = Command::new(&self.0)
            .args(arguments)
            .kill_on_drop(true)
            .output()
            .await
            .with_context(|| format!("running {}", self.0.display()))?;
        ensure!(
            output.status.success(),
            "tidewright-sim {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).context("reading what tidewright-sim says")
    }

    /// Slices for runs of so many seconds, the burstiest first: from each trace of a folder the part round its busiest minute, or drawn ones.
    pub(super) async fn slices(
        &self,
        traces: Option<&Path>,
        seconds: f64,
        capacity: &Capacity,
        seed: u64,
    ) -> Result<Vec<Slice>> {
        let mut slices = Vec::new();
        let length = SLICE_SECONDS.max(seconds.ceil() as u64);
        let sources = match traces {
            Some(folder) => recorded(folder, length)?,
            None => drawn(capacity.rate(BUSY_PODS), length),
        };
        for (name, mut arguments) in sources {
            arguments.splice(0..0, ["arrivals".to_owned(), format!("--seed={seed}")]);
            let found: Arrivals = self.ask(&arguments).await?;
            let (needs, length) = ((BUSY_PODS, capacity.service_seconds), found.seconds as f64);
            let fitted = fit(&found.arrival_ms, length, seconds, needs, seed);
            if fitted.times.len() >= REQUESTS_MIN.min((seconds / 2.0) as usize) {
                slices.push(Slice {
                    name: if traces.is_some() {
                        format!("{name}, {} s from {}", found.seconds, found.from)
                    } else {
                        name
                    },
                    dispersion: dispersion(&found.arrival_ms, found.seconds),
                    fitted,
                });
            }
        }
        slices.sort_by(|a, b| b.dispersion.total_cmp(&a.dispersion));
        ensure!(!slices.is_empty(), "no slice has requests enough to say anything");
        Ok(slices)
    }

    /// Plays a slice against the production decision, in a world like the cluster's. One score per seed.
    pub(super) async fn play(
        &self,
        slice: &Fitted,
        (warm_up, start_seconds): (f64, f64),
        capacity: &Capacity,
    ) -> Result<Vec<Simulated>> {
        let file = tempfile::Builder::new().prefix("slice").suffix(".csv").tempfile()?;
        std::fs::write(file.path(), slice.to_csv()).context("writing a slice")?;
        let mut all = Vec::new();
        for seed in 1..=SEEDS {
            let arguments = world(file.path(), (warm_up, start_seconds), capacity, seed);
            all.push(self.ask(&arguments).await?);
        }
        Ok(all)
    }
}

/// The arguments of a run with the figures of the cluster.
fn world(file: &Path, (warm_up, start_seconds): (f64, f64), capacity: &Capacity, seed: u64) -> Vec<String> {
    let asked = ((capacity.objective_seconds() - capacity.service_seconds) / 2.0).max(ASKED_WINDOW_SECONDS_MIN);
    let mut arguments: Vec<String> = [
        "run",
        "--json",
        "--policy=tidewright",
        "--balancing=random",
        "--slots=1",
    ]
    .map(str::to_owned)
    .into();
    arguments.extend([
        format!("--trace={}", file.display()),
        format!("--seed={seed}"),
        format!("--service-ms={:.1}", capacity.service_seconds * 1e3),
        format!("--cs={:.4}", capacity.service_cv),
        format!("--slo-ms={:.0}", capacity.objective_seconds() * 1e3),
        format!("--epsilon={}", f64::from(100 - PERCENTILE) / 100.0),
        format!("--start-s={start_seconds:.2}"),
        "--warm-share=0".to_owned(),
        "--min-replicas=1".to_owned(),
        "--initial-replicas=1".to_owned(),
        format!("--max-replicas={MAX_REPLICAS}"),
        format!("--scrape-s={SCRAPE_SECONDS}"),
        format!("--hold-s={TIMEOUT_SECONDS}"),
        format!("--grace-s={TIMEOUT_SECONDS}"),
        "--gateways=1".to_owned(),
        format!("--warm-up-s={warm_up}"),
        // As the operator for a service without containerConcurrency: it asks the pods, believes the service time that it was told, and does not
        // count requests by pod.
        "--set=push=true".to_owned(),
        "--set=learn=false".to_owned(),
        format!("--set=window={}s", RATE_WINDOW_SCRAPES * SCRAPE_SECONDS),
        format!("--set=push-window={asked:.2}s"),
        format!("--set=start-s={START_SECONDS_PRIOR}"),
    ]);
    arguments
}

/// Names and arguments, by file; each for a slice of so many seconds.
fn recorded(folder: &Path, seconds: u64) -> Result<Vec<(String, Vec<String>)>> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .with_context(|| format!("reading {}", folder.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| is_trace(path))
        .collect();
    files.sort();
    ensure!(
        !files.is_empty(),
        "{} has no trace: CSV with the header second,count or arrival_ms, plain or .zst",
        folder.display()
    );
    let one = |path: PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.trim_end_matches(".zst").trim_end_matches(".csv").to_owned();
        let arguments = vec![format!("--trace={}", path.display()), format!("--busiest={seconds}")];
        (name, arguments)
    };
    Ok(files.into_iter().map(one).collect())
}

/// Where counts and single requests of the same trace lie side by side, the counts are enough.
fn is_trace(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    (name.ends_with(".csv") || name.ends_with(".csv.zst")) && !name.contains("_requests.")
}

/// Bursts, a flash crowd and a day, with this rate at their busiest.
fn drawn(rate: f64, seconds: u64) -> Vec<(String, Vec<String>)> {
    let forms = [
        format!("gamma:{:.3}:5:{seconds}", rate * 0.5),
        format!("flash:{:.3}:{:.3}:480:240:{seconds}", rate * 0.2, rate * 0.9),
        format!("diurnal:{:.3}:0.8:{seconds}:{seconds}", rate * 0.5),
    ];
    forms
        .map(|form| (form.clone(), vec![format!("--arrivals={form}")]))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_traces_is_read_without_what_is_there_twice() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.csv.zst", "a.csv", "a_requests.csv.zst", "README.md"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let found = recorded(folder.path(), 1800).unwrap();
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert!(
            found.iter().all(|(_, arguments)| arguments[1] == "--busiest=1800"),
            "{found:?}"
        );
        let empty = tempfile::tempdir().unwrap();
        assert!(
            recorded(empty.path(), 1200)
                .unwrap_err()
                .to_string()
                .contains("has no trace")
        );
    }

    #[test]
    fn the_world_has_the_figures_of_the_cluster() {
        let capacity = Capacity {
            service_seconds: 0.6,
            service_cv: 0.08,
            latencies_ms: Vec::new(),
        };
        let arguments = world(Path::new("x.csv"), (60.0, 8.25), &capacity, 3);
        for expected in [
            "--service-ms=600.0",
            "--cs=0.0800",
            "--slo-ms=2400",
            "--start-s=8.25",
            "--seed=3",
            "--warm-up-s=60",
            "--epsilon=0.05",
            "--set=window=12s",
            "--set=push-window=2.00s",
        ] {
            assert!(
                arguments.iter().any(|one| one == expected),
                "no {expected} in {arguments:?}"
            );
        }
    }

    #[test]
    fn what_is_drawn_is_a_form_of_the_simulator_for_each_shape() {
        let forms = drawn(8.0, 1200);
        let forms: Vec<&str> = forms.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            forms,
            [
                "gamma:4.000:5:1200",
                "flash:1.600:7.200:480:240:1200",
                "diurnal:4.000:0.8:1200:1200"
            ]
        );
    }
}
