//! The operator's own metrics: typed, registered once; labels come from closed lists and from the names of what there is.

mod decisions;
mod process;

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::registry::{Metric, Registry};

use decisions::Decisions;
pub use decisions::Trusted;
use process::Process;

/// One label: what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// Cheap to clone; all clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    process: Process,
    decisions: Decisions,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("tidewright_operator");
        Self {
            process: Process::register(&mut registry),
            decisions: Decisions::register(&mut registry),
            registry: Arc::new(Mutex::new(registry)),
        }
    }
}

impl Metrics {
    /// Everything as OpenMetrics text.
    ///
    /// # Errors
    /// If the text cannot be written, which means that memory has run out.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

/// Registers a metric.
fn add<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}
