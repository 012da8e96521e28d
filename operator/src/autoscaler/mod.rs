//! The operator's own autoscaler: each second (in mode Hpa, where nobody has asked for it, each 15 s) it looks, decides by `tidewright-scaling`, shows
//! what it decided and, in mode Direct and while this process leads, writes it through the scale subresource. A follower decides as well: when it takes over it has seen as much.

mod asked;
mod memory;
mod observe;
mod plan;
mod reader;
mod refusals;
mod removal;
mod signals;
mod usage;
mod writes;

use std::collections::{BTreeMap, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use kube::{Client, ResourceExt};
use tidewright_scaling::Observations;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

pub use memory::Step;
pub use observe::timestamp;
pub use plan::{Plan, Plans, Times, floors, plan};
pub use signals::sources_of;

use crate::clock::SharedClock;
use crate::cluster::caches::Caches;
use crate::cluster::may_write::MayWrite;
use crate::domain::decided::{Decided, Decisions};
use crate::domain::published::{Published, ServiceKey};
use crate::domain::usage::{Answer, Used};
use crate::error::Result;
use crate::ledger::Ledger;
use crate::metrics::{Metrics, Trusted};
use crate::pods::Pods;
use memory::{Look, Memory};
use writes::{Write, Writer, Writes};

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

impl Autoscaler {
    /// Looks until `stop`.
    ///
    /// # Errors
    /// None: what fails is tried again at the next look.
    pub async fn run(self, stop: CancellationToken) -> Result<()> {
        let used = Used::default();
        tokio::select! {
            () = self.looks(&used, &stop) => {}
            () = reader::follow(&self.client, &self.plans, &used) => {}
        }
        Ok(())
    }

    async fn looks(&self, used: &Used, stop: &CancellationToken) {
        let mut memories: HashMap<ServiceKey, Memory> = HashMap::new();
        let writer = Writer::new(self.client.clone(), self.may_write.clone(), self.metrics.clone());
        let mut writes = Writes::of(&writer);
        let mut pods = Pods::new(Arc::clone(&self.clock));
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // Somebody else leads soon: nothing of ours may come after.
                () = stop.cancelled() => return writes.finish().await,
                () = writes.go_on() => continue,
                _ = ticks.tick() => {}
            }
            self.look(&mut memories, &mut writes, &mut pods, used).await;
        }
    }

    async fn look(
        &self,
        memories: &mut HashMap<ServiceKey, Memory>,
        writes: &mut Writes<'_>,
        pods: &mut Pods,
        used: &Used,
    ) {
        let plans = self.plans.all();
        let targets = asked::targets(&plans, &self.caches);
        self.metrics.asked(&pods.listen(&targets).await);
        memories.retain(|key, _| plans.contains_key(key));
        let used = used.load_full();
        let mut all = BTreeMap::new();
        let mut wanted = Vec::new();
        let mut signals = Vec::new();
        for (key, plan) in plans.iter() {
            let memory = memories.entry(key.clone()).or_default();
            let now = self.clock.now();
            if let Some((decided, trusted)) = memory.still_shown(plan, now) {
                signals.extend(trusted.into_iter().map(|trusted| (key.clone(), trusted)));
                all.insert(key.clone(), decided);
                continue;
            }
            // Whatever one service brings along, the others are decided about.
            let looked = std::panic::catch_unwind(AssertUnwindSafe(|| {
                let said = asked::said(plan, targets.get(key), pods);
                self.decide(key, plan, memory, &said, &used)
            }));
            match looked {
                Ok(Some((decided, steps, trusted))) => {
                    memory.show(plan, now, &decided, &trusted);
                    signals.extend(trusted.into_iter().map(|trusted| (key.clone(), trusted)));
                    all.insert(key.clone(), decided);
                    wanted.extend(steps);
                }
                Ok(None) => {}
                Err(_) => {
                    tracing::error!(service = %key, "deciding about it panicked; what was remembered of it is dropped");
                    *memory = Memory::default();
                }
            }
        }
        for (key, problem) in writes.problems() {
            if let Some(decided) = all.get_mut(key) {
                decided.problem = Some(problem.clone());
            }
        }
        writes.begin(wanted);
        self.metrics.trusted(&signals);
        self.show(all);
    }

    fn decide(
        &self,
        key: &ServiceKey,
        plan: &Plan,
        memory: &mut Memory,
        said: &observe::Said,
        used: &Answer,
    ) -> Option<(Decided, Vec<Write>, Vec<Trusted>)> {
        let now = self.clock.now();
        let (asking, plan) = (plan, asked::believed(plan, said));
        let deployments = self.caches.deployments.controlled_if_listed(key, &plan.owner_uid)?;
        let deployments = Caches::by_pool(deployments);
        let pods = self.caches.pods(key)?;
        let read = |source: &signals::Source| {
            let pool = source.pool.clone().map(|pool| [pool]);
            let pools = pool.as_ref().map(<[String; 1]>::as_slice);
            self.published.reading(key, pools, &source.signal, now)
        };
        let of_servers = |of: &signals::Use| usage::reading(of, &pods, used, now);
        let seen = Observations {
            floors: plan.floors(now),
            ..observe::observe(plan, &self.times, read, of_servers, &deployments, &pods, said)?
        };
        let Look {
            mut decided,
            steps,
            record,
        } = memory.look(plan, seen, observe::moment(now), self.ledger.wants_start(key));
        self.ledger.note(key, &record);
        if let (Some(unmeasured), Answer::Failed(why)) = (&mut decided.unmeasured, used) {
            *unmeasured = format!("{unmeasured} ({why})");
        }
        if memory.are_older_now(!std::ptr::eq(asking, plan)) {
            tracing::info!(service = %key, "its servers are of an earlier version and cannot be asked: Prometheus decides alone");
        }
        let trusted = asked::trusted(&record);
        let writes = steps.into_iter().filter(|_| plan.is_carried_out).filter_map(|step| {
            let deployment = deployments.get(&step.pool)?;
            let name = deployment.name_any();
            let removed = usize::try_from(step.from.saturating_sub(step.to)).unwrap_or(0);
            let nobody = BTreeMap::new();
            let in_flight = said.get(&step.pool).map_or(&nobody, |of_pool| &of_pool.in_flight);
            Some(Write {
                key: key.clone(),
                uid: deployment.uid()?,
                costs: removal::costs(&pods, &name, in_flight, removed),
                deployment: name,
                step,
            })
        });
        Some((decided, writes.collect(), trusted))
    }

    fn show(&self, all: BTreeMap<ServiceKey, Decided>) {
        self.metrics.decided(&all, self.clock.now());
        let mut shown = BTreeMap::new();
        for (key, decided) in all {
            let before = self.decisions.get(&key);
            let is_same = before.as_ref().is_some_and(|before| before.is_same(&decided));
            shown.insert(key, (Arc::new(decided), is_same));
        }
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
