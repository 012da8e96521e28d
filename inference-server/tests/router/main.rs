//! The server called through its router, without a socket, with real models in the real ONNX Runtime.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod bad_input;
mod batching;
mod binary;
mod bodies;
mod cache;
mod coding;
mod errors;
mod lifecycle;
mod limits;
mod metadata;
mod msgpack;
mod openapi;
mod protocols;
mod repository;
mod repository_load;
mod sharing;
mod support;
