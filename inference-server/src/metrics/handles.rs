//! Handles of the small families: counters that belong together.

use prometheus_client::metrics::counter::Counter;

/// Counters of the certificate's changes.
#[derive(Debug, Clone)]
pub struct TlsMetrics {
    pub success: Counter,
    pub error: Counter,
}

/// Counters of the spans of traced requests.
#[derive(Debug, Clone)]
pub struct SpanMetrics {
    pub recorded: Counter,
    pub sent: Counter,
    pub failed: Counter,
}

/// Counters of one cache level.
#[derive(Debug, Clone)]
pub struct TierMetrics {
    pub hit: Counter,
    pub miss: Counter,
    pub error: Counter,
    pub skipped: Counter,
    pub shared: Counter,
}
