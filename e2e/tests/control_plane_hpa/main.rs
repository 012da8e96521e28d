//! The simulator's HorizontalPodAutoscaler beside the real one: the same decision at every sync, or the comparisons of the simulator are worth nothing.
//!
//! Each sync of the real controller asks the metrics API for its metrics. The API is the test's own: it notes the scale that the controller sees, and
//! answers what the script says. What the controller made of it shows at the next sync.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cases;
mod metrics;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use tidewright_e2e::console::progress;
use tidewright_e2e::control_plane::ControlPlane;
use tidewright_e2e::options::{ClusterOptions, HpaTiming};
use tidewright_e2e::wait::{Seen, await_condition};
use tidewright_sim::baselines::hpa::input::{Input, Reading, Scale};
use tidewright_sim::baselines::hpa::{Config, State, sync};

use cases::Case;
use metrics::{MetricsApi, Sync};

/// Windows and periods of the cases lie between its multiples: what is over at one sync and not at the next must not hang on milliseconds.
const SYNC_PERIOD: Duration = Duration::from_millis(1300);
const DOWNSCALE_STABILIZATION: Duration = Duration::from_secs(3);
const NAMESPACE: &str = "hpa";
/// The real controller reads its clock after this test has been asked for the metric, and notes a change after it has written it; and a sync comes after a
/// period and what the sync before took, so that on a busy machine one comes just where a window ends. Less than half of a period: never a sync more.
const SKEW: Duration = Duration::from_millis(500);
/// Decisions that have to be equal.
const DECISIONS_MIN: usize = 200;
/// Of so many, one may need the skew.
const DECISIONS_PER_SKEWED: usize = 50;
const PATIENCE: Duration = Duration::from_mins(3);

#[tokio::test(flavor = "multi_thread")]
async fn the_simulated_autoscaler_decides_as_the_real_one_does() -> Result<()> {
    let mut options = ClusterOptions::for_tests("cp-hpa");
    options.hpa = HpaTiming {
        sync_period: SYNC_PERIOD,
        downscale_stabilization: DOWNSCALE_STABILIZATION,
        ..HpaTiming::fast()
    };
    let cluster = ControlPlane::start(options).await?;
    let cases = cases::all();
    let api = MetricsApi::start(&cluster, NAMESPACE, &cases).await?;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    cluster.apply(&[namespace]).await?;
    api.register(&cluster).await?;
    let deployments: Vec<_> = cases.iter().map(|case| case.deployment(NAMESPACE)).collect();
    cluster.apply(&deployments).await?;
    let autoscalers: Vec<_> = cases.iter().map(|case| case.autoscaler(NAMESPACE)).collect();
    cluster.apply(&autoscalers).await?;
    await_condition("every script to come to its end", PATIENCE, || async {
        let left: Vec<String> = cases
            .iter()
            .map(|case| (case, api.syncs(&case.name).len()))
            .filter(|(case, syncs)| *syncs <= case.steps.len())
            .map(|(case, syncs)| format!("{} at {syncs} of {}", case.name, case.steps.len()))
            .collect();
        Ok(if left.is_empty() {
            Seen::Done(())
        } else {
            Seen::NotYet(left.join(", "))
        })
    })
    .await?;
    let mut decisions = 0;
    let mut changes = 0;
    let mut skewed = 0;
    let mut different = Vec::new();
    for case in &cases {
        let compared = compare(case, &api.syncs(&case.name));
        progress(format_args!(
            "{}: {} decisions, {} of them changes, {} equal within {SKEW:?}, {} different",
            case.name,
            compared.decisions,
            compared.changes,
            compared.skewed,
            compared.different.len()
        ));
        decisions += compared.decisions;
        changes += compared.changes;
        skewed += compared.skewed;
        different.extend(compared.different);
    }
    tokio::task::spawn_blocking(move || cluster.down()).await??;
    ensure!(
        different.is_empty(),
        "{} of {decisions}:\n{}",
        different.len(),
        different.join("\n")
    );
    ensure!(
        decisions >= DECISIONS_MIN && changes >= decisions / 5,
        "{decisions} decisions, {changes} changes"
    );
    ensure!(
        skewed <= decisions / DECISIONS_PER_SKEWED,
        "{skewed} of {decisions} decisions are equal only {SKEW:?} earlier or later"
    );
    Ok(())
}

#[derive(Default)]
struct Compared {
    decisions: usize,
    /// Those that change the number.
    changes: usize,
    /// Those that are equal at a time within the skew.
    skewed: usize,
    /// Those that are not, in words.
    different: Vec<String>,
}

fn compare(case: &Case, syncs: &[Arc<Sync>]) -> Compared {
    let config = Config {
        downscale_stabilization_ns: i64::try_from(DOWNSCALE_STABILIZATION.as_nanos()).unwrap(),
        ..Config::default()
    };
    let spec = case.spec(NAMESPACE);
    let mut state = State::default();
    let mut compared = Compared::default();
    let skew_ns = i64::try_from(SKEW.as_nanos()).unwrap();
    for (index, (pair, step)) in syncs.windows(2).zip(&case.steps).enumerate() {
        let [seen, next] = pair else { continue };
        let readings: Vec<Result<Reading, String>> = step
            .iter()
            .map(|value| value.map(Reading::Object).ok_or_else(|| "not there".to_owned()))
            .collect();
        let tried = [0, -skew_ns, skew_ns].map(|skew_ns| {
            let input = Input {
                now_ns: seen.at_ns + skew_ns,
                scale: Ok(Scale {
                    spec_replicas: seen.spec_replicas,
                    status_replicas: seen.status_replicas,
                }),
                pods: &[],
                readings: &readings,
                update_error: next.is_after_conflict.then(|| "conflict".to_owned()),
            };
            let mut after = state.clone();
            let outcome = sync(&config, &spec, &mut after, &input);
            (outcome, after)
        });
        compared.decisions += 1;
        compared.changes += usize::from(next.spec_replicas != seen.spec_replicas);
        let equal = tried
            .iter()
            .position(|(outcome, _)| outcome.written.unwrap_or(seen.spec_replicas) == next.spec_replicas);
        let Some(equal) = equal else {
            let [(outcome, _), ..] = &tried;
            compared.different.push(format!(
                "{} at step {index}: {step:?} at {}/{} replicas: really {}, simulated {} ({outcome:?})",
                case.name,
                seen.status_replicas,
                seen.spec_replicas,
                next.spec_replicas,
                outcome.written.unwrap_or(seen.spec_replicas)
            ));
            // One difference in what is remembered would make many.
            break;
        };
        compared.skewed += usize::from(equal != 0);
        state = tried.into_iter().nth(equal).unwrap().1;
    }
    compared
}
