//! The words users type: the kinds of the group `serving.tidewright.dev`, their rules, names and defaults.
//!
//! Deliberately absent: clients, runtimes, decisions.

mod borrowed;
pub mod cache;
pub mod conditions;
pub mod crd;
pub mod defaults;
pub mod inference_service;
pub mod labels;
pub mod model;
pub mod names;
pub mod pools;
pub mod rules;
pub mod scaling;
pub mod status;

pub use inference_service::{InferenceService, InferenceServiceSpec};
pub use status::InferenceServiceStatus;

/// The API group of every kind here.
pub const GROUP: &str = "serving.tidewright.dev";
/// The only version so far.
pub const VERSION: &str = "v1alpha1";
/// Plural of [`InferenceService`], as it stands in URLs.
pub const PLURAL: &str = "inferenceservices";
