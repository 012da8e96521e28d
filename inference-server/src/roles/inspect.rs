//! `inspect`: says what a model takes and gives, what it is made of, whether it can be batched, and how much memory it needs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::process::ExitCode;

use serde::Serialize;
use tidewright_contract::config::GraphOptimization;
use tidewright_contract::exit;

use super::examine::{Examined, examine};
use crate::args::{InspectArgs, Output};
use crate::engine::child::Prober;
use crate::engine::probe::{Report, SlotReport};
use crate::model::onnx::Outline;
use crate::model::source::LoadError;
use crate::model::tensors::shown;

/// Enough to see whether rows stay apart, and quick for any model.
const TRIAL_BATCH_SIZE_MAX: usize = 4;

/// Everything that is known of a model.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Inspection {
    file: String,
    digest: String,
    file_bytes: u64,
    external_bytes: u64,
    #[serde(flatten)]
    contents: Contents,
    #[serde(flatten)]
    trial: Report,
}

/// What the file says of itself.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Contents {
    ir_version: u64,
    producer: String,
    /// By domain; the default domain is `ai.onnx`.
    opsets: BTreeMap<String, u64>,
    /// Uses of each operator, subgraphs and local functions included; other domains than the default stand before the name.
    operators: BTreeMap<String, u64>,
    nodes: u64,
    functions: usize,
    tensors: u64,
    tensor_bytes: u64,
}

/// Prints, or says what is wrong.
pub fn main(args: &InspectArgs) -> ExitCode {
    match inspect(args) {
        Ok(inspection) => {
            let text = match args.output {
                Output::Json => serde_json::to_string_pretty(&inspection).unwrap_or_default(),
                Output::Text => text(&inspection),
            };
            let written = writeln!(std::io::stdout(), "{}", text.trim_end());
            ExitCode::from(if written.is_ok() { exit::OK } else { exit::FAILURE })
        }
        Err(error) => complain(&error),
    }
}

/// The reason and its sentence on standard error, and the exit code that goes with it.
pub fn complain(error: &LoadError) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{}: {error}", error.reason.as_str());
    ExitCode::from(error.reason.exit_code())
}

fn inspect(args: &InspectArgs) -> Result<Inspection, LoadError> {
    let (examined, contents) = examine(&args.model, None, contents)?;
    let trial = examined.try_out(
        &Prober::this_program()?,
        args.provider,
        1,
        GraphOptimization::default(),
        TRIAL_BATCH_SIZE_MAX,
        None,
    )?;
    let Examined {
        model,
        file_bytes,
        external_bytes,
    } = examined;
    Ok(Inspection {
        file: model.file.display().to_string(),
        digest: model.digest,
        file_bytes,
        external_bytes,
        contents,
        trial,
    })
}

fn contents(outline: &Outline<'_>) -> Contents {
    let mut operators = BTreeMap::new();
    for uses in std::iter::once(&outline.uses).chain(outline.functions.values()) {
        for ((domain, name, _), count) in uses {
            let full = if domain.is_empty() {
                (*name).to_owned()
            } else {
                format!("{domain}.{name}")
            };
            *operators.entry(full).or_default() += count;
        }
    }
    let domain = |name: &str| if name.is_empty() { "ai.onnx" } else { name }.to_owned();
    // Quoted while it is made safe to print; the quotes themselves are not part of it.
    let plain = |bytes: &[u8]| shown(bytes).trim_matches('"').to_owned();
    Contents {
        ir_version: outline.ir_version,
        producer: format!("{} {}", plain(outline.producer), plain(outline.producer_version))
            .trim()
            .to_owned(),
        opsets: outline
            .opsets
            .iter()
            .map(|(name, version)| (domain(name), *version))
            .collect(),
        operators,
        nodes: outline.nodes,
        functions: outline.functions.len(),
        tensors: outline.initializers,
        tensor_bytes: outline.initializer_bytes,
    }
}

fn text(inspection: &Inspection) -> String {
    let Inspection {
        file,
        digest,
        file_bytes,
        external_bytes,
        contents,
        trial,
    } = inspection;
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(out, "{name:<12} {value}");
    };
    line("file", file.clone());
    line("digest", digest.clone());
    line("bytes", format!("{file_bytes}, and {external_bytes} beside it"));
    line(
        "producer",
        format!("{} (IR version {})", contents.producer, contents.ir_version),
    );
    line("opsets", pairs(&contents.opsets, " "));
    for (name, slots) in [("input", &trial.inputs), ("output", &trial.outputs)] {
        for slot in slots {
            line(name, describe(slot));
        }
    }
    let batching = &trial.batching;
    line(
        "batching",
        format!("{}: {}", if batching.possible { "yes" } else { "no" }, batching.reason),
    );
    line(
        "memory",
        format!(
            "{} bytes for the first session with its first runs (tensors in the file: {})",
            trial.session_bytes, contents.tensor_bytes
        ),
    );
    line(
        "load",
        format!("{} ms with ONNX Runtime {}", trial.load_millis, trial.runtime_version),
    );
    line(
        "nodes",
        format!(
            "{} in {} local functions and the graph",
            contents.nodes, contents.functions
        ),
    );
    let mut operators: Vec<(&String, &u64)> = contents.operators.iter().collect();
    operators.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), name.as_str()));
    for (name, count) in operators {
        line("", format!("{count:>6} {name}"));
    }
    out
}

fn pairs(map: &BTreeMap<String, u64>, between: &str) -> String {
    let list: Vec<String> = map
        .iter()
        .map(|(name, value)| format!("{name}{between}{value}"))
        .collect();
    list.join(", ")
}

fn describe(slot: &SlotReport) -> String {
    format!("{} {} {:?}", slot.name, slot.datatype, slot.shape)
}
