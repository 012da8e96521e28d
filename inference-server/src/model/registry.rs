//! What is known of a loaded model; asked by every request.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tidewright_contract::config::ExecutionProvider;

use super::signature::Signature;

/// Facts of a loaded model.
#[derive(Debug, Clone)]
pub struct Facts {
    pub name: Arc<str>,
    pub version: Arc<str>,
    pub digest: String,
    /// What runs it.
    pub provider: ExecutionProvider,
    /// What should: the first of the configured order.
    pub preferred_provider: ExecutionProvider,
    pub signature: Arc<Signature>,
    pub batch_size_max: usize,
    /// Workers that have an engine.
    pub alive: Arc<AtomicUsize>,
    pub workers: usize,
}

impl Facts {
    /// The labels of [`tidewright_contract::metrics::ML_MODEL_INFO`].
    pub fn info(&self) -> [&str; 5] {
        let (provider, preferred) = (self.provider.as_str(), self.preferred_provider.as_str());
        [&self.name, &self.version, &self.digest, provider, preferred]
    }

    /// Whether at least one worker can run it.
    pub fn is_ready(&self) -> bool {
        self.alive.load(Ordering::Relaxed) > 0
    }
}
