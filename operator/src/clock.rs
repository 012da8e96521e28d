//! The one door to time. Everything that decides takes `now` as an argument; whoever calls it asks this clock.

use std::fmt::Debug;
use std::sync::Arc;

use jiff::Timestamp;

/// Tells the time.
pub trait Clock: Debug + Send + Sync + 'static {
    /// Wall-clock time, as it stands in Kubernetes objects and Prometheus samples.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A clock that is handed round.
pub type SharedClock = Arc<dyn Clock>;
