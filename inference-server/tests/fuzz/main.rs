//! Fuzz targets: whatever bytes come, a reader answers or refuses, and what it accepts is what the model takes.
//!
//! Runs on the stable compiler. Inputs are mutations of the committed corpus; one that meets an outcome not seen before (the sentence of a refusal, without
//! its numbers and names) joins the inputs that are mutated on. FUZZ_RUNS says how often each target is run, FUZZ_SEED where the draws begin.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod mutate;
mod pool;
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};

use mutate::Random;
use pool::Pool;
use targets::Target;

/// Runs of each target where FUZZ_RUNS says nothing: some seconds in all.
const RUNS: u64 = 20_000;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable)
        .ok()
        .filter(|text| !text.is_empty())
        .map_or(default, |text| text.parse().expect("a number"))
}

/// Runs one target. The corpus must lead to several outcomes: one that reaches nothing would find nothing.
fn fuzz(target: &Target) {
    let (runs, seed) = (number("FUZZ_RUNS", RUNS), number("FUZZ_SEED", 1));
    let mut random = Random::new(seed);
    let mut pool = Pool::default();
    for input in target.corpus() {
        let outcome = (target.run)(&input);
        pool.keep(input, &outcome);
    }
    let known = pool.outcomes();
    assert!(known >= 3, "{}: the corpus has {known} outcomes", target.name);
    for run in 0..runs {
        let input = pool.mutated(&mut random);
        let Ok(outcome) = catch_unwind(AssertUnwindSafe(|| (target.run)(&input))) else {
            panic!("{}, run {run} with seed {seed}: {}", target.name, shown(&input));
        };
        pool.offer(input, &outcome);
    }
    println!(
        "{}: {runs} runs, {known} outcomes in the corpus, {} found",
        target.name,
        pool.outcomes() - known
    );
}

/// As a literal of Rust, so that the input can become a test.
fn shown(input: &[u8]) -> String {
    format!("b\"{}\"", input.escape_ascii())
}

#[test]
fn json() {
    fuzz(&targets::JSON);
}

#[test]
fn binary_tensors() {
    fuzz(&targets::BINARY);
}

#[test]
fn msgpack() {
    fuzz(&targets::MSGPACK);
}

#[test]
fn protobuf() {
    fuzz(&targets::PROTOBUF);
}

#[test]
fn config() {
    fuzz(&targets::CONFIG);
}

#[test]
fn model_precheck() {
    fuzz(&targets::PRECHECK);
}
