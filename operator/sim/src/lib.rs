//! A world for scaling policies: arrivals, a gateway, pods and metrics in simulated time, and a score of what a policy made of them.
//!
//! ```text
//! arrivals ──> run ──> plant (gateway, pods, nodes) ──> score
//!               │        │
//!             faults   metrics (Prometheus), plane (1 s), pushed sums
//!               │        │
//!               └────> policy::View ──> policies ──> replicas
//! ```
//!
//! Time is whole nanoseconds and random numbers are drawn by key, so that a seed decides every byte and policies meet equal luck.

pub mod args;
pub mod arrivals;
pub mod baselines;
pub mod cli;
pub mod compare;
pub mod error;
pub mod faults;
pub mod generator;
pub mod metrics;
pub mod plane;
pub mod plant;
pub mod policies;
pub mod policy;
pub mod random;
pub mod report;
pub mod run;
pub mod scenario;
pub mod score;
pub mod settings;
pub mod time;
pub mod trace;
