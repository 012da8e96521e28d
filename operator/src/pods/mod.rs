//! What the servers say of their load themselves, asked pod by pod: it is known here before Prometheus has scraped it.

mod ask;
mod history;
mod target;
mod turns;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use crate::clock::SharedClock;
use crate::domain::published::ServiceKey;
use ask::{Asker, Outcome};
pub use history::Figures;
use history::History;
pub use target::{Target, target};

/// The pods to be asked, by service and pool.
pub type Targets = BTreeMap<ServiceKey, BTreeMap<String, Vec<Target>>>;

/// What has been heard from pods.
#[derive(Debug)]
pub struct Pods {
    asker: Asker,
    clock: SharedClock,
    round: u64,
    histories: HashMap<String, History>,
}

impl Pods {
    /// Nothing has been heard yet.
    pub fn new(clock: SharedClock) -> Self {
        Self {
            asker: Asker::default(),
            clock,
            round: 0,
            histories: HashMap::new(),
        }
    }

    /// Asks every ready pod once, within half a second, and remembers what it says. How often it came to which outcome. What is not named is forgotten;
    /// one that is named and not ready is not.
    pub async fn listen(&mut self, targets: &Targets) -> BTreeMap<&'static str, u64> {
        self.round += 1;
        let known = || targets.values().flat_map(BTreeMap::values).flatten();
        let uids: BTreeSet<&str> = known().map(|target| target.uid.as_str()).collect();
        self.histories.retain(|uid, _| uids.contains(uid.as_str()));
        let ready = targets.iter().map(|(key, pools)| {
            let all = pools.values().flatten().filter(|target| target.is_ready);
            (key, all.cloned().collect())
        });
        let ready: Vec<(&ServiceKey, Vec<Target>)> = ready.collect();
        for target in ready.iter().flat_map(|(_, all)| all) {
            let history = self.histories.entry(target.uid.clone()).or_default();
            history.note_ready(target.ready_at);
        }
        let mut outcomes = BTreeMap::new();
        for (target, heard) in self.asker.round(ready, &self.clock).await {
            let history = self.histories.entry(target.uid).or_default();
            let outcome = match heard {
                Ok((said, at)) => {
                    history.note(&said, at, self.round);
                    Outcome::Ok
                }
                Err(outcome) => outcome,
            };
            if outcome == Outcome::NotFound {
                history.note_older();
            }
            *outcomes.entry(outcome.as_str()).or_default() += 1;
        }
        outcomes
    }

    /// What the pods of one pool come to, as of the last round; rates over the last `window`.
    pub fn figures(&self, targets: &[Target], window: Duration) -> Figures {
        let ready = || targets.iter().filter(|target| target.is_ready);
        let of = |target: &Target| self.histories.get(&target.uid);
        let older = ready()
            .filter(|target| of(target).is_some_and(History::is_older))
            .count();
        let heard = ready().map(|target| {
            let heard = of(target).filter(|history| history.is_of(self.round));
            (target.uid.as_str(), heard)
        });
        Figures {
            older: u32::try_from(older).unwrap_or(u32::MAX),
            ..history::figures(heard, window)
        }
    }
}

#[cfg(test)]
#[path = "mod_tests.rs"]
mod tests;
