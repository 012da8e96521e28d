//! What the operator and the inference server agree on: the config file, the metric names, the routes, the signals. Said once, by the side that
//! serves them.
//!
//! No behaviour lives here: nothing opens a file, a socket or a clock. The operator writes a [`config::ServeConfig`] and queries the names in
//! [`metrics`]; the server reads the first and serves the second.

pub mod config;
pub mod exit;
pub mod metrics;
pub mod problems;
pub mod routes;
pub mod signals;

pub use config::ServeConfig;
pub use problems::Problem;
