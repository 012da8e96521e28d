//! Reads what the servers use, while anything is decided from it: one list for all services, as often as there is something new in it.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::time::{Instant, MissedTickBehavior};

use super::plan::Plans;
use crate::cluster::usage;
use crate::domain::usage::{Answer, Used};
use crate::error::Error;

/// As often as metrics-server takes samples unless it is told otherwise, and as a HorizontalPodAutoscaler looks.
const EVERY: Duration = Duration::from_secs(15);
/// Between two looks at whether anything is decided from it: the first service need not wait for long.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Reads for ever.
pub async fn follow(client: &Client, plans: &Plans, used: &Used) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut read_at: Option<Instant> = None;
    loop {
        ticks.tick().await;
        let is_needed = plans.all().values().any(|plan| !plan.uses.is_empty());
        if !is_needed {
            // What was read last is no answer to who asks later.
            read_at = None;
            used.store(Arc::default());
        } else if read_at.is_none_or(|at| at.elapsed() >= EVERY) {
            read_at = Some(Instant::now());
            let answer = usage::usages(client)
                .await
                .map_or_else(|error| Answer::Failed(told(&error)), Answer::Used);
            if let Answer::Failed(why) = &answer
                && **used.load() != answer
            {
                tracing::warn!(why, "what the servers use is not known");
            }
            used.store(Arc::new(answer));
        }
    }
}

/// Why there is no answer, as the status tells it.
fn told(error: &Error) -> String {
    if error.category() == "NotFound" {
        return "nobody serves metrics.k8s.io: is metrics-server installed?".to_owned();
    }
    error.to_string()
}
