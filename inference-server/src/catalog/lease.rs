//! What is given out of a model: holds, the last of which must be given back before it is taken down.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::engine::pool::Pool;
use crate::pipeline::Serving;

/// A model that serves, with its threads.
#[derive(Debug)]
pub struct Loaded {
    pub serving: Arc<Serving>,
    leases: TaskTracker,
    pool: Mutex<Option<Pool>>,
}

impl Loaded {
    /// With the threads that run it.
    pub fn new(serving: Arc<Serving>, pool: Pool) -> Self {
        Self {
            serving,
            leases: TaskTracker::new(),
            pool: Mutex::new(Some(pool)),
        }
    }

    /// A hold on it.
    pub fn lease(&self) -> Lease {
        Lease {
            serving: Arc::clone(&self.serving),
            _token: self.leases.token(),
        }
    }

    /// Whether a request has it now.
    pub fn is_busy(&self) -> bool {
        !self.leases.is_empty()
    }

    /// Waits until no request has it any more; `false` when that took too long. It must be out of the catalog.
    pub async fn released(&self, within: Duration) -> bool {
        self.leases.close();
        tokio::time::timeout(within, self.leases.wait()).await.is_ok()
    }

    /// The threads, for whoever waits for their end.
    pub fn take_pool(&self) -> Option<Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A request's hold on a model: while it lives, the model is not taken down.
#[derive(Debug)]
pub struct Lease {
    serving: Arc<Serving>,
    _token: TaskTrackerToken,
}

impl std::ops::Deref for Lease {
    type Target = Arc<Serving>;

    fn deref(&self) -> &Arc<Serving> {
        &self.serving
    }
}
