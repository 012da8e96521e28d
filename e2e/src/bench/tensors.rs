//! Requests in the Open Inference Protocol v2 for models other than the digits, with the answers that ONNX Runtime itself gives, called from Python.
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use tidewright_contract::routes;

use super::peers::TELEMETRY_OFF;
use crate::load::Request;
use crate::load::digits::Infer;
use crate::paths;

/// Largest difference of a number of an answer. Batches and padding are summed in another order; a wrong answer is off by orders of magnitude more.
const TOLERANCE: f32 = 1e-4;
/// Same seed, same texts and images.
const SEED: u64 = 20_261_129;
/// Lengths of texts in tokens: log-normal, as those of real sentences.
pub(super) const TOKENS_MEAN: f64 = 34.0;
pub(super) const TOKENS_MAX: usize = 120;
const TOKENS_SIGMA: f64 = 0.6;
/// Token ids below this are not words.
const WORDS: std::ops::Range<i64> = 2_000..30_000;

/// A model's name in routes, its file, and the one output that is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) name: &'static str,
    pub(super) model: &'a Path,
    pub(super) output: &'static str,
    /// A Python that has ONNX Runtime, to ask it for the answers.
    pub(super) python: &'a Path,
}

/// Lengths of so many texts, always the same.
pub(super) fn lengths(count: usize) -> Vec<usize> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(SEED);
    let location = TOKENS_MEAN.ln() - TOKENS_SIGMA * TOKENS_SIGMA / 2.0;
    (0..count)
        .map(|_| {
            // Box and Muller; 1 - u is never 0.
            let radius = (-2.0 * (1.0 - random.random::<f64>()).ln()).sqrt();
            let normal = radius * (std::f64::consts::TAU * random.random::<f64>()).cos();
            ((location + TOKENS_SIGMA * normal).exp().round() as usize).clamp(3, TOKENS_MAX)
        })
        .collect()
}

/// One text per request, as JSON.
pub(super) fn texts(asked: Asked<'_>, lengths: &[usize]) -> Result<Arc<[Request]>> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(SEED);
    let bodies: Vec<Value> = lengths
        .iter()
        .map(|length| text(&mut random, 1, *length, asked.output))
        .collect();
    let expected = answers(asked, &bodies)?;
    let requests = bodies.iter().zip(expected);
    Ok(requests
        .map(|(body, expected)| Request {
            method: Method::POST,
            path: routes::V2_MODEL_INFER.replace("{model}", asked.name),
            body: Bytes::from(body.to_string()),
            headers: Vec::new(),
            check: Arc::new(move |body| {
                let answer: Infer = serde_json::from_slice(body).map_err(|error| error.to_string())?;
                compare(answer.values(asked.output), &expected)
            }),
        })
        .collect())
}

/// Four requests of so many texts of one length, as bytes.
pub(super) fn text_batches(asked: Asked<'_>, items: usize, length: usize) -> Result<Arc<[Request]>> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(SEED);
    let bodies: Vec<Value> = (0..4).map(|_| text(&mut random, items, length, asked.output)).collect();
    binary(asked, &bodies)
}

/// Four requests of so many square images of three colours, as bytes.
pub(super) fn image_batches(asked: Asked<'_>, items: usize, side: usize) -> Result<Arc<[Request]>> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(SEED);
    let mut body = || {
        let data: Vec<f32> = (0..items * 3 * side * side)
            .map(|_| (random.random::<f32>() * 255.0).round() / 255.0)
            .collect();
        json!({
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [items, 3, side, side], "data": data}],
            "outputs": [{"name": asked.output}],
        })
    };
    let bodies: Vec<Value> = (0..4).map(|_| body()).collect();
    binary(asked, &bodies)
}

fn text(random: &mut Xoshiro256PlusPlus, items: usize, length: usize, output: &str) -> Value {
    let ids: Vec<i64> = (0..items * length).map(|_| random.random_range(WORDS)).collect();
    let tensor =
        |name, data: Vec<i64>| json!({"name": name, "datatype": "INT64", "shape": [items, length], "data": data});
    json!({
        "inputs": [tensor("input_ids", ids), tensor("attention_mask", vec![1; items * length])],
        "outputs": [{"name": output}],
    })
}

/// What ONNX Runtime answers to each body, one request per run.
fn answers(asked: Asked<'_>, bodies: &[Value]) -> Result<Vec<Vec<f32>>> {
    let folder = paths::repository_dir().join("inference-server/bench");
    let mut child = Command::new(asked.python)
        .env(TELEMETRY_OFF, "1")
        .arg("-B")
        .arg(folder.join("answers.py"))
        .args([
            "--address",
            "none:0",
            "--name",
            asked.name,
            "--outputs",
            asked.output,
            "--model",
        ])
        .arg(asked.model)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting Python")?;
    let mut input = child.stdin.take().context("standard input of Python")?;
    // It reads to the end before it writes: neither waits for the other.
    for body in bodies {
        writeln!(input, "{body}")?;
    }
    drop(input);
    let output = child.wait_with_output()?;
    ensure!(
        output.status.success(),
        "ONNX Runtime, called from Python, has no answers"
    );
    let answers: Vec<Vec<f32>> = String::from_utf8(output.stdout)?
        .lines()
        .map(|line| Ok(serde_json::from_str::<Infer>(line)?.values(asked.output).to_vec()))
        .collect::<Result<_>>()?;
    ensure!(
        answers.len() == bodies.len() && answers.iter().all(|answer| !answer.is_empty()),
        "{} answers to {} requests",
        answers.len(),
        bodies.len()
    );
    Ok(answers)
}

/// The same requests with tensors as bytes, in both directions.
fn binary(asked: Asked<'_>, bodies: &[Value]) -> Result<Arc<[Request]>> {
    let expected = answers(asked, bodies)?;
    let requests = bodies.iter().zip(expected).map(|(body, expected)| {
        let (document, bytes) = as_bytes(body)?;
        let headers = vec![
            (
                HeaderName::from_static("inference-header-content-length"),
                HeaderValue::from(document),
            ),
            (
                http::header::CONTENT_TYPE,
                HeaderValue::from_static("application/octet-stream"),
            ),
        ];
        Ok(Request {
            method: Method::POST,
            path: routes::V2_MODEL_INFER.replace("{model}", asked.name),
            body: bytes,
            headers,
            check: Arc::new(move |body| {
                // The one output's bytes are the end of the answer.
                let start = body.len().saturating_sub(expected.len() * size_of::<f32>());
                let values = body.get(start..).unwrap_or_default().chunks_exact(size_of::<f32>());
                let values: Vec<f32> = values
                    .filter_map(|four| Some(f32::from_le_bytes(four.try_into().ok()?)))
                    .collect();
                compare(&values, &expected)
            }),
        })
    });
    requests.collect()
}

/// The document's length, and document and tensors behind each other.
fn as_bytes(body: &Value) -> Result<(usize, Bytes)> {
    let mut document = body.clone();
    let mut tensors: Vec<u8> = Vec::new();
    for tensor in document["inputs"].as_array_mut().into_iter().flatten() {
        let tensor = tensor.as_object_mut().context("a tensor is an object")?;
        let is_float = tensor.get("datatype").is_some_and(|datatype| datatype == "FP32");
        let data = tensor.remove("data").context("a tensor without data")?;
        let begun = tensors.len();
        for value in data.as_array().into_iter().flatten() {
            if is_float {
                tensors.extend((value.as_f64().context("a number")? as f32).to_le_bytes());
            } else {
                tensors.extend(value.as_i64().context("an integer")?.to_le_bytes());
            }
        }
        tensor.insert(
            "parameters".to_owned(),
            json!({"binary_data_size": tensors.len() - begun}),
        );
    }
    for output in document["outputs"].as_array_mut().into_iter().flatten() {
        output["parameters"] = json!({"binary_data": true});
    }
    let text = document.to_string();
    let length = text.len();
    Ok((length, [text.as_bytes(), &tensors].concat().into()))
}

fn compare(found: &[f32], expected: &[f32]) -> Result<(), String> {
    if found.len() != expected.len() {
        return Err(format!("{} numbers, not {}", found.len(), expected.len()));
    }
    let far = |(found, expected): (&f32, &f32)| (found - expected).abs() > TOLERANCE || found.is_nan();
    match found.iter().zip(expected).position(far) {
        Some(index) => Err(format!(
            "number {index} is {:?}, where ONNX Runtime says {:?}",
            found.get(index),
            expected.get(index)
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_ragged_with_the_promised_mean() {
        let lengths = lengths(4_000);
        let mean = lengths.iter().sum::<usize>() as f64 / 4_000.0;
        assert!((mean / TOKENS_MEAN - 1.0).abs() < 0.05, "{mean}");
        assert_eq!(lengths.iter().max(), Some(&TOKENS_MAX));
        let median = {
            let mut sorted = lengths.clone();
            sorted.sort_unstable();
            sorted[2_000] as f64
        };
        assert!(median < mean - 3.0, "no long tail: median {median}, mean {mean}");
        assert_eq!(lengths, super::lengths(4_000));
    }

    #[test]
    fn tensors_follow_the_document_as_bytes() {
        let body = json!({
            "inputs": [
                {"name": "a", "datatype": "INT64", "shape": [1, 2], "data": [1, -2]},
                {"name": "b", "datatype": "FP32", "shape": [1, 1], "data": [0.5]},
            ],
            "outputs": [{"name": "y"}],
        });
        let (length, bytes) = as_bytes(&body).unwrap();
        let document: Value = serde_json::from_slice(&bytes[..length]).unwrap();
        assert_eq!(document["inputs"][0]["parameters"]["binary_data_size"], 16);
        assert_eq!(document["inputs"][1]["parameters"]["binary_data_size"], 4);
        assert_eq!(document["inputs"][0].get("data"), None);
        assert_eq!(document["outputs"][0]["parameters"]["binary_data"], true);
        let tensors = [
            &1_i64.to_le_bytes()[..],
            &(-2_i64).to_le_bytes(),
            &0.5_f32.to_le_bytes(),
        ]
        .concat();
        assert_eq!(bytes[length..], tensors);
    }

    #[test]
    fn only_equal_answers_are_right() {
        assert_eq!(compare(&[1.0, 2.000_05], &[1.0, 2.0]), Ok(()));
        assert!(compare(&[1.0, 2.000_2], &[1.0, 2.0]).unwrap_err().contains("number 1"));
        assert!(compare(&[1.0, f32::NAN], &[1.0, 2.0]).is_err());
        assert!(compare(&[1.0], &[1.0, 2.0]).is_err());
    }
}
