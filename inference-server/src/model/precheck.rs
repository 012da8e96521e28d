//! What is looked at before ONNX Runtime sees a model: the file's outline, its operators, its functions. Pure over the file's bytes.
//!
//! A model is code from strangers, and the runtime's loader is written in C++. What passes here can still crash it (that is what the first load
//! in a child process is for), but not by the cheap and known ways: recursion without end, shapes without data, data of other files, endless
//! inlining, operators that only a foreign library has.

use std::collections::{BTreeMap, BTreeSet};

use tidewright_contract::exit::Reason;

use super::onnx::{Limits, OperatorId, Outline, Uses, outline};
use super::source::LoadError;
use super::tensors::refused;

/// Domains whose operators ONNX Runtime brings along; the default domain is the empty name. Those of its own optimised graphs are among them,
/// so that a model that was optimised before is served as it is.
const DOMAINS: [&str; 8] = [
    "",
    "ai.onnx.ml",
    "ai.onnx.preview",
    "ai.onnx.preview.training",
    "ai.onnx.training",
    "com.microsoft",
    "com.microsoft.nchwc",
    "com.ms.internal.nhwc",
];

/// Most names in one message.
const NAMES_MAX: usize = 5;

/// Checks a model file; answers its outline.
///
/// # Errors
/// `ModelLoadFailed` for what is no ONNX model, `ModelTooLarge` for what is over a limit, `UnsupportedOperator` for operators of domains that the
/// runtime does not have, `UnsafeExternalData` for a reference to other files that cannot be right.
pub fn check(bytes: &[u8], limits: Limits) -> Result<Outline<'_>, LoadError> {
    if bytes.len() as u64 > limits.file_bytes {
        return Err(too_large(format!(
            "the file has {} bytes, at most {} can be read",
            bytes.len(),
            limits.file_bytes
        )));
    }
    let outline = outline(bytes, limits)?;
    check_operators(&outline)?;
    check_functions(&outline, limits)?;
    Ok(outline)
}

fn too_large(message: String) -> LoadError {
    LoadError::new(Reason::ModelTooLarge, message)
}

/// Each operator is a local function, or of a domain that the runtime has.
fn check_operators(outline: &Outline<'_>) -> Result<(), LoadError> {
    let scopes = std::iter::once(&outline.uses).chain(outline.functions.values());
    let foreign: BTreeSet<String> = scopes
        .flat_map(Uses::keys)
        .filter(|id| !outline.functions.contains_key(*id) && !DOMAINS.contains(&id.0))
        .take(NAMES_MAX)
        .map(|(domain, name, _)| format!("{name:?} of {domain:?}"))
        .collect();
    if foreign.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = foreign.into_iter().collect();
    let list: String = names.join(", ").chars().take(400).collect();
    Err(LoadError::new(
        Reason::UnsupportedOperator,
        format!("the model needs operators that ONNX Runtime does not have: {list}"),
    ))
}

/// What inlining would make of a function.
#[derive(Clone, Copy)]
struct Inlined {
    nodes: u64,
    /// Functions in a row, itself included.
    height: usize,
}

/// Functions do not call themselves, and inlined the graph stays within the limits.
fn check_functions(outline: &Outline<'_>, limits: Limits) -> Result<(), LoadError> {
    let mut known = BTreeMap::new();
    // Those that are not called count too: the runtime reads them all.
    for id in outline.functions.keys() {
        inline(*id, outline, limits, &mut Vec::new(), &mut known)?;
    }
    let nodes = expanded(&outline.uses, &known);
    if nodes > limits.nodes {
        return Err(too_large(format!(
            "with its local functions inlined the model has more than {} nodes",
            limits.nodes
        )));
    }
    Ok(())
}

fn expanded(uses: &Uses<'_>, known: &BTreeMap<OperatorId<'_>, Inlined>) -> u64 {
    uses.iter()
        .map(|(id, count)| known.get(id).map_or(1, |inlined| inlined.nodes).saturating_mul(*count))
        .fold(0, u64::saturating_add)
}

/// Recurses along calls; `path` holds the callers and is never longer than the limit.
fn inline<'a>(
    id: OperatorId<'a>,
    outline: &Outline<'a>,
    limits: Limits,
    path: &mut Vec<OperatorId<'a>>,
    known: &mut BTreeMap<OperatorId<'a>, Inlined>,
) -> Result<usize, LoadError> {
    if let Some(inlined) = known.get(&id) {
        return Ok(inlined.height);
    }
    let Some(uses) = outline.functions.get(&id) else {
        return Ok(0);
    };
    if path.contains(&id) {
        return Err(refused(format!("the local function {:?} calls itself", id.1)));
    }
    let too_deep = || {
        too_large(format!(
            "local functions call each other more than {} deep",
            limits.function_depth
        ))
    };
    if path.len() >= limits.function_depth {
        return Err(too_deep());
    }
    path.push(id);
    let mut height = 1;
    for called in uses.keys() {
        height = height.max(1 + inline(*called, outline, limits, path, known)?);
    }
    path.pop();
    if height > limits.function_depth {
        return Err(too_deep());
    }
    let nodes = expanded(uses, known);
    known.insert(id, Inlined { nodes, height });
    Ok(height)
}

#[cfg(test)]
#[path = "precheck_tests.rs"]
mod tests;
