//! When a batch is closed, and with how many items: by what runs cost, or by a fixed delay as other servers do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cost::CostTable;

/// How batches are made.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Most items in one batch.
    pub items_max: usize,
    /// Longest time the oldest item may be held back for a fuller batch; zero: never.
    pub latency_max: Duration,
    /// What runs cost; without it a batch is closed when it is full or its oldest item has waited for `latency_max`.
    pub costs: Option<Arc<CostTable>>,
}

/// What waits of one group.
#[derive(Debug, Clone, Copy)]
pub struct Waiting {
    pub size_class: u8,
    /// Items that fit into a batch.
    pub items: usize,
    /// Arrival of the oldest.
    pub oldest: Instant,
    /// The earliest deadline among them.
    pub deadline: Instant,
    /// Time between arrivals of late; `None` while it is not known.
    pub interval: Option<Duration>,
}

/// What to do with what waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// Run at most so many items.
    Now(usize),
    /// Not before this instant, unless more arrives.
    At(Instant),
}

impl Policy {
    /// Closes a batch when it is full or has waited: what Triton's dynamic batcher and KServe's `batcher` do.
    pub fn fixed_delay(items_max: usize, latency_max: Duration) -> Self {
        Self {
            items_max,
            latency_max,
            costs: None,
        }
    }

    /// Decides for what waits of one group.
    pub fn close(&self, now: Instant, waiting: Waiting) -> Close {
        let patience = match &self.costs {
            None => self.latency_max,
            Some(costs) => self.latency_max.min(patience(costs, waiting)),
        };
        if waiting.items < self.items_max && !patience.is_zero() {
            // Waiting up to the deadline would leave no time for the run: half of what is left may be spent.
            let end = waiting.oldest + patience;
            let limit = end.min(now + waiting.deadline.saturating_duration_since(now) / 2);
            if limit > now {
                return Close::At(limit);
            }
        }
        let slack = waiting.deadline.saturating_duration_since(now);
        Close::Now(self.costs.as_ref().map_or(self.items_max, |costs| {
            costs.choose(waiting.size_class, waiting.items, self.items_max, slack)
        }))
    }

    /// Whether a run that begins now would end too late for this deadline, as far as is known.
    pub fn is_doomed(&self, now: Instant, size_class: u8, items: usize, deadline: Instant) -> bool {
        let slack = deadline.saturating_duration_since(now);
        let estimate = |costs: &Arc<CostTable>| costs.at_least(size_class, items);
        let run = self.costs.as_ref().and_then(estimate);
        run.is_some_and(|run| slack < run)
    }
}

/// How long waiting pays: as long as the next arrival is expected within the time that its company saves.
fn patience(costs: &CostTable, waiting: Waiting) -> Duration {
    let pays = costs.wait_that_pays(waiting.size_class, waiting.items);
    match waiting.interval {
        Some(interval) if interval < pays => pays,
        _ => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(start: Instant, items: usize, deadline_millis: u64) -> Waiting {
        Waiting {
            size_class: 0,
            items,
            oldest: start,
            deadline: start + Duration::from_millis(deadline_millis),
            interval: Some(Duration::from_millis(1)),
        }
    }

    #[test]
    fn each_cell_of_the_fixed_delay() {
        let start = crate::clock::now();
        let at = |millis| start + Duration::from_millis(millis);
        let greedy = Policy::fixed_delay(4, Duration::ZERO);
        assert_eq!(greedy.close(start, waiting(start, 1, 1000)), Close::Now(4));
        let patient = Policy::fixed_delay(4, Duration::from_millis(10));
        assert_eq!(patient.close(start, waiting(start, 1, 1000)), Close::At(at(10)));
        assert_eq!(patient.close(start, waiting(start, 4, 1000)), Close::Now(4));
        assert_eq!(patient.close(at(10), waiting(start, 1, 1000)), Close::Now(4));
        assert_eq!(patient.close(start, waiting(start, 1, 6)), Close::At(at(3)));
        assert!(
            !patient.is_doomed(start, 0, 1, start),
            "nothing is known of what runs cost"
        );
    }

    #[test]
    fn by_cost_it_waits_only_where_that_pays() {
        let start = crate::clock::now();
        let costs = CostTable::default();
        for (items, millis) in [(1, 10), (2, 11), (4, 13)] {
            costs.learn(0, items, Duration::from_millis(millis));
        }
        let mut policy = Policy {
            items_max: 4,
            latency_max: Duration::from_millis(100),
            costs: Some(Arc::new(costs)),
        };
        let one = waiting(start, 1, 1000);
        // Company saves 9 ms and comes within 1 ms.
        assert_eq!(policy.close(start, one), Close::At(start + Duration::from_millis(9)));
        let rare = Waiting {
            interval: Some(Duration::from_millis(20)),
            ..one
        };
        assert_eq!(policy.close(start, rare), Close::Now(1));
        assert_eq!(policy.close(start, Waiting { interval: None, ..one }), Close::Now(1));
        policy.latency_max = Duration::ZERO;
        assert_eq!(policy.close(start, one), Close::Now(1), "never by default");
        assert!(policy.is_doomed(start, 0, 1, start + Duration::from_millis(7)));
        assert!(policy.is_doomed(start, 0, 1, start + Duration::from_micros(9_900)));
        assert!(!policy.is_doomed(start, 0, 1, start + Duration::from_millis(10)));
    }
}
