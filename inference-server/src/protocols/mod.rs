//! Bytes to requests and answers to bytes, one file per protocol, and nothing else.

pub mod api_v1;
pub mod document;
pub mod errors;
pub mod instances;
pub mod json;
pub mod msgpack;
pub mod number;
pub mod parts;
pub mod pb;
pub mod raw;
pub mod statistics;
pub mod tensor_lists;
pub mod v2_answer;
pub mod v2_grpc;
pub mod v2_inputs;
pub mod v2_rest;
pub mod write;
