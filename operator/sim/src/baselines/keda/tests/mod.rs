//! Upstream's tests of KEDA, and properties that hold for everything.

mod fallback;
mod prometheus;
mod scale;
