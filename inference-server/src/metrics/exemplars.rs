//! Exemplars: beside a bucket of a histogram, the trace of a request that fell into it.

use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::exemplar::HistogramWithExemplars;

use crate::clock;

/// A trace, as the label of an exemplar: the name that tracing backends look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceId(pub String);

impl EncodeLabelSet for TraceId {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        [("trace_id", self.0.as_str())].encode(encoder)
    }
}

/// A histogram of durations in seconds with exemplars.
pub type Exemplified = HistogramWithExemplars<TraceId>;

/// Adds one duration in seconds; the trace, if there is one, takes the place of its bucket's last.
pub fn observe(histogram: &Exemplified, seconds: f64, trace: Option<TraceId>) {
    // Without its time a scraper would take the exemplar for a new one each time.
    let time = trace.as_ref().map(|_| clock::wall());
    histogram.observe(seconds, trace, time);
}
