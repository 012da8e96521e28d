//! Which requests share a run of the model, and how their tensors become one batch and come apart again. Pure.

pub mod assemble;
pub mod cost;
pub mod policy;
pub mod split;
