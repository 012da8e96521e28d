//! Where the metrics API is switched off: what an operator that served it left behind is taken away.
//!
//! An APIService whose Service answers nothing makes discovery fail, and with it the deletion of every namespace of the cluster.

use std::time::Duration;

use kube::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Settings;
use crate::cluster::api_service;

/// Pause after a failure.
const AGAIN_AFTER: Duration = Duration::from_secs(20);

/// Removes the APIServices that lead to us, once we lead. Those of others stay.
pub async fn retire(settings: Settings, client: Client, mut leader: watch::Receiver<bool>, stop: CancellationToken) {
    let wanted = settings.wanted();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            led = leader.wait_for(|leads| *leads) => if led.is_err() { return },
        }
        match api_service::deregister(&client, &wanted).await {
            Ok(removed) => {
                if !removed.is_empty() {
                    tracing::info!(?removed, "the metrics API is switched off: its registration is removed");
                }
                return;
            }
            Err(error) => tracing::warn!(%error, "the registration of the metrics API could not be removed"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(AGAIN_AFTER) => {}
        }
    }
}
