//! The Tidewright operator: reconciles `InferenceService`s and serves the metrics that scale them.

pub mod admin;
pub mod args;
pub mod autoscaler;
pub mod clock;
pub mod cluster;
pub mod controller;
pub mod desired;
pub mod domain;
pub mod error;
pub mod events;
pub mod ledger;
pub mod metrics;
pub mod metrics_api;
pub mod plugin;
pub mod pods;
pub mod run;
pub mod sources;
pub mod status;
pub mod telemetry;
pub mod validate;

#[cfg(test)]
mod test_support;
