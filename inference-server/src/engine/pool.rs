//! The workers of one model: as many threads as engines, supervised, with a health that is counted and not assumed.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use super::worker::{OnEvent, Shared, Source, work};
use super::{Engine, Factory};

/// Threads of one model.
#[derive(Debug)]
pub struct Pool {
    size: usize,
    alive: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
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
        let threads = engines
            .into_iter()
            .enumerate()
            .map(|(index, engine)| {
                let shared = shared.clone();
                // The kernel shows 15 bytes of a thread's name.
                std::thread::Builder::new()
                    .name(format!("{name:.10}-{index}"))
                    .spawn(move || work(engine, &shared))
            })
            .collect::<io::Result<Vec<_>>>()?;
        Ok(Self { size, alive, threads })
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
