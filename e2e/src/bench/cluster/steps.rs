//! Load steps: how long until `spec.replicas` is raised, by the operator and by the HorizontalPodAutoscaler beside it, at the same instant each time.
use std::time::Duration;

use anyhow::Result;
use futures::future::try_join_all;
use kube::Client;
use kube::api::{Patch, PatchParams};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};
use serde::Serialize;
use serde_json::{Value, json};
use tidewright_api::names;
use tokio::time::{Instant, sleep};

use super::ground::{self, Ground, READY, load_options};
use crate::bench::processor::{Shares, Ticks};
use crate::conditions::await_reason;
use crate::console::progress;
use crate::fixtures::Scenario;
use crate::load::{Arrivals, Load, Profile, digits};
use crate::namespace::TestNamespace;
use crate::replicas::ReplicaWatch;

/// Pairs of services that are stepped independently of each other.
const PAIRS: usize = 3;
/// Requests per second that a replica is for, of the idle plateau, and of a step: four replicas are wanted then.
const PER_REPLICA: &str = "10";
const PLATEAU: f64 = 3.0;
const STEP: f64 = 35.0;
const REPLICAS_MAX: i32 = 4;
/// Neither has reacted by then: that is what is told.
const REACTION_MAX: Duration = Duration::from_secs(90);
/// Until one replica is wanted again.
const CALM: Duration = Duration::from_mins(3);
/// Of the plateau before a step, drawn anew for each: the pod autoscaler looks every 15 s, and no step shall know when.
const PAUSE_SECONDS: (f64, f64) = (5.0, 20.0);

/// One step: seconds from its first request until more replicas were wanted; none where that took too long.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Reaction {
    pub(super) direct: Option<f64>,
    pub(super) hpa: Option<f64>,
}

/// All steps.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Reactions {
    pub(super) all: Vec<Reaction>,
    pub(super) machine: Shares,
}

impl Reactions {
    /// Seconds of the operator, and of the pod autoscaler. One that did not react counts with what it was waited for.
    pub(super) fn seconds(&self) -> (Vec<f64>, Vec<f64>) {
        let bounded = |one: Option<f64>| one.unwrap_or(REACTION_MAX.as_secs_f64());
        let both = self.all.iter().map(|step| (bounded(step.direct), bounded(step.hpa)));
        both.unzip()
    }
}

/// One service under load.
struct Side {
    service: Scenario,
    replicas: ReplicaWatch,
    load: Load,
}

pub(super) async fn run(ground: &Ground, namespace: &TestNamespace, steps: usize, seed: u64) -> Result<Reactions> {
    ground.publish(namespace).await?;
    let ticks = Ticks::now()?;
    let pairs = (0..PAIRS.min(steps)).map(|index| {
        let steps = (index..steps).step_by(PAIRS).count();
        let chance = Xoshiro256PlusPlus::seed_from_u64(seed.wrapping_add(index as u64));
        pair(ground, namespace, index, steps, chance)
    });
    let all = try_join_all(pairs).await?.concat();
    Ok(Reactions {
        all,
        machine: ticks.until(Ticks::now()?),
    })
}

async fn pair(
    ground: &Ground,
    namespace: &TestNamespace,
    index: usize,
    steps: usize,
    mut chance: Xoshiro256PlusPlus,
) -> Result<Vec<Reaction>> {
    let client = &namespace.client;
    let rate = json!([{"type": "RequestRate", "target": {"type": "AverageValue", "averageValue": PER_REPLICA}}]);
    // The way back is not measured: it need not take five minutes.
    let down = json!({"scaleDown": {"stabilizationWindowSeconds": 0}});
    let side = async |name: String, scaling: Value| {
        let service = ground::digits(namespace, &name);
        let service = service
            .with("/maxReplicas", json!(REPLICAS_MAX))
            .with("/autoScaling", scaling);
        start(ground, namespace, service).await
    };
    let direct = side(format!("direct-{index}"), json!({"mode": "Direct", "metrics": rate})).await?;
    let hpa = side(format!("hpa-{index}"), json!({"metrics": rate, "behavior": down})).await?;
    let mut reactions = Vec::new();
    for step in 1..=steps {
        loop {
            calm(client, &direct, &hpa).await?;
            sleep(Duration::from_secs_f64(
                chance.random_range(PAUSE_SECONDS.0..PAUSE_SECONDS.1),
            ))
            .await;
            if direct.replicas.last().wanted == 1 && hpa.replicas.last().wanted == 1 {
                break;
            }
        }
        // The gaps are equal, and the first request comes after one.
        let first = Instant::now() + Duration::from_secs_f64(1.0 / STEP);
        direct.load.set_rate(STEP);
        hpa.load.set_rate(STEP);
        let (by_direct, by_hpa) = tokio::join!(reaction(&direct, first), reaction(&hpa, first));
        let reaction = Reaction {
            direct: by_direct,
            hpa: by_hpa,
        };
        let seconds = |one: Option<f64>| one.map_or_else(|| "nothing".to_owned(), |one| format!("{one:.2} s"));
        progress(format_args!(
            "pair {}, step {step} of {steps}: Direct {}, HorizontalPodAutoscaler {}",
            index + 1,
            seconds(reaction.direct),
            seconds(reaction.hpa)
        ));
        reactions.push(reaction);
        direct.load.set_rate(PLATEAU);
        hpa.load.set_rate(PLATEAU);
    }
    for side in [direct, hpa] {
        let totals = side.load.stop().await.totals;
        if totals.failed() > 0 {
            progress(format_args!(
                "{}: {} of {} requests failed",
                side.service.name,
                totals.failed(),
                totals.due
            ));
        }
    }
    Ok(reactions)
}

async fn start(ground: &Ground, namespace: &TestNamespace, service: Scenario) -> Result<Side> {
    let client = &namespace.client;
    service.apply(client).await?;
    service.ready(client, READY).await?;
    let deployment = names::pool(&service.name, names::DEFAULT_POOL);
    let replicas = ReplicaWatch::start(client, &namespace.name, &deployment).await?;
    let mut options = load_options(service.address(client).await?);
    options.arrivals = Arrivals::Constant;
    let requests = digits::single(&ground.models.digits);
    let load = Load::start(
        options,
        Profile {
            rate: PLATEAU,
            requests,
        },
    );
    Ok(Side {
        service,
        replicas,
        load,
    })
}

async fn reaction(side: &Side, first: Instant) -> Option<f64> {
    let more = side
        .replicas
        .first_since(first, "more replicas", REACTION_MAX, |state| state.wanted > 1);
    Some((more.await.ok()?.at - first).as_secs_f64())
}

/// One replica of each, and both scaled by who shall scale them. The operator keeps replicas for minutes and forgets nothing meanwhile: it is given a
/// fixed number until the other is back, and then begins anew.
async fn calm(client: &Client, direct: &Side, hpa: &Side) -> Result<()> {
    if direct.replicas.last().wanted != 1 {
        fix(client, &direct.service, 1).await?;
        direct
            .replicas
            .reach("one replica again", CALM, |state| state.wanted == 1)
            .await?;
    }
    hpa.replicas
        .reach("one replica again", CALM, |state| state.wanted == 1)
        .await?;
    fix(client, &direct.service, 0).await?;
    for side in [direct, hpa] {
        await_reason(client, &side.service, ("ScalingReady", "True", "Scaling"), READY).await?;
    }
    Ok(())
}

/// Sets the number of replicas as `kubectl scale` does; 0: scaled automatically.
async fn fix(client: &Client, service: &Scenario, replicas: i32) -> Result<()> {
    let patch = json!({"spec": {"predictor": {"replicas": replicas}}});
    service
        .api(client)
        .patch(&service.name, &PatchParams::default(), &Patch::Merge(&patch))
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_does_not_react_is_as_slow_as_he_was_waited_for() {
        let step = |direct, hpa| Reaction { direct, hpa };
        let reactions = Reactions {
            all: vec![step(Some(1.0), Some(20.0)), step(Some(2.0), None)],
            machine: Shares::default(),
        };
        assert_eq!(reactions.seconds(), (vec![1.0, 2.0], vec![20.0, 90.0]));
    }
}
