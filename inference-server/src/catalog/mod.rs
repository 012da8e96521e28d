//! The models of the server while it runs: requests borrow one, orders load and unload them, and whoever waits for one is told of changes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tidewright_contract::config::ModelConfig;
use tokio::sync::{mpsc, oneshot, watch};

use self::table::{Absent, Cause, Look, Phase, Table};
use crate::clock;
use crate::error::Error;
use crate::model::source::LoadError;
use crate::pipeline::Serving;

mod failure;
mod lease;
pub mod table;

pub use self::failure::Failure;
pub use self::lease::{Lease, Loaded};

/// Orders that may wait to be carried out.
const ORDERS_MAX: usize = 256;

/// A model that a request names, and a version if it names one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelRef<'a> {
    pub name: &'a str,
    pub version: Option<&'a str>,
}

/// Something to be done about a model.
#[derive(Debug)]
pub struct Order {
    pub index: usize,
    pub kind: Kind,
    /// Told how it ended; nobody, where a request for inference made it.
    pub reply: Option<oneshot::Sender<Result<(), LoadError>>>,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Load it, or load it anew.
    Load,
    Unload,
}

/// One line of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub name: String,
    pub version: String,
    pub phase: Phase,
    pub serves: bool,
}

/// The models.
#[derive(Debug)]
pub struct Catalog {
    table: RwLock<Table<Loaded>>,
    changes: watch::Sender<()>,
    orders: mpsc::Sender<Order>,
    /// Requests that wait for a model, and how many may.
    waiting: AtomicUsize,
    waiting_max: usize,
    /// What `/api/v1/predict` means.
    first: Option<String>,
    began: Instant,
}

impl Catalog {
    /// Models, the first of which is meant by requests that name none; and the orders that requests will give. At most `waiting_max` requests wait
    /// for models at once.
    pub fn new(models: &[ModelConfig], waiting_max: usize) -> (Self, mpsc::Receiver<Order>) {
        let mut table = Table::default();
        for model in models {
            table.add(model.clone());
        }
        let (orders, receiver) = mpsc::channel(ORDERS_MAX);
        let catalog = Self {
            table: RwLock::new(table),
            changes: watch::Sender::new(()),
            orders,
            waiting: AtomicUsize::new(0),
            waiting_max,
            first: models.first().map(|model| model.name.clone()),
            began: clock::now(),
        };
        (catalog, receiver)
    }

    /// Takes in more models; those that are known stay as they are.
    pub fn add(&self, models: Vec<ModelConfig>) {
        self.change(|table| {
            for model in models {
                table.add(model);
            }
        });
    }

    /// Looks into the table.
    pub fn read<T>(&self, look: impl FnOnce(&Table<Loaded>) -> T) -> T {
        look(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the table, and tells whoever waits for a change.
    pub fn change<T>(&self, change: impl FnOnce(&mut Table<Loaded>) -> T) -> T {
        let result = change(&mut self.table.write().unwrap_or_else(PoisonError::into_inner));
        self.changes.send_replace(());
        result
    }

    /// Told of every change.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// The model that is meant: the named one, or the first.
    fn meant<'a>(&'a self, wanted: Option<ModelRef<'a>>) -> Result<ModelRef<'a>, Error> {
        let first = || {
            let name = self.first.as_deref()?;
            Some(ModelRef { name, version: None })
        };
        wanted.or_else(first).ok_or_else(|| {
            Error::NotFound("no model answers this path: the config names none, only a directory of them".to_owned())
        })
    }

    /// Whether there is such a model, loaded or not.
    pub fn check(&self, wanted: Option<ModelRef<'_>>) -> Result<(), Error> {
        self.meant_indices(self.meant(wanted)?).map(|_| ())
    }

    /// Where the versions that are meant are, the newest first.
    pub fn meant_indices(&self, wanted: ModelRef<'_>) -> Result<Vec<usize>, Error> {
        self.read(|table| table.meant(wanted.name, wanted.version))
            .map_err(refusal)
    }

    /// The model, if it serves; `None` if a request would have to wait for it.
    pub fn find(&self, wanted: ModelRef<'_>) -> Result<Option<Lease>, Error> {
        // Whoever asks how it does has no use for it.
        Ok(self.look(wanted, false)?.ok())
    }

    /// Requests that wait for a model.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// The model, loaded first where it must be; waits for that until the deadline.
    pub async fn lease(&self, wanted: Option<ModelRef<'_>>, deadline: Instant) -> Result<Lease, Error> {
        let wanted = self.meant(wanted)?;
        if let Ok(lease) = self.look(wanted, true)? {
            return Ok(lease);
        }
        // Boxed: seldom needed.
        Box::pin(self.lease_later(wanted, deadline)).await
    }

    /// The model, once it is loaded.
    async fn lease_later(&self, wanted: ModelRef<'_>, deadline: Instant) -> Result<Lease, Error> {
        let _place = self.wait()?;
        loop {
            // From before the look: no change is missed.
            let mut changes = self.changes();
            match self.look(wanted, true)? {
                Ok(lease) => return Ok(lease),
                Err(Look::Load(index)) => self.demand(index)?,
                Err(_) => {}
            }
            let left = deadline.saturating_duration_since(clock::now());
            if tokio::time::timeout(left, changes.changed()).await.is_err() {
                return Err(Error::Deadline);
            }
        }
    }

    fn look(&self, wanted: ModelRef<'_>, is_use: bool) -> Result<Result<Lease, Look>, Error> {
        let now = clock::now();
        self.read(|table| {
            let look = table.look(wanted.name, wanted.version, now).map_err(refusal)?;
            let Look::Serve(index) = look else { return Ok(Err(look)) };
            let Some(loaded) = table.get(index).and_then(|entry| entry.loaded.as_ref()) else {
                return Ok(Err(Look::Wait));
            };
            if is_use {
                let used = now.saturating_duration_since(self.began).as_micros();
                table.used(index, u64::try_from(used).unwrap_or(u64::MAX));
            }
            // Under the lock: whoever takes the model out sees the token.
            Ok(Ok(loaded.lease()))
        })
    }

    fn wait(&self) -> Result<Place<'_>, Error> {
        let place = Place(&self.waiting);
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        if before < self.waiting_max {
            return Ok(place);
        }
        Err(Error::Overloaded {
            message: format!("{before} requests wait for models to be loaded"),
            retry_after: Duration::from_secs(1),
        })
    }

    /// Orders a model for a request, unless another one has by now.
    fn demand(&self, index: usize) -> Result<(), Error> {
        let now = clock::now();
        let is_first = self.change(|table| {
            let entry = table.get_mut(index)?;
            entry
                .is_loadable(now)
                .then(|| std::mem::replace(&mut entry.phase, Phase::Loading))
        });
        let Some(before) = is_first else { return Ok(()) };
        let order = Order {
            index,
            kind: Kind::Load,
            reply: None,
        };
        if self.orders.try_send(order).is_err() {
            self.change(|table| table.get_mut(index).map(|entry| entry.phase = before));
            return Err(Error::Overloaded {
                message: "too many models wait to be loaded".to_owned(),
                retry_after: Duration::from_secs(1),
            });
        }
        Ok(())
    }

    /// Has something done about a model and waits for the end of it.
    ///
    /// # Errors
    /// Why it could not be loaded; `None` when the server is stopping.
    pub async fn order(&self, index: usize, kind: Kind) -> Result<(), Option<LoadError>> {
        let (reply, answer) = oneshot::channel();
        let order = Order {
            index,
            kind,
            reply: Some(reply),
        };
        self.orders.send(order).await.map_err(|_| None)?;
        answer.await.map_err(|_| None)?.map_err(Some)
    }

    /// Puts a model in place; gives back the one that it replaces.
    pub fn install(&self, index: usize, loaded: Loaded, bytes: u64) -> Option<Loaded> {
        let now = clock::now().saturating_duration_since(self.began).as_micros();
        self.change(|table| {
            table.used(index, u64::try_from(now).unwrap_or(u64::MAX));
            let entry = table.get_mut(index)?;
            entry.phase = Phase::Ready;
            entry.bytes = bytes;
            entry.loaded.replace(loaded)
        })
    }

    /// Takes a model out; no request gets it from now on.
    pub fn withdraw(&self, index: usize, cause: Cause) -> Option<Loaded> {
        self.change(|table| {
            let entry = table.get_mut(index)?;
            let loaded = entry.loaded.take();
            entry.phase = if loaded.is_some() {
                Phase::Unloading(cause)
            } else {
                after(cause)
            };
            loaded
        })
    }

    /// A model that was taken out is gone.
    pub fn gone(&self, index: usize, cause: Cause) {
        self.change(|table| {
            let Some(entry) = table.get_mut(index) else { return };
            // Another may have taken its place meanwhile, or may be about to.
            if entry.loaded.is_none() {
                entry.bytes = 0;
            }
            if entry.phase == Phase::Unloading(cause) {
                entry.phase = after(cause);
            }
        });
    }

    /// A load failed; what served before still does.
    pub fn failed(&self, index: usize, error: &LoadError) {
        let at = clock::now();
        self.change(|table| {
            if let Some(entry) = table.get_mut(index) {
                entry.phase = if entry.loaded.is_some() {
                    Phase::Ready
                } else {
                    Phase::Failed {
                        reason: error.reason,
                        message: error.message.clone(),
                        at,
                    }
                };
            }
        });
    }

    /// The versions of a model that requests get, the newest last.
    pub fn available(&self, name: &str) -> Vec<String> {
        self.read(|table| table.available(name))
    }

    /// The models that serve.
    pub fn serving(&self) -> Vec<Arc<Serving>> {
        self.read(|table| {
            let loaded = table.entries().iter().filter(|entry| entry.serves());
            loaded
                .filter_map(|entry| Some(Arc::clone(&entry.loaded.as_ref()?.serving)))
                .collect()
        })
    }

    /// All models with their states.
    pub fn index(&self) -> Vec<Status> {
        self.read(|table| {
            let status = |entry: &table::Entry<Loaded>| Status {
                name: entry.config.name.clone(),
                version: entry.config.version.clone(),
                phase: entry.phase.clone(),
                serves: entry.serves(),
            };
            table.entries().iter().map(status).collect()
        })
    }

    /// The models that could not be loaded; their sentences name no file.
    pub fn failures(&self) -> Vec<Failure> {
        let failure = |table::Entry { config, phase, .. }: &table::Entry<Loaded>| match phase {
            Phase::Failed { reason, message, .. } => Some(Failure {
                name: config.name.clone(),
                version: config.version.clone(),
                reason: *reason,
                message: failure::without_paths(message, &config.path),
            }),
            _ => None,
        };
        self.read(|table| table.entries().iter().filter_map(failure).collect())
    }

    /// Takes all models out, when the server ends.
    pub fn take_all(&self) -> Vec<Loaded> {
        self.change(|table| {
            (0..table.entries().len())
                .filter_map(|index| {
                    let entry = table.get_mut(index)?;
                    entry.phase = Phase::Unloaded;
                    entry.loaded.take()
                })
                .collect()
        })
    }
}

/// A place among those who wait.
#[derive(Debug)]
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn after(cause: Cause) -> Phase {
    match cause {
        Cause::Request => Phase::Unloaded,
        Cause::Memory => Phase::Dormant,
    }
}

fn refusal(absent: Absent) -> Error {
    match absent {
        Absent::Unknown(message) | Absent::Unloaded(message) => Error::NotFound(message),
        Absent::Failed(message) => Error::NotReady(message),
    }
}
