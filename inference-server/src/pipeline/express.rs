//! Small runs on the thread that read the request, where nobody is there to share a run with: waking a worker costs more than the run.

use std::cell::Cell;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::Work;
use crate::batcher::cost::CostTable;
use crate::queue::state::{Entry, Kind};
use crate::queue::task::Part;

/// Runs one entry now; gives it back when no engine is idle.
pub type RunNow = Box<dyn Fn(Entry<Work>) -> Option<Entry<Work>> + Send + Sync>;

/// The longest run that may hold up the other connections of its thread.
const RUN_MAX: Duration = Duration::from_micros(200);

thread_local! {
    /// Whether this thread has run something in its present turn, which is what it does between two waits for the network. A second request in one turn
    /// shows that they come faster than they are served one by one: then batches are cheaper.
    static HAS_RUN: Cell<bool> = const { Cell::new(false) };
}

/// This thread has done all there was to do and is about to wait.
pub fn turn_ends() {
    HAS_RUN.set(false);
}

/// The way past the queue.
#[derive(Default)]
pub struct Express {
    run_now: OnceLock<RunNow>,
}

impl Express {
    /// Opens it; before that nothing takes it.
    pub fn open(&self, run_now: RunNow) {
        // Once, when the model is loaded.
        let _ = self.run_now.set(run_now);
    }

    /// Whether such a run is short enough, and the first of this turn.
    pub fn pays(&self, costs: &CostTable, kind: Kind) -> bool {
        let estimate = || costs.estimate(kind.size_class, kind.items);
        self.run_now.get().is_some() && !HAS_RUN.get() && estimate().is_some_and(|run| run <= RUN_MAX)
    }

    /// Runs it; gives it back when no engine is idle.
    pub fn run(&self, part: Part<Work>, now: Instant, deadline: Instant) -> Option<Part<Work>> {
        let Part { kind, payload } = part;
        let entry = Entry {
            sequence: 0,
            kind,
            arrived: now,
            term: deadline.into(),
            payload,
        };
        let left = match self.run_now.get() {
            Some(run_now) => run_now(entry),
            None => Some(entry),
        };
        HAS_RUN.set(left.is_none());
        left.map(|Entry { kind, payload, .. }| Part { kind, payload })
    }
}

impl std::fmt::Debug for Express {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Express")
            .field("is_open", &self.run_now.get().is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Priority;

    #[test]
    fn only_the_first_short_run_of_a_turn_takes_it() {
        let kind = Kind {
            priority: Priority::Normal,
            group: 0,
            items: 1,
            size_class: 0,
            work: Duration::ZERO,
        };
        let costs = CostTable::default();
        costs.learn(0, 1, Duration::from_micros(20));
        let slow = CostTable::default();
        slow.learn(0, 1, Duration::from_millis(1));
        let part = || Part {
            kind,
            payload: Work {
                inputs: Vec::new(),
                reply: tokio::sync::oneshot::channel().0,
                trace: crate::trace::link(),
            },
        };
        let now = crate::clock::now();
        let express = Express::default();
        assert!(!express.pays(&costs, kind), "it is closed");
        express.open(Box::new(|_| None));
        assert!(express.pays(&costs, kind));
        assert!(
            !express.pays(&CostTable::default(), kind),
            "nothing is known of the run"
        );
        assert!(!express.pays(&slow, kind), "it would hold up others");
        assert!(express.run(part(), now, now).is_none());
        assert!(!express.pays(&costs, kind), "there is company");
        turn_ends();
        assert!(express.pays(&costs, kind));
        let taken = Express::default();
        taken.open(Box::new(Some));
        assert!(taken.run(part(), now, now).is_some(), "no engine is idle");
        assert!(express.pays(&costs, kind), "nothing was run");
    }
}
