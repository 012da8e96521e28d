//! Who leads: one process holds the Lease, and only it writes.
//!
//! Our own few lines rather than a library's: the one for this version of the client lets followers sleep until the Lease runs out, so that
//! one that was given back is taken after 15 s and not after one, and it does not tell after a failed renewal whether we still lead.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kube::api::PostParams;
use kube::{Api, Client, Config};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::SharedClock;
use crate::cluster::may_write::Term;
use crate::cluster::owner;
use crate::domain::leadership::{Record, Step, good_for, may_write, step};
use crate::error::{Error, Result};

/// An answer that comes later is worth nothing.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// How often the Lease is looked at: one that was given back is taken within this time.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the Lease is called, and who we are in it.
#[derive(Debug, Clone)]
pub struct LeaseSettings {
    /// Namespace of the operator.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// This process; must differ between replicas.
    pub identity: String,
    /// The ClusterRole that owns the Lease.
    pub owner_cluster_role: Option<String>,
    /// How long the Lease holds after its last renewal.
    pub lasts: Duration,
}

/// Competes for the Lease until `stop`, then gives it back. `leader` says who leads, as of the last look; `term` until when that is good for writing.
///
/// # Errors
/// If no client can be made of `config`.
pub async fn lead(
    mut config: Config,
    settings: LeaseSettings,
    leader: watch::Sender<bool>,
    term: watch::Sender<Term>,
    clock: SharedClock,
    stop: CancellationToken,
) -> Result<()> {
    // A client of its own, without retries: a retry that succeeds after the Lease ran out would make two leaders.
    config.default_retry = false;
    config.connect_timeout = Some(CALL_TIMEOUT);
    let client = Client::try_from(config).map_err(Error::api("make a client for the Lease"))?;
    let api: Api<Lease> = Api::namespaced(client, &settings.namespace);
    let mut candidate = Candidate {
        api,
        settings,
        clock,
        seen: None,
        renewed_at: None,
    };
    loop {
        if let Err(error) = candidate.look().await {
            tracing::warn!(%error, lease = candidate.settings.name, "the Lease");
        }
        let lasts = candidate.settings.lasts;
        let renewed_at = candidate.renewed_at.filter(|at| may_write(at.elapsed(), lasts));
        let may = renewed_at.is_some();
        // Before the word itself: whoever hears that we lead may write at once.
        term.send_replace(renewed_at.map_or(Term::Over, |at| Term::Until(at + good_for(lasts))));
        if *leader.borrow() != may {
            tracing::info!(
                leader = may,
                identity = candidate.settings.identity,
                "leadership changed"
            );
            leader.send_replace(may);
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
    term.send_replace(Term::Over);
    leader.send_replace(false);
    if candidate.renewed_at.is_some() {
        match candidate.give_back().await {
            Ok(()) => tracing::info!(lease = candidate.settings.name, "the Lease is given back"),
            Err(error) => tracing::warn!(%error, "the Lease was not given back; it runs out by itself"),
        }
    }
    Ok(())
}

struct Candidate {
    api: Api<Lease>,
    settings: LeaseSettings,
    clock: SharedClock,
    /// The record as it was seen last, and since when just so.
    seen: Option<(Record, Instant)>,
    /// When the API server last confirmed a renewal of ours; counted from before the call.
    renewed_at: Option<Instant>,
}

impl Candidate {
    /// The monotonic clock; tokio's, which tests can pause.
    fn monotonic() -> Instant {
        Instant::now()
    }

    async fn look(&mut self) -> Result<()> {
        let found = self.call("get", self.api.get_opt(&self.settings.name)).await?;
        let record = record(found.as_ref());
        let now = Self::monotonic();
        let since = match &self.seen {
            Some((before, since)) if *before == record => *since,
            _ => now,
        };
        self.seen = Some((record.clone(), since));
        match step(
            &record,
            &self.settings.identity,
            now.duration_since(since),
            self.settings.lasts,
        ) {
            Step::Wait => {
                self.renewed_at = None;
                Ok(())
            }
            // A third of the time: two renewals may fail before we have to stop.
            Step::Renew if self.renewed_at.is_some_and(|at| at.elapsed() < self.settings.lasts / 3) => Ok(()),
            Step::Renew => self.write(found, &record, 0, now).await,
            Step::Take => self.write(found, &record, 1, now).await,
        }
    }

    /// Writes only over the version that was read: of two who take it one is refused.
    async fn write(&mut self, found: Option<Lease>, record: &Record, change: i32, begun: Instant) -> Result<()> {
        let now = MicroTime(self.clock.now());
        let mut lease = found.unwrap_or_else(|| Lease {
            metadata: ObjectMeta {
                name: Some(self.settings.name.clone()),
                namespace: Some(self.settings.namespace.clone()),
                ..ObjectMeta::default()
            },
            spec: None,
        });
        let spec = lease.spec.get_or_insert_default();
        if change > 0 {
            spec.acquire_time = Some(now.clone());
        }
        spec.holder_identity = Some(self.settings.identity.clone());
        spec.lease_duration_seconds = i32::try_from(self.settings.lasts.as_secs()).ok();
        spec.lease_transitions = Some(record.transitions.saturating_add(change));
        spec.renew_time = Some(now);
        if lease.metadata.owner_references.is_none() {
            lease.metadata.owner_references = self.owner().await.map(|owner| vec![owner]);
        }
        let params = PostParams::default();
        let is_new = lease.metadata.resource_version.is_none();
        let written = if is_new {
            self.call("create", self.api.create(&params, &lease)).await?
        } else {
            self.call("renew", self.api.replace(&self.settings.name, &params, &lease))
                .await?
        };
        self.renewed_at = Some(begun);
        self.seen = Some((self::record(Some(&written)), begun));
        Ok(())
    }

    /// Without the role, or an answer, the Lease has no owner for now: leading matters more.
    async fn owner(&self) -> Option<OwnerReference> {
        let name = self.settings.owner_cluster_role.as_deref()?;
        let api: Api<ClusterRole> = Api::all(self.api.clone().into_client());
        let found = self.call("get the owner of", api.get_opt(name)).await;
        found.ok().flatten().and_then(owner::reference)
    }

    async fn give_back(&mut self) -> Result<()> {
        let Some(mut lease) = self.call("get", self.api.get_opt(&self.settings.name)).await? else {
            return Ok(());
        };
        if record(Some(&lease)).holder != self.settings.identity {
            return Ok(());
        }
        lease.spec.get_or_insert_with(LeaseSpec::default).holder_identity = None;
        self.call(
            "give back",
            self.api.replace(&self.settings.name, &PostParams::default(), &lease),
        )
        .await?;
        Ok(())
    }

    async fn call<T>(&self, verb: &str, future: impl Future<Output = Result<T, kube::Error>>) -> Result<T> {
        let name = format!("{verb} Lease {}/{}", self.settings.namespace, self.settings.name);
        match tokio::time::timeout(CALL_TIMEOUT, future).await {
            Ok(done) => done.map_err(Error::api(name)),
            Err(_) => Err(Error::Timeout {
                what: name,
                limit: CALL_TIMEOUT,
            }),
        }
    }
}

fn record(lease: Option<&Lease>) -> Record {
    let spec = lease.and_then(|l| l.spec.as_ref());
    Record {
        holder: spec.and_then(|s| s.holder_identity.clone()).unwrap_or_default(),
        version: lease
            .and_then(|l| l.metadata.resource_version.clone())
            .unwrap_or_default(),
        transitions: spec.and_then(|s| s.lease_transitions).unwrap_or(0),
    }
}
