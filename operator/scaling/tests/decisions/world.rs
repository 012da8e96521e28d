//! A service over time, whoever scales it being obeyed.

use tidewright_scaling::decision::PoolDecision;
use tidewright_scaling::explanation::sentence;
use tidewright_scaling::observation::Observations;
use tidewright_scaling::policy::Draft;
use tidewright_scaling::{Moment, Policy, State, decide};

use crate::script::{Step, observations, policy, start};

/// A service over time.
pub struct World {
    pub policy: Policy,
    pub state: State,
    pub replicas: u32,
    pub now: Moment,
    pub tick: u64,
}

impl World {
    /// With a history of five minutes, so that nothing is new any more.
    ///
    /// The numbers that matter here are set, so that better defaults do not change what is shown.
    pub fn old(change: impl FnOnce(&mut Draft), replicas: u32, rate: f64) -> Self {
        let mut world = Self {
            policy: policy(|draft| {
                draft.tuning.keep_seconds_prior = 300.0;
                draft.tuning.slow_window_seconds = 60.0;
                draft.tuning.slow_window_slacks = 0.0;
                change(draft);
            }),
            state: State::default(),
            replicas,
            now: start(),
            tick: 0,
        };
        for _ in 0..61 {
            world.tick(&Step {
                rate: Ok(rate),
                ..Step::calm()
            });
        }
        world
    }

    pub fn see(&mut self, seen: &Observations) -> PoolDecision {
        let (decision, state) = decide(&self.policy, seen, std::mem::take(&mut self.state), self.now);
        self.state = state;
        let text = sentence(&decision, &decision.pools[0]);
        assert!(text.chars().count() <= 120, "{text}");
        decision.pools[0].clone()
    }

    /// One tick, and whoever scales obeys.
    pub fn tick(&mut self, step: &Step) -> PoolDecision {
        self.now = self.now.plus_seconds(step.seconds);
        self.tick += 1;
        let seen = observations(step, self.replicas, self.now, self.tick);
        let pool = self.see(&seen);
        self.replicas = pool.to;
        pool
    }

    /// Ticks until the number changes; the decision that changed it, and after how many seconds.
    pub fn until_change(&mut self, step: &Step) -> (PoolDecision, f64) {
        let begun = self.now;
        for _ in 0..2000 {
            let pool = self.tick(step);
            if pool.from != pool.to {
                return (pool, self.now.seconds_since(begun));
            }
        }
        panic!("nothing changed");
    }
}

/// So many requests per second, and nothing else.
pub fn at(rate: f64) -> Step {
    Step {
        rate: Ok(rate),
        ..Step::calm()
    }
}
