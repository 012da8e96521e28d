//! The operator's own autoscaler (modes Advise and Direct): each second it looks, decides by `tidewright-scaling`, shows what it decided and, in mode
//! Direct and while this process leads, writes it through the scale subresource. A follower decides as well: when it takes over it has seen as much.

mod memory;
mod observe;
mod plan;

use std::collections::{BTreeMap, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::{Client, ResourceExt};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

pub use memory::Step;
pub use plan::{Plan, Plans, Times, plan};

use crate::clock::SharedClock;
use crate::cluster::caches::Caches;
use crate::cluster::may_write::MayWrite;
use crate::cluster::scale;
use crate::domain::decided::{Decided, Decisions};
use crate::domain::published::{Published, ServiceKey};
use crate::error::Result;
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use memory::{Look, Memory};

/// Writes at a time.
const WRITES_AT_ONCE: usize = 16;
/// Longest time of one write: the next look must not wait for it for long.
const WRITE_TIMEOUT: Duration = Duration::from_secs(3);

/// What the autoscaler works with.
#[expect(missing_debug_implementations, reason = "a client has none")]
pub struct Autoscaler {
    /// Between two looks.
    pub interval: Duration,
    /// How old readings may be.
    pub times: Times,
    /// The API server.
    pub client: Client,
    /// Deployments and pods.
    pub caches: Arc<Caches>,
    /// Readings.
    pub published: Arc<Published>,
    /// What to decide about.
    pub plans: Arc<Plans>,
    /// What was decided.
    pub decisions: Arc<Decisions>,
    /// Whether we may write.
    pub may_write: MayWrite,
    /// Counters of our own.
    pub metrics: Metrics,
    /// Time.
    pub clock: SharedClock,
    /// Keeps what was decided.
    pub ledger: Arc<Ledger>,
    /// Told of a service whose decision has changed.
    pub changed: mpsc::Sender<ServiceKey>,
}

/// One number to be written.
struct Write {
    key: ServiceKey,
    deployment: String,
    uid: String,
    step: Step,
}

impl Autoscaler {
    /// Looks until `stop`.
    ///
    /// # Errors
    /// None: what fails is tried again at the next look.
    pub async fn run(self, stop: CancellationToken) -> Result<()> {
        let mut memories: HashMap<ServiceKey, Memory> = HashMap::new();
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = ticks.tick() => {}
            }
            self.look(&mut memories).await;
        }
    }

    async fn look(&self, memories: &mut HashMap<ServiceKey, Memory>) {
        let plans = self.plans.all();
        memories.retain(|key, _| plans.contains_key(key));
        let mut all = BTreeMap::new();
        let mut writes = Vec::new();
        for (key, plan) in plans.iter() {
            let memory = memories.entry(key.clone()).or_default();
            // Whatever one service brings along, the others are decided about.
            let looked = std::panic::catch_unwind(AssertUnwindSafe(|| self.decide(key, plan, memory)));
            match looked {
                Ok(Some((decided, steps))) => {
                    all.insert(key.clone(), decided);
                    writes.extend(steps);
                }
                Ok(None) => {}
                Err(_) => {
                    tracing::error!(service = %key, "deciding about it panicked; what was remembered of it is dropped");
                    *memory = Memory::default();
                }
            }
        }
        let outcomes: Vec<_> = futures::stream::iter(writes.into_iter().map(|write| self.write(write)))
            .buffer_unordered(WRITES_AT_ONCE)
            .collect()
            .await;
        for (key, problem) in outcomes {
            if let (Some(decided), Some(problem)) = (all.get_mut(&key), problem) {
                decided.problem = Some(problem);
            }
        }
        self.show(all);
    }

    fn decide(&self, key: &ServiceKey, plan: &Plan, memory: &mut Memory) -> Option<(Decided, Vec<Write>)> {
        let now = self.clock.now();
        let deployments = self.caches.deployments.controlled_if_listed(key, &plan.owner_uid)?;
        let deployments = Caches::by_pool(deployments);
        let pods = self.caches.pods(key)?;
        let read = |source: &plan::Source| {
            let pool = source.pool.clone().map(|pool| [pool]);
            let pools = pool.as_ref().map(<[String; 1]>::as_slice);
            self.published.reading(key, pools, &source.signal, now)
        };
        let seen = observe::observe(plan, &self.times, read, &deployments, &pods)?;
        let Look { decided, steps, record } =
            memory.look(plan, seen, observe::moment(now), self.ledger.wants_start(key));
        self.ledger.note(key, &record);
        let writes = steps.into_iter().filter(|_| plan.is_carried_out).filter_map(|step| {
            let deployment = deployments.get(&step.pool)?;
            Some(Write {
                key: key.clone(),
                deployment: deployment.name_any(),
                uid: deployment.uid()?,
                step,
            })
        });
        Some((decided, writes.collect()))
    }

    /// Writes one number; what went wrong, unless somebody else was faster, which the next look sees.
    async fn write(&self, write: Write) -> (ServiceKey, Option<String>) {
        let Write {
            key,
            deployment,
            uid,
            step,
        } = write;
        if !self.may_write.now() {
            return (key, None);
        }
        let scaling = scale::scale(&self.client, &key.namespace, &deployment, &uid, step.from, step.to);
        let problem = match tokio::time::timeout(WRITE_TIMEOUT, scaling).await {
            Ok(Ok(())) => {
                tracing::info!(service = %key, pool = step.pool, from = step.from, to = step.to, "scaled");
                self.metrics.wrote("scale", 1);
                None
            }
            Ok(Err(error)) if matches!(error.category(), "Conflict" | "Invalid" | "NotFound") => {
                tracing::debug!(service = %key, %error, "somebody else was faster");
                None
            }
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!(
                "scaling Deployment {}/{deployment} took longer than {}s",
                key.namespace,
                WRITE_TIMEOUT.as_secs()
            )),
        };
        if let Some(problem) = &problem {
            tracing::warn!(service = %key, problem, "not scaled");
        }
        (key, problem)
    }

    fn show(&self, all: BTreeMap<ServiceKey, Decided>) {
        let mut shown = BTreeMap::new();
        let mut pools = Vec::new();
        for (key, decided) in all {
            let before = self.decisions.get(&key);
            let is_same = before.as_ref().is_some_and(|before| before.is_same(&decided));
            pools.extend(
                decided
                    .pools
                    .iter()
                    .map(|(pool, of)| (key.clone(), pool.clone(), of.replicas)),
            );
            shown.insert(key.clone(), (Arc::new(decided), is_same));
        }
        self.metrics.decided(&pools);
        let changed: Vec<ServiceKey> = shown
            .iter()
            .filter(|(_, (_, is_same))| !is_same)
            .map(|(key, _)| key.clone())
            .collect();
        self.decisions
            .publish(shown.into_iter().map(|(key, (decided, _))| (key, decided)).collect());
        for key in changed {
            // Whoever does not hear of it looks by itself, some seconds later.
            let _ = self.changed.try_send(key);
        }
    }
}
