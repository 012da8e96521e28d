//! Sessions that share weights answer bit for bit what a session of its own answers.

use std::fs;
use std::path::Path;

use tidewright_contract::config::{ExecutionProvider, GraphOptimization, ModelConfig};
use tidewright_contract::exit::Reason;
use tidewright_server::engine::Engine;
use tidewright_server::engine::ort::{OrtEngine, SessionPlan};
use tidewright_server::engine::shared::SharedModel;
use tidewright_server::model::source::{self, Pinned};
use tidewright_server::roles::open::open;
use tidewright_server::tensor::{Tensor, Values};

use crate::support::{config, model, runtime, server};

fn pinned(file: &Path) -> Pinned {
    Pinned {
        file: file.to_owned(),
        digest: source::digest(&fs::read(file).unwrap(), None).unwrap(),
    }
}

fn plan(name: &str) -> SessionPlan {
    SessionPlan {
        runtime: runtime().clone(),
        model: pinned(&model(name).path),
        provider: ExecutionProvider::Cpu,
        intra_op_threads: 1,
        spinning: false,
        graph_optimization: GraphOptimization::All,
        shared: None,
    }
}

/// Numbers without a pattern that a layout mistake would keep.
fn input(items: usize) -> Vec<Tensor> {
    let mut state = 0x9e37_79b9_u32;
    let values = (0..items * 64).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    });
    vec![Tensor::new(vec![items, 64], Values::Fp32(values.collect())).unwrap()]
}

fn bits(engine: &mut OrtEngine, items: usize) -> Vec<u32> {
    let outputs = engine.run(&input(items)).unwrap();
    let Values::Fp32(values) = outputs[0].values() else {
        panic!("{outputs:?}")
    };
    assert_eq!(values.len(), items * 16);
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn a_graph_is_rewritten_as_far_as_asked_and_no_further() {
    let operators = |level| {
        let mut plan = plan("layers");
        plan.graph_optimization = level;
        let graph = plan.optimize().unwrap();
        let has = |name: &str| graph.windows(name.len()).any(|bytes| bytes == name.as_bytes());
        // As the runtime names and makes nodes.
        ["MatMulAddFusion", "FusedGemm"].map(has)
    };
    assert_eq!(operators(GraphOptimization::Disabled), [false, false]);
    assert_eq!(operators(GraphOptimization::Basic), [true, false]);
    assert_eq!(operators(GraphOptimization::Extended), [true, true]);
    assert_eq!(operators(GraphOptimization::All), [true, true]);
}

#[test]
fn three_sessions_with_one_copy_of_the_weights_answer_as_one_with_its_own() {
    let mut own = plan("layers").open().unwrap().0;
    let mut sharing = plan("layers");
    let shared = SharedModel::new(&sharing.optimize().unwrap()).unwrap();
    // Two matrices at least, and what the graph keeps is small.
    assert!(shared.bytes() >= (64 * 64 + 64 * 32) * 4, "{shared:?}");
    assert!(shared.skeleton().len() < 4096, "{} bytes", shared.skeleton().len());
    sharing.shared = Some(std::sync::Arc::new(shared));
    let mut engines: Vec<OrtEngine> = (0..3).map(|_| sharing.open().unwrap().0).collect();
    for items in [1, 2, 7, 32] {
        let expected = bits(&mut own, items);
        assert!(expected.iter().any(|bits| *bits != expected[0]));
        for engine in &mut engines {
            assert_eq!(bits(engine, items), expected, "{items} items");
        }
    }
    // The weights outlive the session that came first.
    let expected = bits(&mut own, 4);
    engines.remove(0);
    drop(sharing);
    assert_eq!(bits(&mut engines[1], 4), expected);
}

/// A worker that lost its engine makes another one, days after the file was looked at.
#[test]
fn an_engine_is_rebuilt_from_the_bytes_that_were_checked_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.onnx");
    let layers = model("layers").path;
    let expected = bits(&mut plan("layers").open().unwrap().0, 3);
    for workers in [1, 2] {
        fs::copy(&layers, &file).unwrap();
        let mut execution = config(&["layers"]).execution;
        execution.workers = workers;
        let mut opened = open(&ModelConfig::new("m", &file), &execution, runtime()).unwrap();
        assert_eq!(opened.plan.shared.is_some(), workers > 1);
        // In place, as `cp` does: the same inode, and a model that would load.
        fs::copy(model("affine").path, &file).unwrap();
        let rebuilt = opened.plan.open();
        match (workers, rebuilt) {
            (1, Err(error)) => assert_eq!(error.reason, Reason::DigestMismatch, "{error}"),
            (2, Ok((mut engine, _))) => assert_eq!(bits(&mut engine, 3), expected),
            (workers, other) => panic!("{workers} workers: {other:?}"),
        }
        assert_eq!(bits(&mut opened.engines[0], 3), expected);
    }
}

#[tokio::test]
async fn a_server_with_several_workers_shares_and_one_with_one_does_not() {
    let body = format!("{{\"features\": [{}]}}", vec!["0.5"; 64].join(","));
    let mut answers = Vec::new();
    for workers in [1, 3] {
        let mut config = config(&["layers"]);
        config.execution.workers = workers;
        let server = server(&config);
        for _ in 0..workers {
            answers.push(server.post("/api/v1/predict", body.clone()).await.text);
        }
    }
    assert!(answers[0].contains("prediction"), "{}", answers[0]);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
}
