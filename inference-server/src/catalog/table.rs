//! Which models there are and what became of each, as plain data: which one a request means, whether it has to be loaded, and who goes when
//! another needs the memory. It knows no thread, no clock and no tensor.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::atomic::{self, AtomicU64};
use std::time::{Duration, Instant};

use tidewright_contract::config::ModelConfig;
use tidewright_contract::exit::Reason;

use crate::error::clip;

/// After a load that failed: time until a request for inference tries it again.
pub const RETRY_AFTER: Duration = Duration::from_secs(10);
/// Names that a message lists.
const LISTED_MAX: usize = 20;

/// Why a model goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Somebody asked for it.
    Request,
    /// Another model needs the memory.
    Memory,
}

/// What became of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Not loaded, and loaded by the next request that needs it.
    Dormant,
    /// Being loaded; one that is loaded anew serves meanwhile.
    Loading,
    Ready,
    /// No request gets it any more; those that have it are being answered.
    Unloading(Cause),
    /// Not loaded, as asked; no request for inference loads it.
    Unloaded,
    Failed {
        reason: Reason,
        message: String,
        at: Instant,
    },
}

/// One version of a model; `L` is what serves it.
#[derive(Debug)]
pub struct Entry<L> {
    pub config: ModelConfig,
    pub phase: Phase,
    pub loaded: Option<L>,
    /// Of what is loaded.
    pub bytes: u64,
    /// When a request last got it, in the caller's count.
    used: AtomicU64,
}

/// What a request is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// This one serves.
    Serve(usize),
    /// This one has to be loaded.
    Load(usize),
    /// It comes, or goes and may come back: look again after a change.
    Wait,
}

/// Why there is nothing to serve a request with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absent {
    /// There is no such model or version.
    Unknown(String),
    /// It is not loaded, and will not be for this request.
    Unloaded(String),
    /// It cannot be loaded, for now.
    Failed(String),
}

/// All models. Entries stay where they are once they are in.
#[derive(Debug)]
pub struct Table<L> {
    entries: Vec<Entry<L>>,
    by_name: HashMap<String, Vec<usize>>,
}

impl<L> Default for Table<L> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            by_name: HashMap::new(),
        }
    }
}

impl<L> Table<L> {
    /// Adds a model, or answers where it is already.
    pub fn add(&mut self, config: ModelConfig) -> usize {
        if let Some(index) = self.position(&config.name, &config.version) {
            return index;
        }
        let index = self.entries.len();
        let versions = self.by_name.entry(config.name.clone()).or_default();
        versions.push(index);
        self.entries.push(Entry {
            config,
            phase: Phase::Dormant,
            loaded: None,
            bytes: 0,
            used: AtomicU64::new(0),
        });
        let entries = &self.entries;
        // The version that a request without one means comes first.
        versions.sort_by(|a, b| newest_first(&entries[*a].config.version, &entries[*b].config.version));
        index
    }

    /// All models, in the order in which they were added.
    pub fn entries(&self) -> &[Entry<L>] {
        &self.entries
    }

    /// One of them.
    pub fn get(&self, index: usize) -> Option<&Entry<L>> {
        self.entries.get(index)
    }

    /// One of them.
    pub fn get_mut(&mut self, index: usize) -> Option<&mut Entry<L>> {
        self.entries.get_mut(index)
    }

    /// Where the version of the model is.
    fn position(&self, name: &str, version: &str) -> Option<usize> {
        let mut versions = self.by_name.get(name)?.iter().copied();
        versions.find(|index| self.entries[*index].config.version == version)
    }

    /// The versions that are meant by a name and perhaps a version, the newest first.
    ///
    /// # Errors
    /// [`Absent::Unknown`], which says what there is.
    pub fn meant(&self, name: &str, version: Option<&str>) -> Result<Vec<usize>, Absent> {
        let Some(versions) = self.by_name.get(name) else {
            let names = self.entries.iter().map(|entry| entry.config.name.as_str());
            return Err(Absent::Unknown(format!(
                "no model {:?}; the models: {}",
                clip(name),
                list(names)
            )));
        };
        let Some(version) = version else {
            return Ok(versions.clone());
        };
        let version_of = |index: &usize| self.entries[*index].config.version.as_str();
        match versions.iter().find(|index| version_of(index) == version) {
            Some(index) => Ok(vec![*index]),
            None => Err(Absent::Unknown(format!(
                "model {name:?} has no version {:?}; the versions: {}",
                clip(version),
                list(versions.iter().map(version_of))
            ))),
        }
    }

    /// The versions of a model that requests get, loaded first where they have to be; the newest last, as other servers list them.
    pub fn available(&self, name: &str) -> Vec<String> {
        let versions = self.by_name.get(name).into_iter().flatten().rev();
        let entries = versions.filter_map(|index| self.entries.get(*index));
        let is_available = |entry: &&Entry<L>| entry.serves() || entry.is_awaited() || entry.phase == Phase::Dormant;
        entries
            .filter(is_available)
            .map(|entry| entry.config.version.clone())
            .collect()
    }

    /// What a request for inference gets: of the versions that are meant the newest that serves, else one that can be loaded, else one that is
    /// awaited.
    pub fn look(&self, name: &str, version: Option<&str>, now: Instant) -> Result<Look, Absent> {
        let meant = self.meant(name, version)?;
        let of = |index: &usize| self.entries.get(*index);
        if let Some(index) = meant.iter().find(|index| of(index).is_some_and(Entry::serves)) {
            return Ok(Look::Serve(*index));
        }
        for index in &meant {
            let Some(entry) = of(index) else { continue };
            if entry.is_loadable(now) {
                return Ok(Look::Load(*index));
            }
            if entry.is_awaited() {
                return Ok(Look::Wait);
            }
        }
        Err(match meant.first().and_then(of).map(|entry| &entry.phase) {
            // Its sentence may show paths of the server; the index of the repository has it.
            Some(Phase::Failed { reason, .. }) => {
                Absent::Failed(format!("model {name:?} could not be loaded: {}", reason.as_str()))
            }
            _ => Absent::Unloaded(format!("model {name:?} is not loaded")),
        })
    }

    /// Notes that a request got the model at this time.
    pub fn used(&self, index: usize, at: u64) {
        if let Some(entry) = self.entries.get(index) {
            entry.used.fetch_max(at, atomic::Ordering::Relaxed);
        }
    }

    /// Bytes of everything that is loaded.
    pub fn loaded_bytes(&self) -> u64 {
        self.entries.iter().map(|entry| entry.bytes).sum()
    }

    /// Who has to go so that `more` bytes fit under `limit`; `stays` never goes. Those that no request has now come first, whose memory is free at
    /// once; among them, and among the others, the least recently used.
    ///
    /// # Errors
    /// When they do not fit even then: how many bytes could be free.
    pub fn victims(
        &self,
        more: u64,
        limit: u64,
        stays: usize,
        is_busy: impl Fn(&L) -> bool,
    ) -> Result<Vec<usize>, u64> {
        let mut held = self.loaded_bytes();
        let mut candidates: Vec<(bool, u64, usize)> = Vec::new();
        for (index, entry) in self.entries.iter().enumerate() {
            if let Some(loaded) = entry.loaded.as_ref().filter(|_| index != stays && entry.bytes > 0) {
                candidates.push((is_busy(loaded), entry.used.load(atomic::Ordering::Relaxed), index));
            }
        }
        candidates.sort_unstable();
        let mut victims = Vec::new();
        let mut candidates = candidates.into_iter();
        while held.saturating_add(more) > limit {
            let Some((_, _, index)) = candidates.next() else {
                return Err(limit.saturating_sub(held));
            };
            held -= self.entries[index].bytes;
            victims.push(index);
        }
        Ok(victims)
    }
}

impl<L> Entry<L> {
    /// Whether requests get it.
    pub fn serves(&self) -> bool {
        self.loaded.is_some() && !matches!(self.phase, Phase::Unloading(_))
    }

    /// Whether it comes, or comes back, by itself.
    fn is_awaited(&self) -> bool {
        match self.phase {
            Phase::Loading | Phase::Ready => true,
            // What made room comes back.
            Phase::Unloading(cause) => cause == Cause::Memory,
            _ => false,
        }
    }

    /// Whether a request may have it loaded.
    pub fn is_loadable(&self, now: Instant) -> bool {
        match self.phase {
            Phase::Dormant => true,
            Phase::Failed { at, .. } => now.saturating_duration_since(at) >= RETRY_AFTER,
            _ => false,
        }
    }
}

/// Versions that are numbers by their value, before all others; those by their characters.
fn newest_first(a: &str, b: &str) -> Ordering {
    match (a.parse::<u64>(), b.parse::<u64>()) {
        (Ok(a), Ok(b)) => b.cmp(&a),
        (Ok(_), Err(_)) => Ordering::Less,
        (Err(_), Ok(_)) => Ordering::Greater,
        (Err(_), Err(_)) => b.cmp(a),
    }
}

/// Words for a message, the first of them where there are many.
fn list<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let mut all: Vec<&str> = Vec::new();
    for word in words {
        if !all.contains(&word) {
            all.push(word);
        }
        if all.len() > LISTED_MAX {
            break;
        }
    }
    let more = all.len() > LISTED_MAX;
    all.truncate(LISTED_MAX);
    format!("{all:?}{}", if more { " and more" } else { "" })
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
