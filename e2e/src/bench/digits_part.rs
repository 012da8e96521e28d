//! Rows 1, 2, 3 and 6: the small classifier of digits, one image per request, beside the echo and servers of others.
use std::time::Duration;

use anyhow::Result;

use super::closed_loop;
use super::open_loop::{self, Offer};
use super::peers::{Field, HASTY, PEERS, Runs, Workload};
use super::rows::{Bench, Outcome, in_turn};
use super::sides::{self, Side};
use crate::load::digits;
use crate::models::{Classifier, Models};

pub(super) const PART: &str = "digits";
pub(super) const BARE_LOOP: &str = "bare loop";
/// The 99th percentile that must hold in row 2.
pub(super) const LIMIT: Duration = Duration::from_millis(20);
/// Of the open loop.
const CONNECTIONS_MAX: usize = 64;
/// Largest batch of the bare loop.
const LOOP_BATCH_MAX: usize = 32;

/// The model, asked for one image.
pub(super) struct Digits {
    pub(super) one: Workload,
}

impl Digits {
    pub(super) fn gather() -> Result<Self> {
        let classifier: Classifier = Models::ensure()?.digits;
        Ok(Self {
            one: Workload {
                name: "digits",
                requests: digits::v2(&classifier, 1),
                model: classifier.onnx,
                outputs: "label,probabilities",
            },
        })
    }
}

/// One round.
pub(super) async fn measure(bench: &mut Bench, field: &Field, digits: &Digits, round: usize) -> Result<()> {
    if !bench.options.wants(&[1, 2, 3, 6]) {
        return Ok(());
    }
    let mut names = vec!["echo", BARE_LOOP, "server"];
    names.extend(PEERS);
    names.push(HASTY);
    for name in in_turn(names, round) {
        let side = match name {
            "echo" if bench.options.wants(&[1, 6]) => Some(Side::echo(&digits.one.requests)?),
            "server" => Some(field.server(name, &digits.one, &[])),
            BARE_LOOP if bench.options.wants(&[6]) => {
                let seconds = bench.options.seconds;
                bench
                    .visit(PART, round, name, async |outcome: &mut Outcome| {
                        let runs = Runs {
                            batch_max: LOOP_BATCH_MAX,
                            free_dimension: 1,
                        };
                        outcome.put(
                            "one_micros",
                            field.bare_loop(&digits.one.model, runs, seconds)?.one_micros,
                        );
                        Ok(())
                    })
                    .await?;
                None
            }
            HASTY if bench.options.wants(&[2, 6]) => field.hasty_triton(&digits.one),
            _ if wants_peer(bench, name) => field.peer(name, &digits.one),
            _ => None,
        };
        if let Some(side) = side {
            visit(bench, &side, round).await?;
        }
    }
    Ok(())
}

fn wants_peer(bench: &Bench, name: &str) -> bool {
    match name {
        "triton" => bench.options.wants(&[2, 3, 6]),
        "mosec" => bench.options.wants(&[2, 3]),
        "fastapi" | "mlserver" | "kserve" => bench.options.wants(&[3]),
        _ => false,
    }
}

async fn visit(bench: &mut Bench, side: &Side, round: usize) -> Result<()> {
    let options = bench.options.clone();
    bench
        .visit(PART, round, side.name, async |outcome: &mut Outcome| {
            let running = sides::start(side).await?;
            let (address, requests) = (running.address, &side.requests);
            let (warm, _) = closed_loop::run(address, requests, 32, options.warm_up()).await?;
            if options.wants(&[1]) && matches!(side.name, "echo" | "server") {
                let (rate, _) = closed_loop::run(address, requests, 64, options.lasts()).await?;
                outcome.put("closed_64", rate);
            }
            if options.wants(&[3]) && !["echo", HASTY].contains(&side.name) {
                let (rate, latencies) = closed_loop::run(address, requests, 32, options.lasts()).await?;
                outcome.put("closed_32", rate);
                outcome.put("closed_32_p99_micros", latencies.value_at_quantile(0.99) as f64);
            }
            if options.wants(&[6]) && matches!(side.name, "echo" | "server" | "triton" | HASTY) {
                let (_, latencies) = closed_loop::run(address, requests, 1, options.lasts()).await?;
                outcome.put("alone_p50_micros", latencies.value_at_quantile(0.5) as f64);
            }
            if options.wants(&[2]) && matches!(side.name, "server" | "mosec" | "triton" | HASTY) {
                let offer = Offer {
                    limit: LIMIT,
                    lasts: options.lasts(),
                    connections_max: CONNECTIONS_MAX,
                };
                let (rate, probes) = open_loop::highest_rate(address, requests, warm * 0.6, offer).await;
                outcome.put("highest_rate", rate);
                outcome.detail(probes);
            }
            running.stop().await;
            Ok(())
        })
        .await
}
