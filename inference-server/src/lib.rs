//! An ONNX inference server: protocols in front, a bounded queue and greedy batches in the middle, ONNX Runtime behind.
//!
//! Dependencies between modules go one way: `tensor` below everything, then `request`, `model`; `protocols`, `queue`, `engine`, `cache` beside
//! each other; `pipeline`, `catalog`, `http` and `grpc` above them; `roles` put everything together.

pub mod admission;
pub mod args;
pub mod batcher;
pub mod cache;
pub mod catalog;
pub mod clock;
pub mod engine;
pub mod error;
pub mod grpc;
pub mod http;
pub mod lifecycle;
pub mod metrics;
pub mod model;
pub mod pipeline;
pub mod profile;
pub mod protocols;
pub mod queue;
pub mod request;
pub mod roles;
pub mod telemetry;
pub mod tensor;
pub mod trace;
