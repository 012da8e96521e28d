//! Requests that wait for a run of the model: a pure state, and a thin lock round it.

pub mod state;
pub mod task;
