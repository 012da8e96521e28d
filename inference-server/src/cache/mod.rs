//! Results of identical requests: memory first, then Redis, then the model; identical misses run once. A level that fails is skipped and counted.

pub mod codec;
pub mod key;
pub mod levels;
pub mod memory;
pub mod redis;
pub mod single_flight;
