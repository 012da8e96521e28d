//! How many requests may be under way at once, and how many bytes of bodies they may hold: permits, given back when they are dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::Error;

/// Counts the requests under way.
#[derive(Debug)]
pub struct Admission {
    current: AtomicU32,
    /// 0: unlimited.
    limit: u32,
    gauge: Gauge,
}

/// The right to be under way.
#[derive(Debug)]
#[must_use = "dropping the permit ends the request's place"]
pub struct Permit(Arc<Admission>);

impl Admission {
    /// Nobody under way.
    pub fn new(limit: u32, gauge: Gauge) -> Arc<Self> {
        Arc::new(Self {
            current: AtomicU32::new(0),
            limit,
            gauge,
        })
    }

    /// Requests under way.
    pub fn current(&self) -> u32 {
        self.current.load(Ordering::Relaxed)
    }

    /// A permit, or `Overloaded` when the limit is reached.
    pub fn enter(self: &Arc<Self>) -> Result<Permit, Error> {
        let before = self.current.fetch_add(1, Ordering::Relaxed);
        self.gauge.inc();
        let permit = Permit(Arc::clone(self));
        if self.limit > 0 && before >= self.limit {
            return Err(Error::Overloaded {
                message: format!("{} requests are under way, the limit", self.limit),
                retry_after: Duration::from_secs(1),
            });
        }
        Ok(permit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.current.fetch_sub(1, Ordering::Relaxed);
        self.0.gauge.dec();
    }
}

/// Bytes of bodies that may be held at once, in units of [`UNIT_BYTES`]: who sends slowly holds them for long. Clones share them.
#[derive(Debug, Clone)]
pub struct Bodies {
    free: Arc<Semaphore>,
    limit_bytes: u64,
}

/// What a semaphore counts: fine enough for a small body, and its largest number is terabytes.
const UNIT_BYTES: u64 = 1024;

/// The bytes that one request holds. They are given back when it is dropped.
#[derive(Debug)]
pub struct Room {
    bodies: Bodies,
    held: Option<OwnedSemaphorePermit>,
}

impl Bodies {
    /// So many in all.
    pub fn new(limit_bytes: u64) -> Self {
        let units = usize::try_from(limit_bytes.div_ceil(UNIT_BYTES)).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            free: Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))),
            limit_bytes,
        }
    }

    /// Room for one request, which has none yet.
    pub fn room(&self) -> Room {
        Room {
            bodies: self.clone(),
            held: None,
        }
    }
}

impl Room {
    /// Gives all of it back.
    pub fn release(&mut self) {
        self.held = None;
    }

    /// Makes it hold so many bytes, if they are free. A request that is alone may hold all that there are, whatever it needs.
    ///
    /// # Errors
    /// `Overloaded` if other requests hold them.
    pub fn grow(&mut self, bytes: u64) -> Result<(), Error> {
        let held = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let bytes = bytes.min(self.bodies.limit_bytes);
        let wanted = usize::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(usize::MAX);
        let more = u32::try_from(wanted.saturating_sub(held)).unwrap_or(u32::MAX);
        if more == 0 {
            return Ok(());
        }
        let Ok(permit) = Arc::clone(&self.bodies.free).try_acquire_many_owned(more) else {
            return Err(Error::Overloaded {
                message: format!(
                    "the bodies of other requests take most of the {} bytes that there are for them",
                    self.bodies.limit_bytes
                ),
                retry_after: Duration::from_secs(1),
            });
        };
        match &mut self.held {
            Some(held) => held.merge(permit),
            None => self.held = Some(permit),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_holds_and_places_come_back() {
        let admission = Admission::new(2, Gauge::default());
        let first = admission.enter().unwrap();
        let _second = admission.enter().unwrap();
        assert!(matches!(admission.enter(), Err(Error::Overloaded { .. })));
        assert_eq!(admission.current(), 2);
        drop(first);
        assert!(admission.enter().is_ok());
        let unlimited = Admission::new(0, Gauge::default());
        assert!(
            (0..1000)
                .map(|_| unlimited.enter())
                .collect::<Result<Vec<_>, _>>()
                .is_ok()
        );
    }

    #[test]
    fn bodies_share_what_there_is_and_give_it_back() {
        let bodies = Bodies::new(10 * 1024);
        let mut one = bodies.room();
        one.grow(1).unwrap();
        one.grow(6 * 1024).unwrap();
        one.grow(2 * 1024).unwrap();
        let mut other = bodies.room();
        other.grow(4 * 1024).unwrap();
        assert!(matches!(other.grow(4 * 1024 + 1), Err(Error::Overloaded { .. })));
        one.release();
        other.grow(10 * 1024).unwrap();
        assert!(bodies.room().grow(1).is_err());
    }
}
