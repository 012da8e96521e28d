//! A trial load of a model: what is asked for, what is answered, and the trial itself, which runs in a process that may die of it.

use std::fs::File;
use std::os::fd::RawFd;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidewright_contract::config::{ExecutionProvider, GraphOptimization};
use tidewright_contract::exit::Reason;

use super::ort::{OrtEngine, Runtime, SessionPlan};
use super::warmup;
use crate::clock;
use crate::model::signature::{Rows, Signature};
use crate::model::source::{LoadError, Pinned};

/// One line of JSON on the child's standard input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Request {
    /// Process of the server that asks.
    pub server_id: u32,
    pub model: Pinned,
    pub provider: ExecutionProvider,
    pub intra_op_threads: usize,
    pub graph_optimization: GraphOptimization,
    /// Largest batch to try.
    pub batch_size_max: usize,
    /// An open file of the child that gets the optimised model; it stays empty when that cannot be saved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optimized_to: Option<RawFd>,
    pub limits: Limits,
}

/// What the child may use before the kernel stops it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limits {
    /// Address space; `None`: unlimited (a CUDA context reserves more than any machine has).
    pub address_space_bytes: Option<u64>,
    pub cpu_seconds: u64,
}

/// One line of JSON on the child's standard output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    Works(Report),
    Refused { reason: Reason, message: String },
}

/// What the trial found out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub inputs: Vec<SlotReport>,
    pub outputs: Vec<SlotReport>,
    pub batching: Batching,
    /// Resident memory that the session and its runs added.
    pub session_bytes: u64,
    pub load_millis: u64,
    pub runtime_version: String,
}

/// An input or output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotReport {
    pub name: String,
    pub datatype: String,
    /// -1: any size.
    pub shape: Vec<i64>,
}

/// Whether requests can share a run, and why (not).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Batching {
    pub possible: bool,
    /// Exactly this many items per run, if so.
    pub fixed_size: Option<usize>,
    pub reason: String,
}

/// Loads, runs, reports. May take the process along.
///
/// # Errors
/// As loading and warming up.
pub fn probe(runtime: &Runtime, request: &Request) -> Result<Report, LoadError> {
    let before = resident_bytes();
    let started = clock::now();
    let plan = SessionPlan {
        runtime: runtime.clone(),
        model: request.model.clone(),
        provider: request.provider,
        intra_op_threads: request.intra_op_threads,
        // Nobody waits for the speed of a trial.
        spinning: false,
        graph_optimization: request.graph_optimization,
        shared: None,
    };
    let (mut engine, signature) = match request.optimized_to {
        Some(descriptor) => open_and_save(&plan, descriptor)?,
        None => plan.open()?,
    };
    let load = clock::now().duration_since(started);
    let finding = warmup::warm_up(&mut engine, &signature, request.batch_size_max, 1)?;
    Ok(Report {
        inputs: slots(&signature.inputs),
        outputs: slots(&signature.outputs),
        batching: batching(&signature, finding.rows),
        session_bytes: resident_bytes().saturating_sub(before),
        load_millis: millis(load),
        runtime_version: runtime.version().to_owned(),
    })
}

/// A graph of more than 2 GiB cannot be saved, and is served all the same.
fn open_and_save(plan: &SessionPlan, descriptor: RawFd) -> Result<(OrtEngine, Signature), LoadError> {
    let opened = File::options()
        .write(true)
        .open(format!("/proc/self/fd/{descriptor}"))
        .map_err(|error| LoadError::new(Reason::Failure, format!("the file for the optimised model: {error}")));
    let file = opened?;
    plan.open_and_save(&file).or_else(|_| {
        let opened = plan.open()?;
        file.set_len(0)
            .map_err(|error| LoadError::new(Reason::Failure, format!("the file for the optimised model: {error}")))?;
        Ok(opened)
    })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn slots(slots: &[crate::model::signature::Slot]) -> Vec<SlotReport> {
    slots
        .iter()
        .map(|slot| SlotReport {
            name: slot.name.to_string(),
            datatype: slot.datatype.name().to_owned(),
            shape: slot.wire_shape(),
        })
        .collect()
}

/// The rule of [`Signature::new`] and what the warm-up made of it, in a sentence.
fn batching(signature: &Signature, found: Rows) -> Batching {
    let (possible, fixed_size, reason) = match (signature.rows, found) {
        (_, Rows::Dynamic) if signature.is_assumed => (
            true,
            None,
            "the first dimension of every input is free and has one name, and runs answered one row per item"
                .to_owned(),
        ),
        (_, Rows::Dynamic) => (
            true,
            None,
            "the first dimension of every input and output is free and has one name".to_owned(),
        ),
        (_, Rows::Fixed(count)) => (
            false,
            Some(count),
            format!("the first dimension is fixed: every run takes exactly {count} items"),
        ),
        (Rows::Dynamic, Rows::None) => (
            false,
            None,
            "its shapes promise one row per item, and trial runs did not show it".to_owned(),
        ),
        _ => {
            let first = |slot: &crate::model::signature::Slot| match slot.shape.first() {
                None => "a scalar".to_owned(),
                Some(None) if slot.first_symbol.is_empty() => "free without a name".to_owned(),
                Some(None) => format!("free by the name {:?}", slot.first_symbol),
                Some(Some(size)) => format!("{size}"),
            };
            let list: Vec<String> = signature
                .inputs
                .iter()
                .chain(&signature.outputs)
                .map(|slot| format!("{}: {}", slot.name, first(slot)))
                .collect();
            (
                false,
                None,
                format!(
                    "the first dimension is not the same for every input and output ({})",
                    list.join(", ")
                ),
            )
        }
    };
    Batching {
        possible,
        fixed_size,
        reason,
    }
}

/// Anonymous memory of this process (`RssAnon`): the library's own pages do not count.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .and_then(|rest| rest.split_ascii_whitespace().next()?.parse::<u64>().ok())
        .unwrap_or(0)
        .saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::signature::Slot;
    use crate::tensor::DataType;

    #[test]
    fn each_reason_for_and_against_batches() {
        let slot = |name: &str, first: Option<usize>, symbol: &str| Slot {
            name: name.into(),
            datatype: DataType::Fp32,
            shape: vec![first, Some(3)],
            first_symbol: symbol.to_owned(),
        };
        let say = |input: Slot, output: Slot, found: Option<Rows>| {
            let signature = Signature::new(vec![input], vec![output]);
            let found = found.unwrap_or(signature.rows);
            batching(&signature, found)
        };
        let free = say(slot("x", None, "N"), slot("y", None, "N"), None);
        assert!(free.possible && free.reason.contains("has one name"));
        let broken = say(slot("x", None, "N"), slot("y", None, "N"), Some(Rows::None));
        assert!(!broken.possible && broken.reason.contains("did not show it"));
        let fixed = say(slot("x", Some(2), ""), slot("y", Some(2), ""), None);
        assert_eq!((fixed.possible, fixed.fixed_size), (false, Some(2)));
        let mixed = say(slot("x", None, "N"), slot("y", Some(1), ""), None);
        assert!(
            mixed.reason.ends_with("(x: free by the name \"N\", y: 1)"),
            "{}",
            mixed.reason
        );
    }
}
