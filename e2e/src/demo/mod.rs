//! The demo: a real cluster, one InferenceService, real requests, and scaling by each signal; it succeeds only if all of it happened.
mod cluster_texts;
mod drive;
pub mod ground;
pub(crate) mod plots;
mod report;
mod steps;
mod verdict;
mod versions;
mod watch;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

use crate::binaries::Binaries;
use crate::clock::Stopwatch;
use crate::cluster::Cluster;
use crate::console::progress;
use crate::images;
use crate::load;
use crate::models::{Classifier, Models};
use crate::options::{ClusterOptions, HpaTiming};
use crate::shared::USE_BOX;
use crate::{packages, paths};

use drive::Driven;
use ground::Ground;
use report::{Page, Phase};
use verdict::{FIND_BINARIES, Facts, tenths};
use versions::versions;

/// What a run leaves in its folder: for programs, and for people.
const FILES: [&str; 2] = ["result.json", "report.html"];
/// Set by `make demo`: the seconds that compiling this program and the others took.
const COMPILE_SECONDS: &str = "TIDEWRIGHT_COMPILE_SECONDS";
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
    /// What was compiled before this program could run, in seconds.
    fn compiled_before() -> f64 {
        let seconds = std::env::var(COMPILE_SECONDS).ok().and_then(|text| text.parse().ok());
        seconds.unwrap_or(0.0)
    }

    /// Of everything, from the compiler on.
    fn seconds(&self) -> f64 {
        self.total.seconds() + Self::compiled_before()
    }

    async fn run<T>(&mut self, name: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        progress(format_args!("── {name}"));
        let watch = Stopwatch::start();
        let outcome = work.await.with_context(|| format!("phase \"{name}\""))?;
        let seconds = watch.seconds();
        self.all.push(Phase {
            name: name.to_owned(),
            seconds: tenths(seconds),
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
    let compiled_before = Phases::compiled_before();
    let compile = Phase {
        name: "compile".to_owned(),
        seconds: compiled_before,
    };
    let mut phases = Phases {
        all: (compiled_before > 0.0).then_some(compile).into_iter().collect(),
        total: Stopwatch::start(),
    };
    // What an earlier run has shown is not what this one shows.
    for file in FILES {
        let _ = std::fs::remove_file(paths::target_dir().join("demo").join(file));
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
        report_failure(&phases, error);
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
        .run(FIND_BINARIES, async {
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
    let versions = versions(ground, &client).await?;
    finish(ground, classifier, phases, &driven, versions)
}

/// What there is, for whoever looks for the report of a run that came to no end. Best effort.
fn report_failure(phases: &Phases, error: &anyhow::Error) {
    let facts = Facts {
        phases: phases.all.clone(),
        total_seconds: phases.seconds(),
        ..Facts::default()
    };
    let outcome = verdict::outcome(&facts);
    let claims = [verdict::claim("the demo comes to its end", false, format!("{error:#}"))];
    let page = Page {
        outcome: &outcome,
        claims: &claims,
        hardware: &hardware(),
        load: &load::Report::default(),
        samples: &[],
        scale_ups: &[],
        bands: &[],
        texts: &[],
    };
    if let Err(error) = report::write(&paths::target_dir().join("demo"), &page) {
        progress(format_args!("no report either: {error:#}"));
    }
}

/// Judges, writes and prints what is left.
fn finish(
    ground: &Ground,
    classifier: &Classifier,
    phases: &Phases,
    driven: &Driven,
    versions: BTreeMap<String, String>,
) -> Result<bool> {
    let mut totals = driven.before.clone();
    totals.add(&driven.load.totals);
    let facts = Facts {
        phases: phases.all.clone(),
        total_seconds: phases.seconds(),
        totals,
        replicas_start: driven.replicas_start,
        replicas_max: driven
            .samples
            .iter()
            .filter_map(|sample| sample.ready)
            .max()
            .unwrap_or(0),
        replicas_end: driven.replicas_end,
        first_load_at: driven.bands.first().map(|(span, _)| span.start),
        scale_ups: driven.scale_ups.clone(),
        versions,
    };
    let outcome = verdict::outcome(&facts);
    let mut claims = verdict::claims(&outcome, &facts.totals, matches!(ground, Ground::Own(_)));
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
        texts: &driven.texts,
    };
    let (json, html) = report::write(&paths::target_dir().join("demo"), &page)?;
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
        phases.seconds()
    ));
    Ok(claims.iter().all(|claim| claim.holds))
}

/// The machine in one sentence.
pub(crate) fn hardware() -> String {
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
