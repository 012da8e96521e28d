//! Sends the load, step by step, and watches what it does.
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use kube::Client;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::ground::Ground;
use super::report::Claim;
use super::steps::{self, Step};
use super::verdict::claim;
use super::watch::{ScaleUp, Watch};
use super::{NAMESPACE, Phases, SERVICE, cluster_texts};
use crate::access::Access;
use crate::calibrate::{self, Cost};
use crate::console::progress;
use crate::load::{self, Load, LoadOptions, Totals, digits};
use crate::models::Classifier;
use crate::{clock, signals};

/// Longest that a step may take to reach its replicas, and that scaling down may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(90);
/// Calm before the first step: what one replica does with little load.
const CALM: Duration = Duration::from_secs(8);

/// CPU figures are up to half a minute old, and may have led to a replica too many, which has to go again.
const CALM_TIMEOUT: Duration = Duration::from_mins(3);

/// Everything that was seen.
#[derive(Debug)]
pub struct Driven {
    /// What was sent before the load.
    pub before: Totals,
    pub load: load::Report,
    pub samples: Vec<super::watch::Sample>,
    pub scale_ups: Vec<ScaleUp>,
    pub bands: Vec<(Range<f64>, String)>,
    pub claims: Vec<Claim>,
    pub replicas_start: i32,
    pub replicas_end: i32,
    pub texts: Vec<(String, String)>,
}

/// Load that runs, and eyes on it.
struct Scene<'a> {
    load: Load,
    watch: &'a Watch,
    start: Instant,
    step_timeout: Duration,
    /// Lines printed so far: the column names come again from time to time.
    lines: AtomicUsize,
}

pub async fn drive(
    ground: &Ground,
    client: &Client,
    classifier: &Classifier,
    prometheus: SocketAddr,
    phases: &mut Phases,
) -> Result<Driven> {
    let address = ground.address(client, NAMESPACE, SERVICE).await?;
    let step_timeout = STEP_TIMEOUT * ground.patience();
    let mut before = Totals::default();
    let right = phases
        .run("real digits, one by one", every_digit(address, classifier, &mut before))
        .await?;
    let cost = phases
        .run(
            "calibrate: what a request costs on this machine",
            calibrate(client, address, classifier, &mut before),
        )
        .await?;
    let now = clock::time_of_day()?;
    phases
        .run(
            "wait until all of this is out of the CPU figures",
            signals::await_calm(client, (NAMESPACE, SERVICE), now, CALM_TIMEOUT * ground.patience()),
        )
        .await?;
    let start = Instant::now();
    let watch = Watch::start(client.clone(), NAMESPACE, SERVICE, prometheus, start).await?;
    // The load's seconds and the watch's seconds are the same.
    let load = Load::start(LoadOptions::to(address), steps::trickle(classifier));
    let scene = Scene {
        load,
        watch: &watch,
        start,
        step_timeout,
        lines: AtomicUsize::new(0),
    };
    let mut driven = Outline {
        bands: Vec::new(),
        claims: vec![right],
        texts: Vec::new(),
    };
    phases
        .run(
            "one replica, little load",
            scene.until("calm", CALM, |_, elapsed| elapsed >= CALM),
        )
        .await?;
    let replicas_start = watch.last().ready.unwrap_or(0);
    let mut steps = steps::steps(classifier, cost).into_iter().peekable();
    while let Some(step) = steps.next() {
        let name = format!("load for {}: {}", step.name, step.what);
        phases.run(&name, scene.step(&step, ground, &mut driven)).await?;
        // Scaling down under a little load shows that it loses nothing; the last time all load stops.
        scene.load.set(steps::trickle(classifier));
        let mut name = format!("scale-down after {}, under {} requests/s", step.name, steps::TRICKLE);
        if steps.peek().is_none() {
            scene.load.set_rate(0.0);
            name = format!("scale-down after {}, without load", step.name);
        }
        let down = phases.run(&name, scene.down()).await?;
        driven.claims.push(claim(
            format!("after {} it scales down again", step.name),
            down.is_some(),
            down.map_or_else(
                || format!("not within {} s", step_timeout.as_secs()),
                |seconds| format!("one replica after {seconds:.0} s"),
            ),
        ));
    }
    let report = phases
        .run("stop the load, wait for every answer", async {
            Ok(scene.load.stop().await)
        })
        .await?;
    cluster_texts::after(ground, &mut driven.texts).await?;
    let replicas_end = watch.last().ready.unwrap_or(0);
    ensure!(
        !watch.samples().is_empty(),
        "nothing was seen: {:?}",
        watch.last_error()
    );
    Ok(Driven {
        before,
        load: report,
        samples: watch.samples(),
        scale_ups: watch.scale_ups(),
        bands: driven.bands,
        claims: driven.claims,
        replicas_start,
        replicas_end,
        texts: driven.texts,
    })
}

/// What the steps leave behind.
struct Outline {
    bands: Vec<(Range<f64>, String)>,
    claims: Vec<Claim>,
    texts: Vec<(String, String)>,
}

/// Sends each held-out image once and compares each answer.
async fn every_digit(address: SocketAddr, classifier: &Classifier, sent: &mut Totals) -> Result<Claim> {
    let report = Load::once(&LoadOptions::to(address), &digits::single(classifier)).await;
    let totals = &report.totals;
    sent.add(totals);
    let count = classifier.images.len() as u64;
    progress(format_args!(
        "{} of {count} held-out digits answered as ONNX Runtime itself does; {:.1} % of them are what the person wrote",
        totals.ok,
        classifier.accuracy * 100.0
    ));
    let measured = format!(
        "{} of {count}; first failures: {:?}",
        totals.ok,
        report.failures.first()
    );
    Ok(claim(
        "every held-out digit is answered as ONNX Runtime answers it",
        totals.ok == count,
        measured,
    ))
}

/// Measures what the steps that are work are sized by.
async fn calibrate(client: &Client, address: SocketAddr, classifier: &Classifier, sent: &mut Totals) -> Result<Cost> {
    let requests = digits::batches(classifier, steps::CALIBRATED_IMAGES);
    let (cost, totals) = calibrate::cost(client, (NAMESPACE, SERVICE), address, &requests).await?;
    sent.add(&totals);
    progress(format_args!("{} images: {cost}", steps::CALIBRATED_IMAGES));
    Ok(cost)
}

impl Scene<'_> {
    /// Waits until `done` holds, at most `timeout`, and prints a line every two seconds. Whether it held.
    async fn until(
        &self,
        label: &str,
        timeout: Duration,
        mut done: impl FnMut(&Watch, Duration) -> bool,
    ) -> Result<bool> {
        let begun = Instant::now();
        let mut ticks = interval(Duration::from_millis(500));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        for tick in 1_u32.. {
            ticks.tick().await;
            let elapsed = begun.elapsed();
            let held = done(self.watch, elapsed);
            if tick % 4 == 0 || held {
                self.line(label);
            }
            if held || elapsed >= timeout {
                return Ok(held);
            }
        }
        Ok(false)
    }

    fn line(&self, label: &str) {
        if self.lines.fetch_add(1, Ordering::Relaxed).is_multiple_of(20) {
            progress("   time load           offered/s served/s failed  p50 ms  p99 ms  queue  want ready  why");
        }
        let (window, sample) = (self.load.window(), self.watch.last());
        let number = |value: Option<f64>| value.map_or_else(|| "?".to_owned(), |value| format!("{value:.0}"));
        progress(format_args!(
            "{:5.0} s {label:<14} {:9.1} {:8.1} {:6} {:7.1} {:7.1} {:>6} {:>5} {:>5}  {}: {}",
            self.start.elapsed().as_secs_f64(),
            window.offered,
            window.served,
            window.failed,
            window.latency.p50,
            window.latency.p99,
            number(sample.queue),
            number(sample.desired.map(f64::from)),
            number(sample.ready.map(f64::from)),
            sample.reason,
            sample.message,
        ));
        if let Some(error) = self.watch.last_error() {
            progress(format_args!("         the last look failed: {error}"));
        }
    }

    async fn step(&self, step: &Step, access: &Access, outline: &mut Outline) -> Result<()> {
        let before = self.watch.scale_ups().len();
        let begun = self.start.elapsed().as_secs_f64();
        self.load.set(step.profile.clone());
        let mut ready_at: Option<Duration> = None;
        let mut reasons: Vec<String> = Vec::new();
        self.until(step.name, self.step_timeout, |watch, elapsed| {
            let sample = watch.last();
            if !reasons.contains(&sample.reason) {
                reasons.push(sample.reason.clone());
            }
            let caused = watch
                .scale_ups()
                .get(before..)
                .unwrap_or_default()
                .iter()
                .any(|one| one.cause == step.cause);
            if caused && sample.ready >= Some(step.replicas) && ready_at.is_none() {
                ready_at = Some(elapsed);
            }
            ready_at.is_some_and(|at| elapsed >= at + step.hold)
        })
        .await?;
        cluster_texts::during(access, &mut outline.texts, &format!("under the load for {}", step.name)).await?;
        outline
            .bands
            .push((begun..self.start.elapsed().as_secs_f64(), step.name.to_owned()));
        let scale_ups = self.watch.scale_ups();
        let ours = scale_ups.get(before..).unwrap_or_default();
        let decided = ours.iter().find(|one| one.cause == step.cause);
        let list: Vec<String> = ours
            .iter()
            .map(|one| format!("{} by {} at +{:.0} s", one.replicas, one.cause, one.seconds - begun))
            .collect();
        let ready = ready_at.map_or_else(
            || format!("{} ready replicas not reached", step.replicas),
            |at| format!("{} ready after {:.1} s", step.replicas, at.as_secs_f64()),
        );
        outline.claims.push(claim(
            format!(
                "{} makes the HorizontalPodAutoscaler scale up ({})",
                step.name, step.what
            ),
            decided.is_some() && ready_at.is_some(),
            format!(
                "{}; {ready}",
                if list.is_empty() {
                    "no decision".to_owned()
                } else {
                    list.join(", ")
                }
            ),
        ));
        outline.claims.push(claim(
            format!("the InferenceService's status says {} meanwhile", step.cause),
            reasons.iter().any(|reason| reason == step.cause),
            reasons.join(", "),
        ));
        Ok(())
    }

    /// Waits for one replica, wanted and ready. The seconds it took.
    async fn down(&self) -> Result<Option<f64>> {
        let begun = Instant::now();
        let held = self
            .until("scale-down", self.step_timeout, |watch, _| {
                let sample = watch.last();
                sample.desired == Some(1) && sample.ready == Some(1)
            })
            .await?;
        Ok(held.then(|| begun.elapsed().as_secs_f64()))
    }
}
