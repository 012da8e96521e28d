//! What is loaded and what became of each model; asked by every request.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tidewright_contract::config::{ExecutionProvider, ModelConfig};

use super::signature::Signature;

/// Facts of a loaded model.
#[derive(Debug, Clone)]
pub struct Facts {
    pub name: Arc<str>,
    pub version: Arc<str>,
    pub digest: String,
    pub provider: ExecutionProvider,
    pub signature: Arc<Signature>,
    pub batch_size_max: usize,
    /// Workers that have an engine.
    pub alive: Arc<AtomicUsize>,
    pub workers: usize,
}

impl Facts {
    /// Whether at least one worker can run it.
    pub fn is_ready(&self) -> bool {
        self.alive.load(Ordering::Relaxed) > 0
    }
}

/// The names that will be served, known before anything is loaded.
#[derive(Debug, Clone)]
pub struct Name {
    pub name: Arc<str>,
    pub version: Arc<str>,
}

/// Names of all configured models.
pub fn names(models: &[ModelConfig]) -> Vec<Name> {
    models
        .iter()
        .map(|model| Name {
            name: model.name.as_str().into(),
            version: model.version.as_str().into(),
        })
        .collect()
}
