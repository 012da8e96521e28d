//! Row 5: items served in requests of the batch that is best for a model, beside ONNX Runtime alone at that batch.
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::peers::{Field, Runs, Workload};
use super::rows::{Bench, Options, Outcome, in_turn};
use super::tensors::{self, Asked};
use super::wheels::{self, WheelModel};
use super::{closed_loop, sides};
use crate::console::progress;

/// Connections, so that the next request is there when a run ends.
const CONNECTIONS: usize = 4;
/// To find the best batch, before anything is measured.
const LOOK_SECONDS: u64 = 5;
/// Tokens of a text.
const TOKENS: usize = 32;

/// One model at its best batch.
pub(super) struct Batch {
    pub(super) part: &'static str,
    runs: Runs,
    items: usize,
    work: Workload,
}

pub(super) struct Batches(pub(super) Vec<Batch>);

/// A model from a wheel, and what it is asked.
struct Asks {
    part: &'static str,
    wheel: WheelModel,
    output: &'static str,
    runs: Runs,
    /// Texts; otherwise images.
    is_text: bool,
}

const ASKS: [Asks; 3] = [
    Asks {
        part: "MiniLM-L3, 32 tokens",
        wheel: wheels::MINILM,
        output: super::text_part::OUTPUT,
        runs: Runs {
            batch_max: 16,
            free_dimension: TOKENS,
        },
        is_text: true,
    },
    Asks {
        part: "text direction, 3x96x96",
        wheel: wheels::TEXT_DIRECTION,
        output: "save_infer_model/scale_0.tmp_1",
        runs: Runs {
            batch_max: 16,
            free_dimension: 96,
        },
        is_text: false,
    },
    Asks {
        part: "text recognition, 3x48x48",
        wheel: wheels::TEXT_RECOGNITION,
        output: "softmax_11.tmp_0",
        runs: Runs {
            batch_max: 4,
            free_dimension: 48,
        },
        is_text: false,
    },
];

/// Every part of the row.
pub(super) const PARTS: [&str; 3] = [ASKS[0].part, ASKS[1].part, ASKS[2].part];

impl Batches {
    pub(super) fn gather(field: &Field, options: &Options) -> Result<Self> {
        if !options.wants(&[5]) {
            return Ok(Self(Vec::new()));
        }
        let all: Result<Vec<Batch>> = ASKS.iter().map(|asks| gather(field, asks)).collect();
        Ok(Self(all?))
    }
}

fn gather(field: &Field, asks: &Asks) -> Result<Batch> {
    let model: PathBuf = asks.wheel.ensure()?;
    let best = field.bare_loop(&model, asks.runs, LOOK_SECONDS)?.best_batch();
    progress(format_args!("{}: {best} items in a run are best", asks.part));
    let asked = Asked {
        name: "batches",
        model: &model,
        output: asks.output,
        python: field.any_python()?,
    };
    let requests = if asks.is_text {
        tensors::text_batches(asked, best, asks.runs.free_dimension)?
    } else {
        tensors::image_batches(asked, best, asks.runs.free_dimension)?
    };
    Ok(Batch {
        part: asks.part,
        runs: asks.runs,
        items: best,
        work: Workload {
            name: asked.name,
            model,
            outputs: asks.output,
            requests,
        },
    })
}

/// One round.
pub(super) async fn measure(bench: &mut Bench, field: &Field, batches: &Batches, round: usize) -> Result<()> {
    for batch in &batches.0 {
        for is_server in in_turn(vec![false, true], round) {
            if is_server {
                serve(bench, field, batch, round).await?;
            } else {
                alone(bench, field, batch, round).await?;
            }
        }
    }
    Ok(())
}

async fn alone(bench: &mut Bench, field: &Field, batch: &Batch, round: usize) -> Result<()> {
    let seconds = bench.options.seconds;
    bench
        .visit(batch.part, round, "bare loop", async |outcome: &mut Outcome| {
            let found = field.bare_loop(&batch.work.model, batch.runs, seconds)?;
            let rate = found.rate(batch.items).context("the bare loop has no such batch")?;
            outcome.put("items_per_second", rate);
            outcome.detail(found);
            Ok(())
        })
        .await
}

async fn serve(bench: &mut Bench, field: &Field, batch: &Batch, round: usize) -> Result<()> {
    let options = bench.options.clone();
    let side = field.server("server", &batch.work, &[]);
    bench
        .visit(batch.part, round, "server", async |outcome: &mut Outcome| {
            let running = sides::start(&side).await?;
            closed_loop::run(running.address, &side.requests, CONNECTIONS, options.warm_up()).await?;
            let (rate, _) = closed_loop::run(running.address, &side.requests, CONNECTIONS, options.lasts()).await?;
            outcome.put("items_per_second", rate * batch.items as f64);
            running.stop().await;
            Ok(())
        })
        .await
}
