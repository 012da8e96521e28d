//! `make bench-cluster`: the autoscaler on a real cluster. Direct beside Hpa while things go wrong, slices beside the simulator, and reactions to steps.
mod capacity;
mod chaos;
mod fit;
mod ground;
mod lives;
mod pods;
mod race;
mod replayed;
mod report;
mod score;
mod simulator;
mod slices;
mod steps;
mod tables;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use crate::clock::Stopwatch;
use crate::console::progress;
use crate::demo;
use crate::namespace::{TestNamespace, with_temp_namespace};

use capacity::Capacity;
use ground::Ground;
use simulator::Simulator;

/// What can be run alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
pub(super) enum Part {
    /// The same slice with Direct and with Hpa, while things go wrong
    Chaos,
    /// Slices on the cluster and in the simulator
    Slices,
    /// Load steps
    Reaction,
}

impl Part {
    const ALL: [Self; 3] = [Self::Slices, Self::Reaction, Self::Chaos];

    /// Of the minutes, so many are this part's.
    fn weight(self) -> f64 {
        match self {
            Self::Chaos => 10.0,
            Self::Slices => 12.0,
            // As long as its steps take, about eight minutes for twenty.
            Self::Reaction => 8.0,
        }
    }
}

/// What is measured, and for how long.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Options {
    /// Minutes of load in all; starting the cluster takes three more
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// Decides which requests stay, what goes wrong when, and when steps come
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder of recorded arrivals, as `tidewright-sim` reads them; without it they are drawn
    #[arg(long, value_name = "FOLDER")]
    traces: Option<PathBuf>,
    /// Parts, with commas between them; without it all
    #[arg(long, value_name = "PARTS", value_delimiter = ',')]
    only: Vec<Part>,
    /// Load steps
    #[arg(long, default_value_t = 20)]
    steps: usize,
}

impl Options {
    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    /// Seconds of a part.
    fn seconds(&self, part: Part) -> f64 {
        let wanted = Part::ALL.into_iter().filter(|part| self.wants(*part));
        self.minutes * 60.0 * part.weight() / wanted.map(Part::weight).sum::<f64>().max(1.0)
    }
}

/// Everything that was measured.
#[derive(Debug, Default, Serialize)]
struct Results {
    seed: u64,
    hardware: String,
    capacity: Option<Capacity>,
    race: Option<race::Race>,
    comparison: Option<slices::Comparison>,
    reactions: Option<steps::Reactions>,
}

impl Results {
    /// What stands above the tables.
    fn about(&self) -> String {
        let capacity = self.capacity.as_ref().map(|capacity| {
            format!(
                " One pod takes {:.0} ms for a request (variation {:.2}), one at a time; the objective is {:.0} ms for {} %; 1 to {} pods, reached by \
                 chance, as a Service does it.",
                capacity.service_seconds * 1e3,
                capacity.service_cv,
                capacity.objective_seconds() * 1e3,
                ground::PERCENTILE,
                ground::MAX_REPLICAS
            )
        });
        format!(
            "Seed {}. {} Kubernetes {}; the pod autoscaler looks every 15 s, as by default; Prometheus scrapes every {} s.{}",
            self.seed,
            self.hardware,
            crate::binaries::KUBERNETES_VERSION,
            ground::SCRAPE_SECONDS,
            capacity.unwrap_or_default()
        )
    }
}

/// Runs it. Ctrl-C takes the cluster down.
pub(super) fn run(options: &Options) -> Result<()> {
    ensure!(
        options.minutes > 0.0 && options.steps > 0,
        "there is nothing to measure in no time"
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(async {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::select! {
            outcome = measure(options) => outcome,
            _ = interrupt.recv() => bail!("interrupted"),
            _ = terminate.recv() => bail!("terminated"),
        }
    });
    // What is under way in a thread, such as a compiler's run, is not waited for.
    runtime.shutdown_background();
    outcome
}

async fn measure(options: &Options) -> Result<()> {
    let watch = Stopwatch::start();
    let simulator = Simulator::find().await?;
    let ground = Ground::start().await?;
    let mut results = Results {
        seed: options.seed,
        hardware: demo::hardware(),
        ..Results::default()
    };
    let outcome = parts(options, &ground, &simulator, &mut results).await;
    // What was measured before something failed is not lost.
    report::write(&results)?;
    outcome?;
    progress(format_args!("measured in {:.0} s", watch.seconds()));
    tokio::task::spawn_blocking(move || ground.cluster.into_control_plane().down()).await?
}

async fn parts(options: &Options, ground: &Ground, simulator: &Simulator, results: &mut Results) -> Result<()> {
    let seed = options.seed;
    let needs_capacity = options.wants(Part::Chaos) || options.wants(Part::Slices);
    if needs_capacity {
        let capacity = within(ground, "capacity", async |namespace: TestNamespace| {
            capacity::measure(ground, &namespace).await
        });
        results.capacity = Some(capacity.await?);
    }
    let slices = async |part: Part, capacity: &Capacity| {
        let seconds = options.seconds(part);
        simulator
            .slices(options.traces.as_deref(), seconds, capacity, seed)
            .await
    };
    for part in Part::ALL.into_iter().filter(|part| options.wants(*part)) {
        progress(format_args!("── {part:?}"));
        match (part, &results.capacity) {
            (Part::Slices, Some(capacity)) => {
                let slices = slices(part, capacity).await?;
                let play = async |namespace: TestNamespace| {
                    slices::run(ground, &namespace, &slices, capacity, simulator).await
                };
                results.comparison = Some(within(ground, "slices", play).await?);
            }
            (Part::Chaos, Some(capacity)) => {
                let slices = slices(part, capacity).await?;
                let play =
                    async |namespace: TestNamespace| race::run(ground, &namespace, &slices, capacity, seed).await;
                results.race = Some(within(ground, "chaos", play).await?);
            }
            (Part::Reaction, _) => {
                let play = async |namespace: TestNamespace| steps::run(ground, &namespace, options.steps, seed).await;
                results.reactions = Some(within(ground, "reaction", play).await?);
            }
            (Part::Slices | Part::Chaos, None) => bail!("nobody has measured what a pod can do"),
        }
    }
    Ok(())
}

/// Plays in a namespace of its own, so that nobody else is at work when the next part begins.
async fn within<T>(ground: &Ground, name: &str, play: impl AsyncFnOnce(TestNamespace) -> Result<T>) -> Result<T> {
    let mut found = None;
    let keep = &mut found;
    with_temp_namespace(&ground.cluster, name, |namespace| async move {
        *keep = Some(play(namespace).await?);
        Ok(())
    })
    .await?;
    found.context("nothing was found")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn options(arguments: &[&str]) -> Options {
        Line::try_parse_from([&["bench"], arguments].concat()).unwrap().options
    }

    #[test]
    fn the_minutes_are_shared_by_what_is_run() {
        let seconds = |arguments: &[&str], part| options(arguments).seconds(part);
        let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-9, "{found}, not {expected}");
        close(seconds(&[], Part::Chaos), 600.0);
        close(seconds(&[], Part::Slices), 720.0);
        close(seconds(&["--only", "chaos", "--minutes", "4"], Part::Chaos), 240.0);
        close(
            seconds(&["--only", "chaos,slices", "--minutes", "22"], Part::Slices),
            720.0,
        );
        assert!(!options(&["--only", "reaction"]).wants(Part::Chaos));
        assert!(Line::try_parse_from(["bench", "--only", "chaos,luck"]).is_err());
    }
}
