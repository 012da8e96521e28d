//! Where numbers come from: one Prometheus query per signal, for all services together.

pub mod address;
pub mod answers;
pub mod check;
pub mod counters;
pub mod decode;
pub mod enforce;
pub mod external;
pub mod memory;
pub mod prometheus;
pub mod queries;
pub mod settings;
mod tick;

use std::sync::Arc;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

pub use address::server_address_refusal;
pub use counters::Counters;
pub use settings::Settings;

use crate::clock::SharedClock;
use crate::domain::published::Published;
use crate::domain::subscriptions::Subscriptions;
use crate::error::Result;

/// Why an external query cannot be run for a service of `namespace`; `None` if it can. Pure. A text that is far from PromQL can take the parser some
/// hundred milliseconds.
pub fn query_refusal(query: &str, namespace: &str) -> Option<String> {
    enforce::confine(query, namespace).err()
}

/// Reads all signals of all subscribed services on every tick and publishes them, until `stop`.
///
/// # Errors
/// Settings that cannot work: an address that is no URL, an unreadable CA file. Trouble with Prometheus is no error, it is published.
pub async fn run(
    settings: Settings,
    subscriptions: Arc<Subscriptions>,
    published: Arc<Published>,
    counters: Arc<Counters>,
    clock: SharedClock,
    stop: CancellationToken,
) -> Result<()> {
    let mut source = tick::Source::new(&settings, counters, clock).await?;
    let mut ticks = tokio::time::interval(settings.tick);
    // After a slow tick the next one is due at its usual time, not at once.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        let wanted = subscriptions.all();
        let previous = published.snapshot();
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            snapshot = source.read(&wanted, &previous) => published.publish(snapshot),
        }
    }
}
