//! Who takes part in `make bench-server`: the echo, our server, and servers of others, each in pinned packages of its own, on one thread of the same
//! ONNX Runtime with the same model file.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use super::sides::{Kind, Side};
use super::tuning::{Setting, Tried, Tuned, USUAL};
use crate::console::progress;
use crate::load::Request;
use crate::{images, paths};

/// Names of the servers of others, as their files in inference-server/bench.
pub(super) const PEERS: [&str; 5] = ["mosec", "fastapi", "triton", "mlserver", "kserve"];

/// Triton without a wait, where it is another side than Triton as suits it best.
pub(super) const HASTY: &str = "triton, without a wait";

/// Whether a side is a server of others, in whichever way it batches.
pub(super) fn is_peer(side: &str) -> bool {
    PEERS.contains(&side) || [HASTY, super::text_part::PADDED].contains(&side)
}

/// ONNX Runtime's own reports to its makers: a thread, files and facts about the machine in every process that loads it.
pub(super) const TELEMETRY_OFF: &str = "ORT_DISABLE_TELEMETRY";

/// A model, and what it is asked.
#[derive(Clone)]
pub(super) struct Workload {
    /// In routes.
    pub(super) name: &'static str,
    pub(super) model: PathBuf,
    /// The outputs that are asked for, with commas between them.
    pub(super) outputs: &'static str,
    pub(super) requests: Arc<[Request]>,
}

/// Programs, and where they are.
pub(super) struct Field {
    server: PathBuf,
    library: PathBuf,
    /// The Python of each peer that is installed.
    pythons: BTreeMap<&'static str, PathBuf>,
    /// How they batch, where that was found out.
    pub(super) tuned: Tuned,
    /// For what the sides leave behind.
    scratch: tempfile::TempDir,
}

/// What runs cost without a server round them.
#[derive(Debug, Clone, Serialize)]
pub(super) struct BareLoop {
    /// Items of a run, and items per second.
    pub(super) rates: Vec<(usize, f64)>,
    /// Median of one item alone, in microseconds.
    pub(super) one_micros: f64,
}

impl BareLoop {
    /// The batch with which most items are run in a second; 1 if nothing was run.
    pub(super) fn best_batch(&self) -> usize {
        let best = self.rates.iter().max_by(|a, b| a.1.total_cmp(&b.1));
        best.map_or(1, |(items, _)| *items)
    }

    /// Items per second in runs of so many.
    pub(super) fn rate(&self, items: usize) -> Option<f64> {
        let found = self.rates.iter().find(|(of_run, _)| *of_run == items);
        found.map(|(_, rate)| *rate)
    }
}

/// Which runs the bare loop makes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Runs {
    pub(super) batch_max: usize,
    /// Size of dimensions that the model leaves free besides the first.
    pub(super) free_dimension: usize,
}

impl Field {
    /// Installs what is missing: pinned packages, once, into the cache. A peer that cannot be installed is in the map beside, with the reason.
    pub(super) fn gather(peers: &[&'static str]) -> Result<(Self, BTreeMap<&'static str, String>)> {
        let (mut pythons, mut missing) = (BTreeMap::new(), BTreeMap::new());
        for name in peers {
            match install(name) {
                Ok(python) => drop(pythons.insert(*name, python)),
                Err(error) => {
                    progress(format_args!("{name} is left out: {error:#}"));
                    missing.insert(*name, format!("cannot be installed: {error:#}"));
                }
            }
        }
        let field = Self {
            server: images::release_binary("tidewright-server", "inference-server")?,
            library: images::onnxruntime()?,
            pythons,
            tuned: Tuned::new(),
            scratch: tempfile::tempdir().context("a folder for what the sides leave behind")?,
        };
        Ok((field, missing))
    }

    /// Our server with flags of its own.
    pub(super) fn server(&self, name: &'static str, workload: &Workload, flags: &[String]) -> Side {
        let mut arguments = vec![
            "serve".to_owned(),
            "--model".to_owned(),
            format!("{}={}", workload.name, workload.model.display()),
        ];
        arguments.extend_from_slice(flags);
        Side {
            name,
            program: self.server.clone(),
            arguments,
            environment: vec![("ORT_DYLIB_PATH".to_owned(), self.library.clone())],
            requests: Arc::clone(&workload.requests),
            kind: Kind::Server,
        }
    }

    /// A server of others, batching as suits it best; none if it could not be installed.
    pub(super) fn peer(&self, name: &'static str, workload: &Workload) -> Option<Side> {
        let tried = self.tuned.get(&(workload.name, name));
        let usual = match name {
            "triton" => Setting {
                wait_micros: 0,
                ..USUAL
            },
            _ => USUAL,
        };
        let best = tried.and_then(Tried::best);
        self.peer_with(name, workload, best.unwrap_or(usual))
    }

    /// Triton told to wait for nobody, where waiting suits it better otherwise: what counts in rows 2 and 6.
    pub(super) fn hasty_triton(&self, workload: &Workload) -> Option<Side> {
        let tried = self.tuned.get(&(workload.name, "triton"))?;
        let setting = tried.best_without_wait().filter(|hasty| tried.best() != Some(*hasty))?;
        let side = self.peer_with("triton", workload, setting)?;
        Some(Side { name: HASTY, ..side })
    }

    /// A server of others that batches so.
    pub(super) fn peer_with(&self, name: &'static str, workload: &Workload, setting: Setting) -> Option<Side> {
        let (program, arguments) = self.python(name, &format!("{name}_server.py"), workload)?;
        Some(Side {
            name,
            program,
            arguments,
            // Not even the children, which -B does not reach, write beside the sources.
            environment: vec![
                ("TMPDIR".to_owned(), self.scratch.path().to_owned()),
                ("PYTHONDONTWRITEBYTECODE".to_owned(), PathBuf::from("1")),
                ("BATCH_MAX".to_owned(), PathBuf::from(setting.batch_max.to_string())),
                ("WAIT_MICROS".to_owned(), PathBuf::from(setting.wait_micros.to_string())),
                // As our server does.
                (TELEMETRY_OFF.to_owned(), PathBuf::from("1")),
            ],
            requests: Arc::clone(&workload.requests),
            kind: Kind::Peer,
        })
    }

    /// A program of inference-server/bench in a peer's environment, and its arguments but the address.
    pub(super) fn python(&self, peer: &str, script: &str, workload: &Workload) -> Option<(PathBuf, Vec<String>)> {
        let script = paths::repository_dir().join("inference-server/bench").join(script);
        let arguments = [
            "-B",
            &script.display().to_string(),
            "--name",
            workload.name,
            "--outputs",
            workload.outputs,
            "--model",
            &workload.model.display().to_string(),
        ];
        Some((self.pythons.get(peer)?.clone(), arguments.map(str::to_owned).to_vec()))
    }

    /// A Python that has ONNX Runtime.
    ///
    /// # Errors
    /// No peer is installed that brings one.
    pub(super) fn any_python(&self) -> Result<&Path> {
        let brings = ["mosec", "fastapi"].iter().find_map(|name| self.pythons.get(name));
        Ok(brings.context("neither mosec's nor FastAPI's packages are installed, which check answers")?)
    }

    /// An empty folder.
    pub(super) fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.scratch.path().join(name);
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// The engine's runs alone, on the core that the sides get: what `inference-server bench` finds.
    pub(super) fn bare_loop(&self, model: &Path, runs: Runs, seconds: u64) -> Result<BareLoop> {
        let output = Command::new("taskset")
            .args(["--cpu-list", "0"])
            .arg(&self.server)
            .args(["bench", "--output", "json", "--seconds", &seconds.to_string()])
            .args(["--max-batch-size", &runs.batch_max.to_string()])
            .args(["--free-dimension", &runs.free_dimension.to_string()])
            .arg(model)
            .env("ORT_DYLIB_PATH", &self.library)
            .output()
            .context("start taskset (package util-linux)")?;
        ensure!(
            output.status.success(),
            "inference-server bench: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        read_bench(&output.stdout)
    }
}

fn read_bench(report: &[u8]) -> Result<BareLoop> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Cost {
        items: usize,
        median_millis: f64,
        items_per_second: f64,
    }
    #[derive(Deserialize)]
    struct Report {
        table: Vec<Cost>,
    }
    let report: Report = serde_json::from_slice(report).context("the report of inference-server bench")?;
    let one = report.table.iter().find(|cost| cost.items == 1);
    Ok(BareLoop {
        one_micros: one.context("the report has no row for one item")?.median_millis * 1e3,
        rates: report
            .table
            .iter()
            .map(|cost| (cost.items, cost.items_per_second))
            .collect(),
    })
}

/// The Python of a peer's environment.
fn install(name: &str) -> Result<PathBuf> {
    let folder = paths::repository_dir().join("inference-server");
    let output = Command::new("python3")
        .args(["-I", "-B"])
        .arg(folder.join("conformance/environments.py"))
        .arg(folder.join(format!("bench/environments/{name}.txt")))
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("running python3")?;
    ensure!(output.status.success(), "pip has failed, {}", output.status);
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_batch_is_the_one_with_most_items() {
        let row = |items, millis, rate| serde_json::json!({"items": items, "medianMillis": millis, "itemsPerSecond": rate, "p99Millis": 1.0});
        let report = serde_json::json!({"table": [row(1, 2.0, 500.0), row(4, 5.0, 800.0), row(8, 16.0, 500.0)]});
        let found = read_bench(report.to_string().as_bytes()).unwrap();
        assert_eq!((found.best_batch(), found.one_micros), (4, 2000.0));
        assert_eq!((found.rate(8), found.rate(2)), (Some(500.0), None));
        assert!(read_bench(br#"{"table": []}"#).is_err());
    }
}
