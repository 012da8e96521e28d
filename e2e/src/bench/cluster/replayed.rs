//! Slices replayed on services of the cluster, at the same time, and what became of each.
use std::convert::Infallible;
use std::time::Duration;

use anyhow::Result;
use futures::future::join_all;
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::capacity::Capacity;
use super::chaos::{self, Event, Trouble};
use super::fit::Fitted;
use super::ground::{READY, load_options, requests_to};
use super::lives::{Life, pod_seconds};
use super::pods::PodWatch;
use super::score::{Score, Span, score};
use crate::bench::processor::{Shares, Ticks};
use crate::conditions::await_reason;
use crate::console::progress;
use crate::fixtures::Scenario;
use crate::load::{Sample, replay};
use crate::namespace::TestNamespace;
use crate::replicas::ReplicaWatch;
use tidewright_api::names;

/// Share of a run, at its beginning, that is not scored: it begins with one pod, whatever the load.
const WARM_UP: f64 = 0.1;
/// Between the last preparation and the first request.
const HEAD_START: Duration = Duration::from_secs(2);
const TELL_EVERY: Duration = Duration::from_secs(15);

/// One service and its load.
pub(super) struct Part<'a> {
    pub(super) service: Scenario,
    pub(super) slice: &'a Fitted,
}

/// One service, afterwards.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Course {
    pub(super) service: String,
    pub(super) score: Score,
    pub(super) span: Span,
    /// `spec.replicas`, with the time of each change.
    pub(super) wanted: Vec<(f64, i32)>,
    pub(super) samples: Vec<Sample>,
    /// By how much the generator itself was late at most.
    pub(super) generator_late_ms: f64,
}

/// All of them.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Replayed {
    pub(super) courses: Vec<Course>,
    pub(super) lives: Vec<Life>,
    pub(super) events: Vec<Event>,
    pub(super) machine: Shares,
}

/// Seconds that are not scored.
pub(super) fn warm_up(slice: &Fitted) -> f64 {
    (WARM_UP * slice.seconds).round()
}

/// What is scored: not the warm-up, nor the end, as in the simulator, whose run lasts until the last request's second is over.
pub(super) fn span(slice: &Fitted, objective_seconds: f64) -> Span {
    let end = slice.times.last().map_or(0.0, |last| last.floor() + 1.0);
    (warm_up(slice), end - 2.0 * objective_seconds)
}

/// Applies the services, waits until each is scaled by who shall scale it, and sends them their slices. Meanwhile goes wrong what the plan says.
pub(super) async fn run(
    namespace: &TestNamespace,
    parts: &[Part<'_>],
    capacity: &Capacity,
    troubles: &[(f64, Trouble)],
) -> Result<Replayed> {
    let client = &namespace.client;
    for part in parts {
        part.service.apply(client).await?;
    }
    let mut targets = Vec::new();
    for part in parts {
        part.service.ready(client, READY).await?;
        await_reason(client, &part.service, ("ScalingReady", "True", "Scaling"), READY).await?;
        let deployment = names::pool(&part.service.name, names::DEFAULT_POOL);
        let replicas = ReplicaWatch::start(client, &namespace.name, &deployment).await?;
        targets.push((part.service.address(client).await?, replicas));
    }
    let start = Instant::now() + HEAD_START;
    let pods = PodWatch::start(client, &namespace.name, start);
    let services: Vec<&Scenario> = parts.iter().map(|part| &part.service).collect();
    let ticks = Ticks::now()?;
    let loads = parts.iter().zip(&targets).map(|(part, (address, _))| async move {
        let mut options = load_options(*address);
        options.in_time = capacity.objective();
        replay(&options, start, &part.slice.due(), &requests_to(&part.service.name)).await
    });
    let all = async { tokio::join!(join_all(loads), chaos::happen(client, &services, troubles, start)) };
    let (sent, events) = tokio::select! {
        done = all => done,
        never = tell(&pods, &services, start) => match never {},
    };
    let machine = ticks.until(Ticks::now()?);
    let lives = pods.lives();
    let courses = parts
        .iter()
        .zip(targets)
        .zip(sent)
        .map(|((part, (_, replicas)), (samples, late))| {
            let seconds = |at: Instant| at.saturating_duration_since(start).as_secs_f64();
            let wanted: Vec<(f64, i32)> = replicas
                .wanted()
                .iter()
                .map(|state| (seconds(state.at), state.wanted))
                .collect();
            let span = span(part.slice, capacity.objective_seconds());
            let cost = pod_seconds(&lives, &part.service.name, span);
            Course {
                service: part.service.name.clone(),
                score: score(&samples, capacity.objective_seconds() * 1e3, cost, &wanted, span),
                span,
                wanted,
                samples,
                generator_late_ms: late.as_secs_f64() * 1e3,
            }
        });
    let courses = courses.collect();
    Ok(Replayed {
        courses,
        lives,
        events,
        machine,
    })
}

/// A line now and then, for whoever watches.
async fn tell(pods: &PodWatch, services: &[&Scenario], start: Instant) -> Infallible {
    let mut ticks = interval(TELL_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let one = |service: &&Scenario| {
            let (ready, all) = pods.count(&service.name);
            format!("{} {ready}/{all}", service.name)
        };
        let counts: Vec<String> = services.iter().map(one).collect();
        progress(format_args!(
            "{:6.0} s  pods ready: {}",
            start.elapsed().as_secs_f64(),
            counts.join(", ")
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_scored_is_what_the_simulator_scores() {
        let slice = Fitted {
            times: vec![0.5, 300.2, 598.7],
            seconds: 600.0,
            speed: 1.0,
            kept: 1.0,
        };
        assert_eq!(span(&slice, 2.5), (60.0, 594.0));
    }
}
