//! What every subcommand does with a model before ONNX Runtime sees it: find the file, read it, check it, load it on trial.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use tidewright_contract::config::{ExecutionProvider, GraphOptimization};

use crate::engine::child::{self, Prober};
use crate::engine::probe::{Report, Request};
use crate::model::onnx::{Limits, Outline};
use crate::model::source::{self, LoadError, Pinned};
use crate::model::{external, precheck};

/// What is known of a model without the runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    pub model: Pinned,
    /// Of the file itself.
    pub file_bytes: u64,
    /// Of the files with its weights.
    pub external_bytes: u64,
}

/// Finds a model, checks digest and file; `with_outline` gets what the file says of itself. The bytes are let go; whoever loads them
/// reads them anew, and looks at the digest.
pub fn examine<T>(
    path: &Path,
    expected_digest: Option<&str>,
    with_outline: impl FnOnce(&Outline<'_>) -> T,
) -> Result<(Examined, T), LoadError> {
    let file = source::find(path)?;
    let limits = Limits::default();
    let bytes = source::read(&file, limits.file_bytes)?;
    let digest = source::digest(&bytes, expected_digest)?;
    let outline = precheck::check(&bytes, limits)?;
    let external_bytes = external::check(file.parent().unwrap_or(Path::new(".")), &outline.external)?;
    let said = with_outline(&outline);
    let examined = Examined {
        model: Pinned { file, digest },
        file_bytes: bytes.len() as u64,
        external_bytes,
    };
    Ok((examined, said))
}

impl Examined {
    /// Loads the model in a child process and runs batches up to this size; the child saves the optimised model to the file, if it can.
    pub fn try_out(
        &self,
        prober: &Prober,
        provider: ExecutionProvider,
        intra_op_threads: usize,
        graph_optimization: GraphOptimization,
        batch_size_max: usize,
        optimized_to: Option<&File>,
    ) -> Result<Report, LoadError> {
        prober.probe(&Request {
            server_id: std::process::id(),
            model: self.model.clone(),
            provider,
            intra_op_threads,
            graph_optimization,
            batch_size_max,
            optimized_to: optimized_to.map(AsRawFd::as_raw_fd),
            limits: child::limits(
                provider,
                self.file_bytes.saturating_add(self.external_bytes),
                intra_op_threads,
            ),
        })
    }
}
