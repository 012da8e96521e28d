//! Numbers that nobody should have to know, in one place, with one set of defaults for every service.

use serde::{Deserialize, Serialize};

/// Numbers that nobody should have to know. Found by sweeps over recorded traces; one set for all.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tuning {
    /// Least seconds of the slow estimate of the rate, which a fast one has to beat significantly.
    pub slow_window_seconds: f64,
    /// The same in units of the time that a request may wait: where requests can wait for long, noise matters less.
    pub slow_window_slacks: f64,
    /// Standard deviations of a Poisson count by which the fast rate must exceed the slow one to be believed.
    pub jump_sigmas: f64,
    /// Standard deviations that are added to the rate.
    pub margin_sigmas: f64,
    /// Price of a replica that is missing when needed, in units of its start time.
    pub miss_price: f64,
    /// Shortest and longest time that a replica is kept after it was needed, in seconds.
    pub keep_seconds_min: f64,
    /// See `keep_seconds_min`.
    pub keep_seconds_max: f64,
    /// How long a replica is kept while nothing has been learned about its level.
    pub keep_seconds_prior: f64,
    /// Gaps older than this are forgotten, in seconds.
    pub keep_memory_seconds: f64,
    /// Share of the replicas below which a shrink is not worth an action.
    pub deadband_share: f64,
    /// Time in which a backlog shall be gone, in start times; at least half of the time that a request may wait. Replicas that come for a backlog stay for
    /// longer than that anyway: a shorter time buys many that are idle at once.
    pub drain_starts: f64,
    /// No shrink within so many start times after a growth.
    pub settle_starts: f64,
    /// The least variability of arrivals that is believed (squared coefficient of variation).
    pub arrival_scv_min: f64,
    /// The largest variability of arrivals that is believed.
    pub arrival_scv_max: f64,
    /// After a restart nothing shrinks for so many seconds.
    pub relearn_seconds: f64,
    /// A sample is absurd beyond so many times what is known to be possible.
    pub absurd_factor: f64,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            slow_window_seconds: 60.0,
            slow_window_slacks: 6.0,
            jump_sigmas: 4.0,
            margin_sigmas: 0.0,
            miss_price: 8.0,
            keep_seconds_min: 15.0,
            keep_seconds_max: 3600.0,
            keep_seconds_prior: 60.0,
            keep_memory_seconds: 7200.0,
            deadband_share: 0.05,
            drain_starts: 0.25,
            settle_starts: 2.0,
            arrival_scv_min: 1.0,
            arrival_scv_max: 8.0,
            relearn_seconds: 300.0,
            absurd_factor: 20.0,
        }
    }
}

impl Tuning {
    /// Every number with its name.
    pub fn all(&self) -> [(&'static str, f64); 16] {
        [
            ("slow_window_seconds", self.slow_window_seconds),
            ("slow_window_slacks", self.slow_window_slacks),
            ("jump_sigmas", self.jump_sigmas),
            ("margin_sigmas", self.margin_sigmas),
            ("miss_price", self.miss_price),
            ("keep_seconds_min", self.keep_seconds_min),
            ("keep_seconds_max", self.keep_seconds_max),
            ("keep_seconds_prior", self.keep_seconds_prior),
            ("keep_memory_seconds", self.keep_memory_seconds),
            ("deadband_share", self.deadband_share),
            ("drain_starts", self.drain_starts),
            ("settle_starts", self.settle_starts),
            ("arrival_scv_min", self.arrival_scv_min),
            ("arrival_scv_max", self.arrival_scv_max),
            ("relearn_seconds", self.relearn_seconds),
            ("absurd_factor", self.absurd_factor),
        ]
    }
}
