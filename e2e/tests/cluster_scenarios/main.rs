//! What users are promised, on a whole cluster: real pods, the real pod autoscaler, a real Prometheus, the operator installed by helm.
//!
//! One cluster serves all tests. They take turns, because each of them measures, and two cores do not hold two loads.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod behavior;
mod direct;
mod fixed_number;
mod lies;
mod look;
mod lying_proxy;
mod metrics_outage;
mod process;
mod redis_cache;
mod redis_shared;
mod rollout;
mod scaling;
mod serving;
mod stage;
mod trouble;
