//! The sides of `make bench-server`: all get the same requests for the same model file, on one thread of the same ONNX Runtime.
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use super::sides::{Kind, Side};
use crate::load::{Request, digits};
use crate::models::{Classifier, Models};
use crate::{images, paths};

/// Images in a request of the row that compares with the bare loop.
pub(super) const BATCH: usize = 32;

/// What takes part.
pub(super) struct Field {
    /// The echo first, then our server, then the others.
    pub(super) sides: Vec<Side>,
    /// Requests of [`BATCH`] images.
    pub(super) batches: Arc<[Request]>,
    model: PathBuf,
    server: PathBuf,
    library: PathBuf,
}

/// What a run costs without a server round it.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(super) struct BareLoop {
    /// At the best batch size.
    pub(super) items_per_second: f64,
    /// Median of one item alone, in microseconds.
    pub(super) one_micros: f64,
}

impl Field {
    /// Installs what is missing: pinned packages, once, into the cache.
    pub(super) fn gather() -> Result<Self> {
        let classifier: Classifier = Models::ensure()?.digits;
        let requests = digits::v2(&classifier, 1);
        let server = images::release_binary("tidewright-server", "inference-server")?;
        let library = images::onnxruntime()?;
        let model = classifier.onnx.clone();
        let ours = Side {
            name: "server",
            program: server.clone(),
            arguments: vec![
                "serve".to_owned(),
                "--model".to_owned(),
                format!("digits={}", model.display()),
            ],
            environment: vec![("ORT_DYLIB_PATH".to_owned(), library.clone())],
            requests: Arc::clone(&requests),
            kind: Kind::Server,
        };
        let mut sides = vec![Side::echo(&requests)?, ours];
        for name in ["mosec", "fastapi"] {
            sides.push(peer(name, &model, &requests)?);
        }
        Ok(Self {
            sides,
            batches: digits::v2(&classifier, BATCH),
            model,
            server,
            library,
        })
    }

    /// The engine's runs alone, on the core that the sides get: what `inference-server bench` finds.
    pub(super) fn bare_loop(&self, seconds: u64) -> Result<BareLoop> {
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
        let output = Command::new("taskset")
            .args(["--cpu-list", "0"])
            .arg(&self.server)
            .args(["bench", "--output", "json", "--seconds", &seconds.to_string()])
            .arg(&self.model)
            .env("ORT_DYLIB_PATH", &self.library)
            .output()
            .context("start taskset (package util-linux)")?;
        ensure!(
            output.status.success(),
            "inference-server bench: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let report: Report = serde_json::from_slice(&output.stdout).context("the report of inference-server bench")?;
        let one = report.table.iter().find(|cost| cost.items == 1);
        Ok(BareLoop {
            items_per_second: report
                .table
                .iter()
                .map(|cost| cost.items_per_second)
                .fold(0.0, f64::max),
            one_micros: one.context("the report has no row for one item")?.median_millis * 1e3,
        })
    }
}

fn peer(name: &'static str, model: &Path, requests: &Arc<[Request]>) -> Result<Side> {
    let folder = paths::repository_dir().join("inference-server");
    let requirements = folder.join(format!("bench/environments/{name}.txt"));
    let output = Command::new("python3")
        .args(["-I", "-B"])
        .arg(folder.join("conformance/environments.py"))
        .arg(&requirements)
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("running python3")?;
    ensure!(
        output.status.success(),
        "{} cannot be installed",
        requirements.display()
    );
    let script = folder.join(format!("bench/{name}_server.py"));
    Ok(Side {
        name,
        program: PathBuf::from(String::from_utf8(output.stdout)?.trim()),
        arguments: vec![
            "-B".to_owned(),
            script.display().to_string(),
            "--model".to_owned(),
            model.display().to_string(),
        ],
        environment: Vec::new(),
        requests: Arc::clone(requests),
        kind: Kind::Peer,
    })
}
