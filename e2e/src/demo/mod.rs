//! The demo: a real cluster, one InferenceService, real requests, and scaling by each signal; it succeeds only if all of it happened.
mod cluster_texts;
mod drive;
pub mod ground;
mod plots;
mod report;
mod steps;
mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

use crate::binaries::{Binaries, KUBERNETES_VERSION};
use crate::clock::Stopwatch;
use crate::cluster::Cluster;
use crate::console::progress;
use crate::images;
use crate::models::{Classifier, Models};
use crate::options::{ClusterOptions, HpaTiming};
use crate::shared::USE_BOX;
use crate::{packages, paths};

use drive::Driven;
use ground::Ground;
use report::{Claim, Outcome, Page, Phase};

/// What a run leaves in its folder: for programs, and for people.
const FILES: [&str; 2] = ["result.json", "report.html"];
/// Namespace of the demo's service.
pub const NAMESPACE: &str = "demo";
/// Name of the service in examples/demo.yaml.
pub const SERVICE: &str = "digits";

/// Prints each phase as it ends, and keeps its time.
#[derive(Debug)]
struct Phases {
    all: Vec<Phase>,
    total: Stopwatch,
}

impl Phases {
    async fn run<T>(&mut self, name: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        progress(format_args!("── {name}"));
        let watch = Stopwatch::start();
        let outcome = work.await.with_context(|| format!("phase \"{name}\""))?;
        let seconds = watch.seconds();
        self.all.push(Phase {
            name: name.to_owned(),
            seconds: (seconds * 10.0).round() / 10.0,
        });
        progress(format_args!("── {name}: {seconds:.1} s"));
        Ok(outcome)
    }
}

/// Runs it. Ctrl-C takes the cluster down.
pub fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            progress(format_args!("tidewright-demo: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::select! {
            outcome = demo() => outcome,
            _ = interrupt.recv() => bail!("interrupted"),
            _ = terminate.recv() => bail!("terminated"),
        }
    });
    // What is under way in a thread, such as a compiler's run, is not waited for.
    runtime.shutdown_background();
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            progress(format_args!("tidewright-demo: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Whether everything that it claims happened.
async fn demo() -> Result<bool> {
    let mut phases = Phases {
        all: Vec::new(),
        total: Stopwatch::start(),
    };
    // What an earlier run has shown is not what this one shows.
    for file in FILES {
        let _ = std::fs::remove_file(target_dir().join(file));
    }
    let named = Ground::is_named();
    let programs = move || {
        if !named {
            packages::ensure(&[packages::CONTROL_PLANE, packages::NODE, packages::IMAGES])?;
        }
        Binaries::ensure().map(drop)
    };
    phases
        .run("cluster programs (cached)", async {
            tokio::task::spawn_blocking(programs).await?
        })
        .await?;
    let existing = Ground::existing().await?;
    let models = phases
        .run("train the model (cached)", async {
            tokio::task::spawn_blocking(Models::ensure).await?
        })
        .await?;
    let ground = match existing {
        Some(existing) => existing,
        None => on_a_box(&mut phases).await?,
    };
    let outcome = on_cluster(&ground, &models.digits_wide, &mut phases).await;
    if let Err(error) = &outcome {
        progress(format_args!("failed: {error:#}"));
    }
    if !matches!(outcome, Ok(true)) {
        crate::dump::namespace(&ground, NAMESPACE).await;
    }
    ground.leave().await?;
    outcome
}

/// Compiles, builds the images and starts a box with them, or brings them to the box that the environment names.
async fn on_a_box(phases: &mut Phases) -> Result<Ground> {
    let recipes = phases
        .run("compile", async {
            tokio::task::spawn_blocking(|| images::named(&[])).await?
        })
        .await?;
    let build = recipes.clone();
    let built = phases
        .run("images", async {
            tokio::task::spawn_blocking(move || images::build(&build)).await?
        })
        .await?;
    if let Some(name) = std::env::var(USE_BOX).ok().filter(|name| !name.is_empty()) {
        let cluster = Cluster::attach(&name)?;
        phases
            .run("images into the box", async { cluster.import(&built) })
            .await?;
        return Ok(Ground::Up(cluster));
    }
    let mut options = ClusterOptions::named(format!("demo-{}", std::process::id()));
    options.hpa = HpaTiming::fast();
    options.metric_resolution = Duration::from_secs(10);
    options.images = recipes;
    let cluster = phases.run("start Kubernetes", Cluster::start(options)).await?;
    Ok(Ground::Own(cluster))
}

async fn on_cluster(ground: &Ground, classifier: &Classifier, phases: &mut Phases) -> Result<bool> {
    let prometheus = phases.run("Prometheus", ground.install_prometheus()).await?;
    phases.run("helm install", ground.install_operator()).await?;
    let client = ground.client().await?;
    phases
        .run(
            "publish the model, apply, wait for Ready",
            ground.serve(&client, classifier),
        )
        .await?;
    progress(
        ground
            .kubectl(["get", "isvc", "--namespace", NAMESPACE])
            .await?
            .trim_end(),
    );

    let driven = drive::drive(ground, &client, classifier, prometheus, phases).await?;
    let texts = driven.texts.clone();
    finish(classifier, phases, &driven, &texts)
}

/// Judges, writes and prints what is left.
fn finish(classifier: &Classifier, phases: &mut Phases, driven: &Driven, texts: &[(String, String)]) -> Result<bool> {
    let totals = &driven.load.totals;
    let mut reasons: Vec<String> = Vec::new();
    for scale_up in &driven.scale_ups {
        if !reasons.contains(&scale_up.cause) {
            reasons.push(scale_up.cause.clone());
        }
    }
    phases.all.push(Phase {
        name: "total".to_owned(),
        seconds: (phases.total.seconds() * 10.0).round() / 10.0,
    });
    let outcome = Outcome {
        phases: phases.all.clone(),
        requests_total: totals.due,
        requests_failed: totals.failed(),
        answers_checked: totals.checked(),
        answers_wrong: totals.wrong,
        replicas_start: driven.replicas_start,
        replicas_max: driven
            .samples
            .iter()
            .filter_map(|sample| sample.ready)
            .max()
            .unwrap_or(0),
        replicas_end: driven.replicas_end,
        first_scale_up_seconds: driven
            .bands
            .first()
            .and_then(|(span, _)| {
                let mut since = driven.scale_ups.iter().map(|scale_up| scale_up.seconds - span.start);
                since.find(|seconds| *seconds >= 0.0)
            })
            .map(|seconds| (seconds * 10.0).round() / 10.0),
        scale_up_reasons: reasons,
        versions: versions(),
    };
    let mut claims = vec![
        claim(
            "every request is accounted for",
            totals.due == totals.ended(),
            format!("{} due, {} ended", totals.due, totals.ended()),
        ),
        claim(
            "no request failed",
            outcome.requests_failed == 0,
            format!("{} of {}", outcome.requests_failed, outcome.requests_total),
        ),
        claim(
            "no answer was wrong",
            outcome.answers_wrong == 0 && outcome.answers_checked > 0,
            format!(
                "{} of {} that were compared with ONNX Runtime's own",
                outcome.answers_wrong, outcome.answers_checked
            ),
        ),
        claim(
            "it starts with one replica",
            outcome.replicas_start == 1,
            format!("{}", outcome.replicas_start),
        ),
        claim(
            "three replicas or more were ready at once",
            outcome.replicas_max >= 3,
            format!("{}", outcome.replicas_max),
        ),
        claim(
            "it scales up after the load begins",
            outcome.first_scale_up_seconds.is_some(),
            outcome
                .first_scale_up_seconds
                .map_or_else(|| "never".to_owned(), |seconds| format!("{seconds} s")),
        ),
        claim(
            "it ends with one replica",
            outcome.replicas_end == 1,
            format!("{}", outcome.replicas_end),
        ),
    ];
    claims.extend(driven.claims.iter().cloned());
    let hardware = hardware();
    let page = Page {
        outcome: &outcome,
        claims: &claims,
        hardware: &format!(
            "{hardware} The model is right about {:.1} % of the held-out images.",
            classifier.accuracy * 100.0
        ),
        load: &driven.load,
        samples: &driven.samples,
        scale_ups: &driven.scale_ups,
        bands: &driven.bands,
        texts,
    };
    let (json, html) = report::write(&target_dir(), &page)?;
    for claim in &claims {
        progress(format_args!(
            "{} {}: {}",
            if claim.holds { "yes" } else { "NO " },
            claim.text,
            claim.measured
        ));
    }
    progress(format_args!(
        "{} and {} ({:.0} s in all)",
        json.display(),
        html.display(),
        phases.total.seconds()
    ));
    Ok(claims.iter().all(|claim| claim.holds))
}

fn claim(text: impl Into<String>, holds: bool, measured: String) -> Claim {
    Claim {
        text: text.into(),
        measured,
        holds,
    }
}

fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| paths::repository_dir().join("target"), PathBuf::from)
        .join("demo")
}

fn versions() -> BTreeMap<String, String> {
    let pinned = |file: &str, module: &str| -> Option<String> {
        let text = std::fs::read_to_string(paths::source_dir().join("cluster").join(file).join("go.mod")).ok()?;
        let line = text.lines().find_map(|line| line.trim().strip_prefix(module))?;
        line.split_whitespace().next().map(str::to_owned)
    };
    let mut versions = BTreeMap::from([
        ("tidewright".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ("kubernetes".to_owned(), KUBERNETES_VERSION.to_owned()),
    ]);
    let modules = [
        ("etcd", "node", "go.etcd.io/etcd/server/v3 "),
        ("containerd", "node", "github.com/containerd/containerd/v2 "),
        ("coredns", "node", "github.com/coredns/coredns "),
        ("metrics-server", "kubernetes", "sigs.k8s.io/metrics-server "),
        ("helm", "tools", "helm.sh/helm/v4 "),
    ];
    for (name, file, module) in modules {
        versions.insert(
            name.to_owned(),
            pinned(file, module).unwrap_or_else(|| "unknown".to_owned()),
        );
    }
    let library = images::onnxruntime().ok();
    let onnxruntime = library.as_ref().and_then(|path| {
        path.file_name()?
            .to_str()?
            .strip_prefix("libonnxruntime.so.")
            .map(str::to_owned)
    });
    versions.insert(
        "onnxruntime".to_owned(),
        onnxruntime.unwrap_or_else(|| "unknown".to_owned()),
    );
    versions
}

/// The machine in one sentence.
fn hardware() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let value = |text: &str, key: &str| -> Option<String> {
        text.lines().find_map(|line| {
            Some(
                line.strip_prefix(key)?
                    .trim_start_matches([':', ' ', '\t'])
                    .trim()
                    .to_owned(),
            )
        })
    };
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let processor = value(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let kilobytes =
        value(&read("/proc/meminfo"), "MemTotal").and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok());
    let kernel = read("/proc/sys/kernel/osrelease");
    format!(
        "{cores} cores of {processor}, {:.0} GiB, Linux {}.",
        kilobytes.unwrap_or(0.0) / f64::from(1 << 20),
        kernel.trim()
    )
}
