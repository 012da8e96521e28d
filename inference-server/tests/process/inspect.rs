//! `inspect` and `bench` as people and programs call them.

use serde_json::Value;

use crate::support::{command, path, run};

fn json(arguments: &[&str]) -> Value {
    let output = run(arguments);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn file(name: &str) -> String {
    path(&format!("tests/models/{name}.onnx")).display().to_string()
}

#[test]
fn inspect_says_what_a_model_is() {
    let said = json(&["inspect", &file("affine"), "--output", "json"]);
    assert_eq!(said["fileBytes"], 185);
    assert!(said["digest"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(said["producer"], "tidewright-tests");
    assert_eq!(
        (&said["irVersion"], &said["opsets"]["ai.onnx"]),
        (&8.into(), &17.into())
    );
    assert_eq!(said["operators"], serde_json::json!({"Gemm": 1}));
    assert_eq!(said["tensorBytes"], 60);
    assert_eq!(
        said["inputs"],
        serde_json::json!([{"name": "x", "datatype": "FP32", "shape": [-1, 4]}])
    );
    assert_eq!(
        said["outputs"],
        serde_json::json!([{"name": "y", "datatype": "FP32", "shape": [-1, 3]}])
    );
    assert_eq!(said["batching"]["possible"], true);
    assert!(said["sessionBytes"].as_u64().unwrap() > 0);

    let fixed = json(&["inspect", &file("fixed"), "--output", "json"]);
    assert_eq!(
        (&fixed["batching"]["possible"], &fixed["batching"]["fixedSize"]),
        (&false.into(), &2.into())
    );
    // The body of a loop counts.
    let looped = json(&["inspect", &file("slow"), "--output", "json"]);
    assert_eq!(
        (&looped["operators"]["Loop"], &looped["operators"]["MatMul"]),
        (&1.into(), &1.into())
    );

    let text = String::from_utf8(run(&["inspect", &file("affine")]).stdout).unwrap();
    for words in [
        "input        x FP32 [-1, 4]",
        "batching     yes: ",
        "1 Gemm",
        "IR version 8",
    ] {
        assert!(text.contains(words), "{words} is missing in\n{text}");
    }
}

#[test]
fn inspect_and_bench_refuse_as_serve_does() {
    for command in ["inspect", "bench"] {
        let output = run(&[command, &file("unknown")]);
        assert_eq!(output.status.code(), Some(4));
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert!(
            complaint.starts_with("UnsupportedOperator: ") && complaint.contains("Nonsense"),
            "{complaint}"
        );
        assert_eq!(run(&[command, "/nowhere/model.onnx"]).status.code(), Some(4));
    }
}

#[test]
fn bench_measures_each_batch_size() {
    let said = json(&[
        "bench",
        &file("affine"),
        "--seconds",
        "0",
        "--max-batch-size",
        "6",
        "--output",
        "json",
    ]);
    let table = said["table"].as_array().unwrap();
    let sizes: Vec<u64> = table.iter().map(|row| row["items"].as_u64().unwrap()).collect();
    assert_eq!(sizes, [1, 2, 4, 6]);
    for row in table {
        let (median, fastest) = (
            row["medianMillis"].as_f64().unwrap(),
            row["fastestMillis"].as_f64().unwrap(),
        );
        assert!(
            fastest > 0.0 && fastest <= median && row["runs"].as_u64().unwrap() >= 3,
            "{row}"
        );
        let rate = row["items"].as_f64().unwrap() / median * 1000.0;
        assert!(
            (row["itemsPerSecond"].as_f64().unwrap() / rate - 1.0).abs() < 1e-6,
            "{row}"
        );
    }
    assert!(sizes.contains(&said["bestBatchSize"].as_u64().unwrap()));
    let fixed = String::from_utf8(run(&["bench", &file("fixed"), "--seconds", "0"]).stdout).unwrap();
    assert!(
        fixed.contains("items/s") && fixed.trim_end().ends_with("best"),
        "{fixed}"
    );
    // Two inputs with a free length: the size that is asked for is taken.
    let tokens = json(&[
        "bench",
        &file("tokens"),
        "--seconds",
        "0",
        "--free-dimension",
        "64",
        "--output",
        "json",
    ]);
    assert_eq!(tokens["freeDimension"], 64);
}

#[test]
fn the_runtime_leaves_no_traces_of_its_telemetry_behind() {
    let (home, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let output = command(&["inspect", &file("affine")])
        .env("HOME", home.path())
        .env("TMPDIR", scratch.path())
        .env_remove("XDG_CACHE_HOME")
        .env_remove("ORT_DISABLE_TELEMETRY")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    for folder in [&home, &scratch] {
        let left: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}
