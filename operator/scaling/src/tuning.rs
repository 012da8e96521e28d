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
    /// The same while much of the budget is left …
    pub jump_sigmas_spare: f64,
    /// … and while more of it is used than should be.
    pub jump_sigmas_overdrawn: f64,
    /// Standard deviations that are added to the rate.
    pub margin_sigmas: f64,
    /// Price of a replica that is missing when needed, in units of its start time.
    pub miss_price: f64,
    /// The same while more of the budget is used than should be.
    pub miss_price_overdrawn: f64,
    /// Times the share that may be late, for which it is sized while much of the budget is left: the formula sees more late than there are.
    pub late_share_spare: f64,
    /// Time after which a request counts half in the budget, in seconds.
    pub budget_memory_seconds: f64,
    /// Seconds for which what is thought of a budget that nobody has seen yet counts.
    pub budget_prior_seconds: f64,
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
    /// Time in which a backlog shall be gone, in start times; at least three quarters of the time that a request may wait. Replicas that come for a backlog stay for
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
            slow_window_seconds: 45.0,
            slow_window_slacks: 6.0,
            jump_sigmas: 4.0,
            jump_sigmas_spare: 12.0,
            jump_sigmas_overdrawn: 3.0,
            margin_sigmas: 0.0,
            miss_price: 8.0,
            miss_price_overdrawn: 16.0,
            late_share_spare: 10.0,
            budget_memory_seconds: 86_400.0,
            budget_prior_seconds: 3600.0,
            keep_seconds_min: 15.0,
            keep_seconds_max: 3600.0,
            keep_seconds_prior: 60.0,
            keep_memory_seconds: 7200.0,
            deadband_share: 0.05,
            drain_starts: 0.15,
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
    pub fn all(&self) -> [(&'static str, f64); 22] {
        [
            ("slow_window_seconds", self.slow_window_seconds),
            ("slow_window_slacks", self.slow_window_slacks),
            ("jump_sigmas", self.jump_sigmas),
            ("jump_sigmas_spare", self.jump_sigmas_spare),
            ("jump_sigmas_overdrawn", self.jump_sigmas_overdrawn),
            ("margin_sigmas", self.margin_sigmas),
            ("miss_price", self.miss_price),
            ("miss_price_overdrawn", self.miss_price_overdrawn),
            ("late_share_spare", self.late_share_spare),
            ("budget_memory_seconds", self.budget_memory_seconds),
            ("budget_prior_seconds", self.budget_prior_seconds),
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
