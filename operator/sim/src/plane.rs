//! Concurrency second by second, as Knative's autoscaler sees it: its own path, which does not pass through Prometheus.

use std::collections::VecDeque;

use crate::plant::Plant;
use crate::time::{Nanos, SECOND};

/// One second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Second {
    pub end: Nanos,
    /// Mean of the requests in the system: in service at the pods, and held by the activator.
    pub concurrency: f64,
    pub arrivals: u64,
}

/// Ten minutes: the longest window that Knative's annotations allow is an hour, the default one minute.
const SECONDS: usize = 600;

#[derive(Debug, Default)]
pub struct Plane {
    seconds: VecDeque<Second>,
    integral: u128,
    arrived: u64,
}

impl Plane {
    /// Closes the second that ends `now`.
    pub fn close(&mut self, plant: &Plant, now: Nanos) {
        let integral = plant.concurrency_integral(now);
        let arrived = plant.totals().arrived;
        self.seconds.push_back(Second {
            end: now,
            concurrency: (integral - self.integral) as f64 / SECOND as f64,
            arrivals: arrived - self.arrived,
        });
        if self.seconds.len() > SECONDS {
            self.seconds.pop_front();
        }
        self.integral = integral;
        self.arrived = arrived;
    }

    /// The seconds that ended after `since`, oldest first.
    pub fn after(&self, since: Nanos) -> impl Iterator<Item = &Second> {
        let first = self.seconds.partition_point(|second| second.end <= since);
        self.seconds.range(first..)
    }
}
