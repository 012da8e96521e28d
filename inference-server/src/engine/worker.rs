//! A thread with an engine of its own, which takes jobs and runs them; while it is idle a caller may use the engine. A panic or repeated failures cost the engine, never the thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Engine, Factory, RunError};
use crate::tensor::Tensor;

/// Something to run. It answers its callers itself.
pub trait Job: Send {
    /// Inputs of the whole batch.
    fn inputs(&self) -> &[Tensor];
    /// The same work as smaller jobs; empty when it cannot be divided.
    fn divide(&self) -> Vec<Box<dyn Job>>;
    /// Ends the job. `divided` jobs are ended by their parts and not by this.
    fn finish(self: Box<Self>, result: Result<Vec<Tensor>, RunError>);
}

/// What a worker wakes up for.
pub enum Wake {
    Job(Box<dyn Job>),
    /// Somebody else has used an engine, and it did not go well: each worker looks at his own.
    Check,
    /// There will be no more jobs.
    End,
}

/// Where a worker gets jobs from.
pub trait Source: Send + Sync {
    /// Blocks until there is something to do; `checks` is how many checks this worker has been told of.
    fn next(&self, checks: &mut u64) -> Wake;
    /// Tells all workers to look at their engines.
    fn check(&self);
    /// Whether the end is near: a worker that waits to rebuild its engine gives up then.
    fn is_closed(&self) -> bool;
}

/// What becomes of a worker's engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The engine is gone; the worker tries to make a new one.
    Lost,
    /// A new engine is in place.
    Rebuilt,
    /// The worker ended.
    Ended,
}

/// Told of every event.
pub type OnEvent = Arc<dyn Fn(Event) + Send + Sync>;

/// What a worker shares with its siblings.
#[derive(Clone)]
pub struct Shared {
    pub source: Arc<dyn Source>,
    pub factory: Factory,
    /// Workers with a working engine. Whoever starts a worker counts it.
    pub alive: Arc<AtomicUsize>,
    pub on_event: OnEvent,
}

/// Failures in a row (not blamed on the input) after which the session is taken for lost: a device error stays until the session is made anew.
const FAILURES_MAX: u32 = 3;
const PANICKED: &str = "the engine panicked";
const LOST: &str = "the engine was lost";
const REBUILD_DELAY_MIN: Duration = Duration::from_millis(200);
const REBUILD_DELAY_MAX: Duration = Duration::from_secs(30);

/// How a turn of the loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    Done,
    /// The engine fails again and again; it may be that what it was given is to blame.
    Worn,
    /// The engine is lost.
    Lost,
    /// There will be no more jobs.
    Last,
}

/// A worker's engine: his own, but when he is idle a caller may run something small on it himself.
#[derive(Default)]
pub struct Seat {
    seated: Mutex<Seated>,
    /// The worker has something to run: callers keep off.
    is_wanted: AtomicBool,
}

#[derive(Default)]
struct Seated {
    engine: Option<Box<dyn Engine>>,
    failures: u32,
}

impl Seat {
    /// With an engine.
    pub fn new(engine: Box<dyn Engine>) -> Self {
        let seat = Self::default();
        seat.put(engine);
        seat
    }

    fn lock(&self) -> MutexGuard<'_, Seated> {
        self.seated.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, engine: Box<dyn Engine>) {
        *self.lock() = Seated {
            engine: Some(engine),
            failures: 0,
        };
    }

    fn take(&self) -> Option<Box<dyn Engine>> {
        self.lock().engine.take()
    }

    /// How it stands without having run anything.
    fn look(&self) -> Turn {
        let seated = self.lock();
        if seated.engine.is_none() {
            return Turn::Lost;
        }
        turn_after(seated.failures)
    }

    fn run(&self, job: Box<dyn Job>) -> Turn {
        self.is_wanted.store(true, Ordering::Relaxed);
        let mut seated = self.lock();
        self.is_wanted.store(false, Ordering::Relaxed);
        seated.run(job)
    }

    /// Runs the job that `make` makes, on the caller's thread, if the engine is there and idle; `None` if it is not, or there is nothing to run.
    pub fn try_run(&self, make: &mut dyn FnMut() -> Option<Box<dyn Job>>) -> Option<Turn> {
        if self.is_wanted.load(Ordering::Relaxed) {
            return None;
        }
        let mut seated = self.seated.try_lock().ok()?;
        seated.engine.as_ref()?;
        let outcome = catch_unwind(AssertUnwindSafe(|| make().map(|job| seated.run(job))));
        let turn = outcome.unwrap_or_else(|_| {
            tracing::error!("a run on a caller's thread panicked outside the model, its engine is replaced");
            Some(Turn::Lost)
        })?;
        if turn == Turn::Lost {
            let broken = seated.engine.take();
            // A broken session may crash in its destructor.
            let _ = catch_unwind(AssertUnwindSafe(move || drop(broken)));
        }
        Some(turn)
    }
}

/// A place among the workers with an engine. However its thread ends, a panic included, it is given up: who is counted works.
struct Place<'a> {
    shared: &'a Shared,
    is_counted: bool,
}

impl Place<'_> {
    fn lose(&mut self) {
        self.leave();
        (self.shared.on_event)(Event::Lost);
    }

    /// Without a word: it has been said.
    fn leave(&mut self) {
        self.is_counted = false;
        self.shared.alive.fetch_sub(1, Ordering::Relaxed);
    }

    fn regain(&mut self) {
        self.is_counted = true;
        self.shared.alive.fetch_add(1, Ordering::Relaxed);
        (self.shared.on_event)(Event::Rebuilt);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.is_counted {
            self.shared.alive.fetch_sub(1, Ordering::Relaxed);
            (self.shared.on_event)(Event::Ended);
        }
    }
}

/// The thread's loop. It takes itself out of the count of the living while it has no engine.
///
/// A panic anywhere in a turn costs the engine, even if it came while a batch was put together or answered: what was under way is dropped, which
/// answers its callers, and nothing of it is used again.
pub fn work(seat: &Seat, shared: &Shared) {
    let mut place = Place {
        shared,
        is_counted: true,
    };
    let mut panics = 0;
    let mut checks = 0;
    loop {
        let turn = catch_unwind(AssertUnwindSafe(|| match shared.source.next(&mut checks) {
            Wake::Job(job) => seat.run(job),
            Wake::Check => seat.look(),
            Wake::End => Turn::Last,
        }));
        let is_worn = matches!(turn, Ok(Turn::Worn));
        match turn {
            Ok(Turn::Last) => return,
            Ok(Turn::Done) => {
                panics = 0;
                continue;
            }
            Ok(Turn::Worn | Turn::Lost) => panics = 0,
            Err(_) => {
                panics += 1;
                tracing::error!("a worker panicked outside the model's run, its engine is replaced");
            }
        }
        if is_worn {
            // It may be that the requests are to blame: others must not find nobody who serves, for the moment that another engine takes.
            (shared.on_event)(Event::Lost);
        } else {
            place.lose();
        }
        // A broken session may crash in its destructor: that must not take the thread. It goes first: there may be memory for one alone.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(seat.take())));
        if is_worn {
            if let Ok(Ok(fresh)) = catch_unwind(AssertUnwindSafe(|| (shared.factory)())) {
                seat.put(fresh);
                (shared.on_event)(Event::Rebuilt);
                continue;
            }
            place.leave();
        }
        if panics > 1 {
            // The same thing happens again and again: not as fast as the processor can.
            std::thread::sleep(delay_after(panics));
        }
        let Some(fresh) = rebuild(shared) else { return };
        seat.put(fresh);
        place.regain();
    }
}

/// Pause after so many panics in a row.
fn delay_after(panics: u32) -> Duration {
    REBUILD_DELAY_MIN
        .saturating_mul(1 << panics.saturating_sub(2).min(16))
        .min(REBUILD_DELAY_MAX)
}

impl Seated {
    /// Runs one job.
    fn run(&mut self, job: Box<dyn Job>) -> Turn {
        let Self { engine, failures } = self;
        let Some(engine) = engine else {
            job.finish(Err(RunError::Failed(LOST.to_owned())));
            return Turn::Lost;
        };
        let error = match attempt(engine, job.inputs()) {
            Ok(outputs) => {
                *failures = 0;
                job.finish(Ok(outputs));
                return Turn::Done;
            }
            Err(Trouble::Panicked) => {
                job.finish(Err(RunError::Failed(PANICKED.to_owned())));
                return Turn::Lost;
            }
            Err(Trouble::Refused(error)) => error,
        };
        let parts = job.divide();
        if parts.is_empty() {
            *failures += u32::from(matches!(error, RunError::Failed(_)));
            job.finish(Err(error));
            return turn_after(*failures);
        }
        drop(job);
        // One bad item must not fail the others in its batch: each is run alone. However many of them are bad, that is one failure, and none if another is
        // served: then it is not the engine.
        let mut is_served = false;
        let mut is_failed = matches!(error, RunError::Failed(_));
        let mut parts = parts.into_iter();
        while let Some(part) = parts.next() {
            match attempt(engine, part.inputs()) {
                Ok(outputs) => {
                    is_served = true;
                    part.finish(Ok(outputs));
                }
                Err(Trouble::Refused(error)) => {
                    is_failed |= matches!(error, RunError::Failed(_));
                    part.finish(Err(error));
                }
                Err(Trouble::Panicked) => {
                    part.finish(Err(RunError::Failed(PANICKED.to_owned())));
                    for rest in parts {
                        rest.finish(Err(RunError::Failed(LOST.to_owned())));
                    }
                    return Turn::Lost;
                }
            }
        }
        if is_served {
            *failures = 0;
        } else {
            *failures += u32::from(is_failed);
        }
        turn_after(*failures)
    }
}

fn turn_after(failures: u32) -> Turn {
    if failures < FAILURES_MAX {
        return Turn::Done;
    }
    tracing::error!(failures, "the engine failed repeatedly, it is replaced");
    Turn::Worn
}

enum Trouble {
    Panicked,
    Refused(RunError),
}

fn attempt(engine: &mut Box<dyn Engine>, inputs: &[Tensor]) -> Result<Vec<Tensor>, Trouble> {
    let outcome = catch_unwind(AssertUnwindSafe(|| engine.run(inputs))).map_err(|_| {
        tracing::error!("the engine panicked, it is replaced");
        Trouble::Panicked
    })?;
    outcome.map_err(Trouble::Refused)
}

fn rebuild(shared: &Shared) -> Option<Box<dyn Engine>> {
    let mut delay = REBUILD_DELAY_MIN;
    while !shared.source.is_closed() {
        match catch_unwind(AssertUnwindSafe(|| (shared.factory)())) {
            Ok(Ok(engine)) => return Some(engine),
            Ok(Err(error)) => tracing::error!(%error, retry_millis = delay.as_millis(), "cannot rebuild the engine"),
            Err(_) => tracing::error!(retry_millis = delay.as_millis(), "making the engine panicked"),
        }
        std::thread::sleep(delay);
        delay = (delay * 2).min(REBUILD_DELAY_MAX);
    }
    None
}

impl std::fmt::Debug for Wake {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Job(_) => "Job",
            Self::Check => "Check",
            Self::End => "End",
        })
    }
}

impl std::fmt::Debug for Seat {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Seat")
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Shared")
            .field("alive", &self.alive)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
