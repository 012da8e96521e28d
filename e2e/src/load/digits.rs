//! Requests with real images of digits, whose every answer is checked against what ONNX Runtime itself said.
use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use serde_json::json;
use tidewright_contract::routes;

use super::Request;
use crate::models::{self, Classifier, Digit};

/// Largest difference of a probability. Batches of other sizes are summed in another order; a wrong answer is off by orders of magnitude more.
const TOLERANCE: f32 = 1e-4;

/// As the server answers for a classifier with the outputs `label` and `probabilities`.
#[derive(Debug, Deserialize)]
struct Prediction {
    label: i64,
    probabilities: Vec<f32>,
}

#[derive(Debug, Deserialize)]
struct One {
    prediction: Prediction,
}

#[derive(Debug, Deserialize)]
struct Many {
    predictions: Vec<Prediction>,
}

/// An answer of the Open Inference Protocol v2 with numbers in it.
#[derive(Debug, Deserialize)]
pub(crate) struct Infer {
    outputs: Vec<Output>,
}

#[derive(Debug, Deserialize)]
struct Output {
    name: String,
    data: Vec<f32>,
}

impl Infer {
    /// Values of the output of that name; none if there is no such output.
    pub(crate) fn values(&self, name: &str) -> &[f32] {
        let output = self.outputs.iter().find(|output| output.name == name);
        output.map(|output| output.data.as_slice()).unwrap_or_default()
    }
}

fn check(image: &Digit, prediction: &Prediction) -> Result<(), String> {
    if prediction.label != i64::from(image.predicted) {
        return Err(format!(
            "a {} was taken for {}, where the model says {}",
            image.label, prediction.label, image.predicted
        ));
    }
    let far = |(a, b): (&f32, &f32)| (a - b).abs() > TOLERANCE || a.is_nan();
    if prediction.probabilities.len() != image.probabilities.len()
        || prediction.probabilities.iter().zip(&image.probabilities).any(far)
    {
        return Err(format!(
            "probabilities {:?}, where the model says {:?}",
            prediction.probabilities, image.probabilities
        ));
    }
    Ok(())
}

/// One request per held-out image.
pub fn single(classifier: &Classifier) -> Arc<[Request]> {
    let one = |image: &Digit| {
        let expected = image.clone();
        Request {
            method: Method::POST,
            path: routes::PREDICT.to_owned(),
            body: Bytes::from(json!({"features": image.pixels}).to_string()),
            headers: Vec::new(),
            check: Arc::new(move |body| {
                let answer: One = serde_json::from_slice(body).map_err(|error| error.to_string())?;
                check(&expected, &answer.prediction)
            }),
        }
    };
    classifier.images.iter().map(one).collect()
}

/// Eight requests of `count` images each, taken in turn from the held-out ones.
pub fn batches(classifier: &Classifier, count: usize) -> Arc<[Request]> {
    (0..8)
        .map(|start| {
            let images: Vec<Digit> = classifier
                .images
                .iter()
                .cycle()
                .skip(start * classifier.images.len() / 8)
                .take(count)
                .cloned()
                .collect();
            let pixels: Vec<&[u8]> = images.iter().map(|image| image.pixels.as_slice()).collect();
            Request {
                method: Method::POST,
                path: routes::PREDICT_BATCH.to_owned(),
                body: Bytes::from(json!({"instances": pixels}).to_string()),
                headers: Vec::new(),
                check: Arc::new(move |body| {
                    let answer: Many = serde_json::from_slice(body).map_err(|error| error.to_string())?;
                    if answer.predictions.len() != images.len() {
                        return Err(format!(
                            "{} predictions for {} images",
                            answer.predictions.len(),
                            images.len()
                        ));
                    }
                    images
                        .iter()
                        .zip(&answer.predictions)
                        .try_for_each(|(image, prediction)| check(image, prediction))
                }),
            }
        })
        .collect()
}

/// As [`batches`], in the Open Inference Protocol v2, which servers of others speak too: one request per start among the held-out images.
pub fn v2(classifier: &Classifier, count: usize) -> Arc<[Request]> {
    let request = |start: usize| {
        let images: Vec<Digit> = classifier
            .images
            .iter()
            .cycle()
            .skip(start)
            .take(count)
            .cloned()
            .collect();
        let pixels: Vec<u8> = images.iter().flat_map(|image| image.pixels.iter().copied()).collect();
        let tensor =
            json!({"name": models::INPUT, "datatype": "FP32", "shape": [count, models::PIXELS], "data": pixels});
        Request {
            method: Method::POST,
            path: routes::V2_MODEL_INFER.replace("{model}", &classifier.name),
            body: Bytes::from(json!({"inputs": [tensor]}).to_string()),
            headers: Vec::new(),
            check: Arc::new(move |body| {
                let answer: Infer = serde_json::from_slice(body).map_err(|error| error.to_string())?;
                let (labels, probabilities) = (answer.values("label"), answer.values("probabilities"));
                if labels.len() != images.len() || probabilities.len() != images.len() * 10 {
                    return Err(format!("{} labels for {} images", labels.len(), images.len()));
                }
                let rows = labels.iter().zip(probabilities.chunks(10));
                images.iter().zip(rows).try_for_each(|(image, (label, row))| {
                    check(
                        image,
                        &Prediction {
                            label: *label as i64,
                            probabilities: row.to_vec(),
                        },
                    )
                })
            }),
        }
    };
    (0..classifier.images.len().min(64)).map(request).collect()
}

/// Requests of so many items for the slow model, whose answer to x is 2 x.
pub fn doubling(model: &str, items: usize) -> Arc<[Request]> {
    (1..=16_u8)
        .map(|x| Request {
            method: Method::POST,
            path: routes::V2_MODEL_INFER.replace("{model}", model),
            body: Bytes::from(
                json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [items, 1], "data": vec![x; items]}]})
                    .to_string(),
            ),
            headers: Vec::new(),
            check: Arc::new(move |body| {
                let answer: Infer = serde_json::from_slice(body).map_err(|error| error.to_string())?;
                let found = answer
                    .outputs
                    .first()
                    .map(|output| output.data.as_slice())
                    .unwrap_or_default();
                let is_twice = |y: &f32| (y - 2.0 * f32::from(x)).abs() < 1e-3;
                if found.len() == items && found.iter().all(is_twice) {
                    Ok(())
                } else {
                    Err(format!("{items} times 2 * {x} = {found:?}"))
                }
            }),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classifier() -> Classifier {
        let digit = |label: u8| Digit {
            pixels: vec![label; 64],
            label,
            predicted: label,
            probabilities: (0..10).map(|digit| if digit == label { 0.91 } else { 0.01 }).collect(),
        };
        Classifier {
            name: "digits".to_owned(),
            onnx: "digits.onnx".into(),
            digest: String::new(),
            accuracy: 1.0,
            images: (0..10).map(digit).collect(),
        }
    }

    fn answer(label: u8, off: f32) -> serde_json::Value {
        let probabilities: Vec<f32> = (0..10)
            .map(|digit| if digit == label { 0.91 + off } else { 0.01 })
            .collect();
        json!({"label": label, "probabilities": probabilities})
    }

    #[test]
    fn only_the_models_own_answer_is_right() {
        let request = &single(&classifier())[3];
        let said =
            |prediction: serde_json::Value| (request.check)(json!({"prediction": prediction}).to_string().as_bytes());
        assert_eq!(said(answer(3, 0.0)), Ok(()));
        assert_eq!(said(answer(3, 0.00005)), Ok(()));
        assert!(said(answer(4, 0.0)).unwrap_err().contains("taken for 4"));
        assert!(said(answer(3, -0.1)).unwrap_err().contains("probabilities"));
        assert!(said(json!({"label": 3, "probabilities": [0.91]})).is_err());
        assert!((request.check)(b"<html>").is_err());
    }

    #[test]
    fn a_batch_is_checked_in_order_and_in_full() {
        let classifier = classifier();
        let requests = batches(&classifier, 12);
        assert_eq!(requests.len(), 8);
        let labels = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1];
        let mut predictions: Vec<_> = labels.iter().map(|label| answer(*label, 0.0)).collect();
        let said = |predictions: &[serde_json::Value]| {
            (requests[0].check)(json!({"predictions": predictions}).to_string().as_bytes())
        };
        assert_eq!(said(&predictions), Ok(()));
        assert!(said(&predictions[..11]).is_err());
        predictions.swap(4, 5);
        assert!(said(&predictions).is_err());
    }

    #[test]
    fn twice_is_twice() {
        let requests = doubling("slow", 1);
        assert_eq!(requests[0].path, "/v2/models/slow/infer");
        assert_eq!(
            (requests[2].check)(br#"{"outputs":[{"name":"y","data":[6.0]}]}"#),
            Ok(())
        );
        assert!((requests[2].check)(br#"{"outputs":[{"name":"y","data":[6.5]}]}"#).is_err());
        assert!((requests[2].check)(br#"{"outputs":[]}"#).is_err());
    }
}
