//! What goes wrong while the two services are compared: pods that are killed, an operator that is, which both need, and a Prometheus that is away for a
//! while. A seed decides when and whom.
use std::time::Duration;

use anyhow::{Result, ensure};
use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};
use serde::Serialize;
use tokio::time::{Instant, sleep_until};

use crate::console::progress;
use crate::dump::OPERATOR_NAMESPACE;
use crate::fixtures::Scenario;
use crate::outage;

/// A pod of each service is killed about so often.
const KILL_EVERY_SECONDS: f64 = 100.0;
/// Nothing goes wrong before this share of the run, nor after the other.
const FROM: f64 = 0.15;
const TO: f64 = 0.9;
/// Prometheus is away for a minute, or for so much of a short run.
const OUTAGE_SECONDS: f64 = 60.0;
const OUTAGE_SHARE: f64 = 0.15;
/// Until it is back; it has to start and to be found ready.
const RETURN: Duration = Duration::from_secs(90);

/// One thing that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) enum Trouble {
    /// One ready pod of each service; which, this share of them says.
    Kill {
        which: f64,
    },
    /// Its pods; what the pod autoscaler reads comes from it as well.
    OperatorKilled,
    PrometheusGone,
    PrometheusBack,
}

/// When what goes wrong, in seconds since the start, in order.
pub(super) fn plan(seconds: f64, seed: u64) -> Vec<(f64, Trouble)> {
    let mut chance = Xoshiro256PlusPlus::seed_from_u64(seed);
    let kills = (seconds / KILL_EVERY_SECONDS).round().max(1.0) as u32;
    let stratum = (TO - FROM) * seconds / f64::from(kills);
    let mut plan: Vec<(f64, Trouble)> = (0..kills)
        .map(|number| {
            let at = FROM * seconds + stratum * (f64::from(number) + chance.random::<f64>());
            let which = chance.random::<f64>();
            (at, Trouble::Kill { which })
        })
        .collect();
    let lasts = OUTAGE_SECONDS.min(OUTAGE_SHARE * seconds);
    let gone = (FROM + chance.random::<f64>() * (TO - FROM)) * seconds;
    let gone = gone.min(TO * seconds - lasts);
    let killed = (FROM + chance.random::<f64>() * (TO - FROM)) * seconds;
    plan.extend([
        (gone, Trouble::PrometheusGone),
        (gone + lasts, Trouble::PrometheusBack),
        (killed, Trouble::OperatorKilled),
    ]);
    plan.sort_by(|a, b| a.0.total_cmp(&b.0));
    plan
}

/// What happened, and when.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Event {
    pub(super) seconds: f64,
    pub(super) what: String,
}

/// Makes it happen. What is done is told as it is done, and what could not be done as well: the load goes on.
pub(super) async fn happen(
    client: &Client,
    services: &[&Scenario],
    plan: &[(f64, Trouble)],
    start: Instant,
) -> Vec<Event> {
    let mut events = Vec::new();
    for (at, trouble) in plan {
        sleep_until(start + Duration::from_secs_f64(*at)).await;
        let seconds = start.elapsed().as_secs_f64();
        let done = match trouble {
            Trouble::Kill { which } => kill(client, services, *which).await,
            Trouble::OperatorKilled => kill_operator(client).await,
            Trouble::PrometheusGone => outage::stop_prometheus(client)
                .await
                .map(|()| "Prometheus is stopped".to_owned()),
            Trouble::PrometheusBack => outage::restore_prometheus(client, RETURN).await.map(|()| {
                format!(
                    "Prometheus is back after {:.0} s",
                    start.elapsed().as_secs_f64() - seconds
                )
            }),
        };
        let what = done.unwrap_or_else(|error| format!("{trouble:?} failed: {error:#}"));
        progress(format_args!("{seconds:6.0} s  {what}"));
        events.push(Event { seconds, what });
    }
    events
}

/// Ends a ready pod of each service without grace, at the same instant.
async fn kill(client: &Client, services: &[&Scenario], which: f64) -> Result<String> {
    let mut victims = Vec::new();
    for service in services {
        let mut ready = service.pods(client).await?;
        ready.retain(is_ready);
        let mut names: Vec<String> = ready.into_iter().filter_map(|pod| pod.metadata.name).collect();
        names.sort_unstable();
        let index = (which * names.len() as f64) as usize;
        victims.extend(names.get(index).map(|name| (service.namespace.as_str(), name.clone())));
    }
    let at_once = DeleteParams::default().grace_period(0);
    let deaths = victims.iter().map(|(namespace, name)| {
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let at_once = &at_once;
        async move {
            match pods.delete(name, at_once).await {
                Ok(_) => name.clone(),
                // It may have gone by itself.
                Err(error) => format!("{name} (not: {error})"),
            }
        }
    });
    Ok(format!("killed {}", join_all(deaths).await.join(" and ")))
}

/// Ends the operator without grace: its Deployment makes it anew.
async fn kill_operator(client: &Client) -> Result<String> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), OPERATOR_NAMESPACE);
    let operators = ListParams::default().labels("app.kubernetes.io/name=tidewright-operator");
    let killed = pods.list(&operators).await?.items.len();
    ensure!(killed > 0, "there is no operator");
    pods.delete_collection(&DeleteParams::default().grace_period(0), &operators)
        .await?;
    Ok("killed the operator".to_owned())
}

pub(super) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_of_its_seed_and_leaves_the_ends_alone() {
        assert_eq!(plan(600.0, 3), plan(600.0, 3));
        assert_ne!(plan(600.0, 3), plan(600.0, 4));
        for seed in 0..200 {
            for seconds in [60.0, 240.0, 600.0, 3600.0] {
                let plan = plan(seconds, seed);
                assert!(plan.is_sorted_by(|a, b| a.0 <= b.0), "{plan:?}");
                let inside = |at: f64| (FROM * seconds..=TO * seconds + 1e-9).contains(&at);
                assert!(
                    plan.iter().all(|(at, _)| inside(*at)),
                    "{seconds} s, seed {seed}: {plan:?}"
                );
                let at = |wanted: Trouble| plan.iter().find(|(_, trouble)| *trouble == wanted).unwrap().0;
                let away = at(Trouble::PrometheusBack) - at(Trouble::PrometheusGone);
                assert!((away - (0.15 * seconds).min(60.0)).abs() < 1e-6, "{away}");
                let operators = plan.iter().filter(|(_, trouble)| *trouble == Trouble::OperatorKilled);
                assert_eq!(operators.count(), 1);
                let kills = plan.len() - 3;
                assert_eq!(kills, ((seconds / 100.0).round() as usize).max(1));
            }
        }
    }
}
