//! A number of replicas that never changes: the yardstick for tests of everything else.

use crate::error::Result;
use crate::policy::{Decision, Policy, View};
use crate::scenario::Scenario;
use crate::settings::Settings;
use crate::time::{MINUTE, Nanos};

#[derive(Debug)]
pub struct Fixed {
    replicas: u32,
}

impl Fixed {
    pub fn new(settings: &mut Settings, scenario: &Scenario) -> Result<Self> {
        Ok(Self {
            replicas: settings.take("replicas", scenario.initial_replicas)?,
        })
    }
}

impl Policy for Fixed {
    fn period(&self) -> Nanos {
        MINUTE
    }

    fn decide(&mut self, _view: &View<'_>) -> Decision {
        Decision::new(self.replicas, "fixed")
    }

    fn restart(&mut self, _view: &View<'_>) {}
}
