//! What a server says of its load when it is asked directly, at [`crate::routes::SIGNALS`]: numbers that an autoscaler needs earlier than a scrape.

use serde::{Deserialize, Serialize};

/// The version of the shape. Fields may be added under the same version; whoever reads passes over those that it does not know.
pub const VERSION: u32 = 1;

/// One answer. Counters begin at zero with the process.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Signals {
    /// [`VERSION`].
    pub version: u32,
    /// Milliseconds since 1970 at which the process started: with another one the counters have begun anew.
    pub process: u64,
    /// Requests on the routes of [`crate::routes::INFERENCE`] that arrived, refused ones included; as in [`crate::metrics::HTTP_REQUESTS_RECEIVED`].
    pub arrivals: u64,
    /// Requests that were answered with a prediction, from a cache or from a run.
    pub completions: u64,
    /// Seconds of work on requests, waiting excluded: reading and checking them, the runs of the model (a run that several share counts for each of
    /// them), writing the answers. Added when the work is done.
    pub service_seconds: f64,
    /// Accepted requests that wait and are not yet being computed; as in [`crate::metrics::ML_QUEUE_DEPTH`].
    pub queued: u64,
    /// Requests accepted and not yet answered, those that wait included; as in [`crate::metrics::ML_REQUESTS_IN_FLIGHT`].
    pub in_flight: u64,
}
