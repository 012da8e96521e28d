//! The workers of one model: as many threads as engines, supervised, with a health that is counted and not assumed.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

use super::scheduling;
use super::worker::{Job, OnEvent, Seat, Shared, Source, Turn, work};
use super::{Engine, Factory};

/// Threads of one model.
#[derive(Debug)]
pub struct Pool {
    size: usize,
    alive: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
    express: Express,
}

/// Lets callers run small jobs on their own threads, on engines whose workers are idle: no other thread has to be woken for them.
#[derive(Clone)]
pub struct Express {
    seats: Arc<[Arc<Seat>]>,
    /// Of the workers, who keep it: what is kept by the source may keep this.
    source: Weak<dyn Source>,
    next: Arc<AtomicUsize>,
}

impl std::fmt::Debug for Express {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Express")
            .field("seats", &self.seats.len())
            .finish_non_exhaustive()
    }
}

impl Express {
    /// Runs the job that `make` makes, if an engine is idle; `false` if none is, or nothing was made. A panic of the engine is told as by a worker.
    pub fn try_run(&self, make: &mut dyn FnMut() -> Option<Box<dyn Job>>) -> bool {
        // Begun where the last one was not, so that not everyone tries the same.
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let count = self.seats.len();
        for position in 0..count {
            let Some(seat) = self.seats.get((first + position) % count) else {
                continue;
            };
            if let Some(turn) = seat.try_run(make) {
                if turn != Turn::Done
                    && let Some(source) = self.source.upgrade()
                {
                    source.check();
                }
                return true;
            }
        }
        false
    }
}

impl Pool {
    /// Starts a thread for each engine.
    pub fn start(
        name: &str,
        engines: Vec<Box<dyn Engine>>,
        factory: Factory,
        source: Arc<dyn Source>,
        on_event: OnEvent,
        alive: Arc<AtomicUsize>,
    ) -> io::Result<Self> {
        let size = engines.len();
        alive.store(size, Ordering::Relaxed);
        let shared = Shared {
            source,
            factory,
            alive: Arc::clone(&alive),
            on_event,
        };
        let source = Arc::downgrade(&shared.source);
        let seats: Arc<[Arc<Seat>]> = engines.into_iter().map(|engine| Arc::new(Seat::new(engine))).collect();
        let threads = seats
            .iter()
            .enumerate()
            .map(|(index, seat)| {
                let seat = Arc::clone(seat);
                let shared = shared.clone();
                // The kernel shows 15 bytes of a thread's name.
                std::thread::Builder::new()
                    .name(format!("{name:.10}-{index}"))
                    .spawn(move || {
                        scheduling::give_way();
                        work(&seat, &shared);
                    })
            })
            .collect::<io::Result<Vec<_>>>()?;
        Ok(Self {
            size,
            alive,
            threads,
            express: Express {
                seats,
                source,
                next: Arc::default(),
            },
        })
    }

    /// The way past the threads.
    pub fn express(&self) -> Express {
        self.express.clone()
    }

    /// Workers, working or not.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Workers that have an engine.
    pub fn alive(&self) -> usize {
        self.alive.load(Ordering::Relaxed)
    }

    /// Waits until the threads have ended; the source must be closed before.
    pub fn join(self) {
        for thread in self.threads {
            // A thread that died has said so, and is not counted any more.
            let _ = thread.join();
        }
    }
}
