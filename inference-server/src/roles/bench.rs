//! `bench`: the cost table of a model on this machine, by the engine that serves it.

use std::fmt::Write as _;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use tidewright_contract::config::GraphOptimization;
use tidewright_contract::exit;

use super::examine::examine;
use super::inspect::complain;
use crate::args::{BenchArgs, Output};
use crate::batcher::cost::best;
use crate::engine::child::Prober;
use crate::engine::cost::{self, Cost, Plan};
use crate::engine::ort::{Runtime, SessionPlan, library_path};
use crate::engine::warmup::{self, sizes};
use crate::model::source::LoadError;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Bench {
    digest: String,
    provider: String,
    runtime_version: String,
    intra_op_threads: usize,
    /// Size that was taken for the model's free inner dimensions.
    free_dimension: usize,
    table: Vec<Row>,
    /// The smallest batch that reaches the best rate.
    best_batch_size: Option<usize>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    items: usize,
    median_millis: f64,
    fastest_millis: f64,
    items_per_second: f64,
    runs: usize,
}

impl From<&Cost> for Row {
    fn from(cost: &Cost) -> Self {
        Self {
            items: cost.items,
            median_millis: cost.median.as_secs_f64() * 1e3,
            fastest_millis: cost.fastest.as_secs_f64() * 1e3,
            items_per_second: cost.items_per_second(),
            runs: cost.runs,
        }
    }
}

/// Measures and prints, or says what is wrong.
pub fn main(args: &BenchArgs) -> ExitCode {
    match bench(args) {
        Ok(bench) => {
            let text = match args.output {
                Output::Json => serde_json::to_string_pretty(&bench).unwrap_or_default(),
                Output::Text => text(&bench),
            };
            let written = writeln!(std::io::stdout(), "{}", text.trim_end());
            ExitCode::from(if written.is_ok() { exit::OK } else { exit::FAILURE })
        }
        Err(error) => complain(&error),
    }
}

fn bench(args: &BenchArgs) -> Result<Bench, LoadError> {
    let (examined, ()) = examine(&args.model, None, |_| ())?;
    let level = GraphOptimization::default();
    examined.try_out(
        &Prober::this_program()?,
        args.provider,
        args.intra_op_threads,
        level,
        1,
        None,
    )?;
    let runtime = Runtime::load(&library_path())?;
    let plan = SessionPlan {
        runtime: runtime.clone(),
        model: examined.model.clone(),
        provider: args.provider,
        intra_op_threads: args.intra_op_threads,
        spinning: false,
        graph_optimization: level,
        shared: None,
    };
    let (mut engine, mut signature) = plan.open()?;
    signature.rows = warmup::warm_up(&mut engine, &signature, args.max_batch_size, args.free_dimension)?.rows;
    let count = sizes(signature.rows, args.max_batch_size).len().max(1);
    let table = cost::measure(
        &mut engine,
        &signature,
        Plan {
            batch_size_max: args.max_batch_size,
            free_dimension: args.free_dimension,
            time_per_size: Duration::from_secs(args.seconds) / u32::try_from(count).unwrap_or(u32::MAX),
        },
    )?;
    Ok(Bench {
        digest: examined.model.digest,
        provider: args.provider.to_string(),
        runtime_version: runtime.version().to_owned(),
        intra_op_threads: args.intra_op_threads,
        free_dimension: args.free_dimension,
        best_batch_size: best(table.iter().map(|cost| (cost.items, cost.median.as_secs_f64()))),
        table: table.iter().map(Row::from).collect(),
    })
}

fn text(bench: &Bench) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{} on {} with {} thread(s), ONNX Runtime {}; free inner dimensions are {}",
        bench.digest, bench.provider, bench.intra_op_threads, bench.runtime_version, bench.free_dimension
    );
    let _ = writeln!(
        out,
        "{:>6} {:>12} {:>12} {:>12} {:>8}",
        "items", "median ms", "fastest ms", "items/s", "runs"
    );
    for row in &bench.table {
        let mark = if Some(row.items) == bench.best_batch_size {
            "  best"
        } else {
            ""
        };
        let _ = writeln!(
            out,
            "{:>6} {:>12.3} {:>12.3} {:>12.0} {:>8}{mark}",
            row.items, row.median_millis, row.fastest_millis, row.items_per_second, row.runs
        );
    }
    out
}
