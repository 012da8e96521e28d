//! How many replicas a service should have, and why: a pure function of a policy, observations, what is remembered, and the time.
//!
//! ```text
//! observation ─ freshness ─┬─ rate, learned ─ demand ─ pools, sizing ─ proposals ─ stages ─ decision ─ explanation
//!     policy ──────────────┘                            keep, limits ──────┘           └─ thresholds
//! ```
//!
//! | module | one idea |
//! |---|---|
//! | [`policy`] (`tuning`), [`observation`], [`state`], [`decision`] | what goes in and comes out |
//! | [`freshness`] | which numbers are believed |
//! | `rate`, [`learned`] | estimates: arrivals and their variability, service time, start time |
//! | `demand`, `backlog` | one demand from many signals; what waits |
//! | [`sizing`], [`pools`] | queueing arithmetic; one demand over several pools |
//! | [`budget`] | how late requests were, against what is promised, and what follows |
//! | `keep`, `limits`, `stages` | from what is wanted to what is done |
//! | `thresholds`, [`explanation`] | what would change it; the sentence |
//! | [`record`] | decisions as data, and the same decisions again |
//!
//! There is no clock, no randomness, no I/O and no logging in this crate, and its `clippy.toml` keeps it so.

mod backlog;
mod decide;
mod demand;
mod keep;
mod limits;
mod rate;
mod stages;
mod thresholds;
mod tuning;

pub mod budget;
pub mod decision;
pub mod explanation;
pub mod freshness;
pub mod learned;
pub mod observation;
pub mod policy;
pub mod pools;
pub mod record;
pub mod sizing;
pub mod state;
pub mod units;

#[cfg(test)]
mod test_support;

pub use decide::{decide, step};
pub use decision::Decision;
pub use observation::Observations;
pub use policy::Policy;
pub use state::State;
pub use units::Moment;
