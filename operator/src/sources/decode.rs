//! The JSON of an answer -> lines, if it is the answer to an instant query of this moment. Pure.

use std::collections::HashMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use prometheus_http_query::response::{Data, InstantVector};
use serde::Deserialize;

use crate::domain::published::{Reason, Unavailable};
use crate::sources::prometheus::Bounds;

/// Longest piece of a foreign text that goes into a message.
const QUOTE_CHARS: usize = 160;
/// Most labels of one series in an answer of which at most five are asked for.
const LABELS_MAX: usize = 64;

/// One line of an answer: labels and number. The number can still be NaN, infinite or negative.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    labels: HashMap<String, String>,
    /// As answered.
    pub value: f64,
}

impl Line {
    /// A label's value; empty like in PromQL if there is no such label.
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    /// How many labels there are.
    pub fn label_count(&self) -> usize {
        self.labels.len()
    }
}

#[derive(Debug, Deserialize)]
struct Envelope {
    status: String,
    data: Option<Data>,
    #[serde(rename = "errorType")]
    error_type: Option<String>,
    error: Option<String>,
    #[serde(default)]
    warnings: Vec<String>,
}

/// What Prometheus says of its own failure, if the body is such an answer.
pub fn error_text(body: &[u8]) -> Option<String> {
    let envelope: Envelope = serde_json::from_slice(body).ok()?;
    envelope.error.map(|text| quote(&text))
}

/// The body of a 200 -> lines. Pure.
pub fn decode(body: &[u8], sent: Timestamp, received: Timestamp, bounds: &Bounds) -> Result<Vec<Line>, Unavailable> {
    let malformed = |problem: String| {
        let message = format!("the answer is not that of Prometheus: {problem}");
        Unavailable::new(Reason::AnswerMalformed, message)
    };
    // Before anything is made of them: a decoded series takes many times its bytes.
    if series_in(body, bounds.series) > bounds.series {
        let message = format!("the answer of Prometheus has more than {} series", bounds.series);
        return Err(Unavailable::new(Reason::AnswerTooLarge, message));
    }
    let envelope: Envelope = serde_json::from_slice(body).map_err(|e| malformed(quote(&e.to_string())))?;
    match envelope.status.as_str() {
        "success" => {}
        "error" => {
            let kind = envelope.error_type.unwrap_or_default();
            let text = envelope.error.unwrap_or_default();
            let message = format!("Prometheus answers an error: {} {}", quote(&kind), quote(&text));
            return Err(Unavailable::new(Reason::PrometheusError, message));
        }
        other => return Err(malformed(format!("status {:?}", quote(other)))),
    }
    if let Some(text) = envelope.error {
        return Err(malformed(format!("success with the error {:?}", quote(&text))));
    }
    if let Some(warning) = envelope.warnings.first() {
        let message = format!("Prometheus answers in part only: {}", quote(warning));
        return Err(Unavailable::new(Reason::AnswerPartial, message));
    }
    let lines = match envelope.data {
        Some(Data::Vector(series)) => series.into_iter().map(InstantVector::into_inner).collect(),
        Some(Data::Scalar(sample)) => vec![(HashMap::new(), sample)],
        Some(Data::Matrix(_)) => return Err(malformed("a range where one instant was asked for".to_owned())),
        None => return Err(malformed("success without data".to_owned())),
    };
    lines
        .into_iter()
        .map(|(labels, sample)| {
            check_time(sample.timestamp(), sent, received, bounds.clock_skew)?;
            if labels.len() > LABELS_MAX {
                return Err(malformed(format!("a series with {} labels", labels.len())));
            }
            Ok(Line {
                labels,
                value: sample.value(),
            })
        })
        .collect()
}

/// How many series an answer has at most, counted up to one more than `most`: each of them brings the word.
fn series_in(body: &[u8], most: usize) -> usize {
    const WORD: &[u8] = b"\"metric\"";
    body.windows(WORD.len())
        .filter(|window| *window == WORD)
        .take(most + 1)
        .count()
}

/// The answer must have been computed between question and answer, give or take the skew of the clocks: a cache or a replay is not the present.
fn check_time(seconds: f64, sent: Timestamp, received: Timestamp, skew: Duration) -> Result<(), Unavailable> {
    let skewed = |message: String| Err(Unavailable::new(Reason::ClockSkew, message));
    let time = SignedDuration::try_from_secs_f64(seconds)
        .ok()
        .and_then(|since| Timestamp::UNIX_EPOCH.checked_add(since).ok());
    let Some(time) = time else {
        return skewed(format!("the answer of Prometheus is dated {seconds}"));
    };
    let skew = SignedDuration::try_from(skew).unwrap_or(SignedDuration::MAX);
    let behind = sent.duration_since(time);
    if behind > skew {
        return skewed(format!(
            "the answer of Prometheus is dated {}s in the past: a cache, or its clock is slow",
            behind.as_secs()
        ));
    }
    let ahead = time.duration_since(received);
    if ahead > skew {
        return skewed(format!(
            "the answer of Prometheus is dated {}s in the future: its clock or ours is wrong",
            ahead.as_secs()
        ));
    }
    Ok(())
}

/// A bounded, one-line form of a text that somebody else wrote.
pub fn quote(text: &str) -> String {
    let mut short: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(QUOTE_CHARS)
        .collect();
    if text.chars().nth(QUOTE_CHARS).is_some() {
        short.push('…');
    }
    short
}
