//! The gRPC port: the services, and calls to them.

pub mod codec;
pub mod health;
pub mod inflow;
pub mod port;
pub mod service;
pub mod timeout;
