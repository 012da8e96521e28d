//! What changes while the metrics API serves: the front proxy's CA, our certificates, our registration.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use kube::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::SharedClock;
use crate::cluster::api_service::{self, Registration, Wanted};
use crate::cluster::request_header;
use crate::cluster::serving_certificate::{CertificateSecret, Stored};
use crate::error::Result;
use crate::metrics_api::auth::FrontProxy;
use crate::metrics_api::certificates::{Lifetimes, Material, next_step};
use crate::metrics_api::progress::Progress;
use crate::metrics_api::tls::ServingCertificate;

/// Pause after a failure or after a change that makes the next step possible.
const SOON: Duration = Duration::from_secs(2);

/// Reads the front proxy's CA and names every `poll`, for they are rotated without notice. What cannot be read leaves what was read before.
pub async fn follow_front_proxy(
    client: Client,
    front_proxy: Arc<ArcSwapOption<FrontProxy>>,
    progress: Arc<Progress>,
    poll: Duration,
    stop: CancellationToken,
) {
    loop {
        let pause = match refresh_front_proxy(&client, &front_proxy).await {
            // A cluster without a front proxy is known, too.
            Ok(()) => {
                progress.knows_front_proxy();
                poll
            }
            Err(error) => {
                tracing::warn!(%error, "the front proxy's CA could not be read");
                SOON.min(poll)
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn refresh_front_proxy(client: &Client, front_proxy: &ArcSwapOption<FrontProxy>) -> Result<()> {
    let Some(read) = request_header::read(client).await? else {
        if front_proxy.swap(None).is_some() {
            tracing::warn!("the API server has no front proxy any more: nobody can ask the metrics API");
        }
        return Ok(());
    };
    if front_proxy
        .load()
        .as_ref()
        .is_some_and(|current| *current.source() == read)
    {
        return Ok(());
    }
    front_proxy.store(Some(Arc::new(FrontProxy::new(read)?)));
    tracing::info!("the front proxy's CA is loaded");
    Ok(())
}

/// Keeps certificates and registration in order.
#[expect(missing_debug_implementations, reason = "a client has none")]
pub struct Keeper {
    /// For the APIServices.
    pub client: Client,
    /// Where the certificates are kept.
    pub secret: CertificateSecret,
    /// What is served.
    pub certificate: Arc<ServingCertificate>,
    /// Told when there is something to serve.
    pub progress: Arc<Progress>,
    /// What to register.
    pub wanted: Wanted,
    /// Names in the serving certificate.
    pub names: Vec<String>,
    /// How long things live.
    pub lifetimes: Lifetimes,
    /// Time between two looks.
    pub poll: Duration,
    /// Whether this process writes.
    pub leader: watch::Receiver<bool>,
    /// Where the outcome is told.
    pub registration: watch::Sender<Registration>,
    /// Time.
    pub clock: SharedClock,
}

impl Keeper {
    /// Looks after them until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut installed = None;
        loop {
            let leads = *self.leader.borrow_and_update();
            let round = if leads {
                self.lead(&mut installed).await
            } else {
                self.follow(&mut installed).await
            };
            let pause = match round {
                Ok(true) => SOON.min(self.poll),
                Ok(false) => self.poll,
                Err(error) => {
                    tracing::warn!(%error, "certificates or registration of the metrics API");
                    if leads {
                        let message = error.to_string();
                        self.tell(Registration::Failed { message });
                    }
                    SOON.min(self.poll)
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                // A sender that is gone will never say anything again: then only time wakes us.
                Ok(()) = self.leader.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Reads what the leader has written. True if there is nothing to serve yet.
    async fn follow(&self, installed: &mut Option<String>) -> Result<bool> {
        let stored = self.secret.read().await?;
        let Some(material) = Material::from_data(&stored.data) else {
            return Ok(true);
        };
        self.install(&material, installed)?;
        Ok(false)
    }

    /// Writes what is due: Secret first, then the bundle, then, a round later, whatever needs the bundle. True if more is due soon.
    async fn lead(&self, installed: &mut Option<String>) -> Result<bool> {
        let stored = self.secret.read().await?;
        let read = Material::from_data(&stored.data);
        let published = match &read {
            // The bundle as it is stored, before anything is changed: is that what the API server trusts?
            Some(material) => self.publish(material).await?,
            None => false,
        };
        let step = next_step(read.as_ref(), published, &self.names, &self.lifetimes, self.clock.now())?;
        let Some(next) = step else {
            if let Some(material) = &read {
                self.install(material, installed)?;
            }
            return Ok(!published);
        };
        let written = Stored {
            data: next.to_data(),
            resource_version: stored.resource_version,
        };
        // Whoever was faster decides; the next round reads it.
        if self.secret.write(&written).await? {
            tracing::info!(secret = %self.secret, "certificates of the metrics API are renewed");
            self.install(&next, installed)?;
            self.publish(&next).await?;
        }
        Ok(true)
    }

    async fn publish(&self, material: &Material) -> Result<bool> {
        let round = api_service::register(&self.client, &self.wanted, &material.bundle()).await?;
        self.tell(round.registration);
        Ok(round.bundle_published)
    }

    fn tell(&self, registration: Registration) {
        self.registration.send_if_modified(|current| {
            let changed = *current != registration;
            if changed {
                tracing::info!(?registration, "registration of the metrics API");
                *current = registration;
            }
            changed
        });
    }

    fn install(&self, material: &Material, installed: &mut Option<String>) -> Result<()> {
        if installed.as_ref() != Some(&material.serving.certificate) {
            self.certificate
                .install(&material.serving.certificate, &material.serving.key)?;
            *installed = Some(material.serving.certificate.clone());
            self.progress.has_certificate();
            tracing::info!("a new serving certificate of the metrics API is in use");
        }
        Ok(())
    }
}
