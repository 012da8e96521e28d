//! How many requests may be under way at once: a permit per request, given back when it is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;

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
}
