//! One pod: its phase, what it is doing, and the counters that its metrics show.

use crate::time::Nanos;

/// Where a pod is in its life. A dead pod no longer exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// No node has room for it.
    Pending,
    /// Pulls and loads.
    Starting,
    /// Takes requests.
    Ready,
    /// Told to end: finishes what it has, takes nothing.
    Draining,
}

/// Usage as the kubelet reports it to the resource metrics API.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    /// End of the window.
    pub at: Nanos,
    pub window: Nanos,
    /// Mean over the window, as share of what the pod requests: 1 is all slots busy all the time.
    pub share: f64,
}

#[derive(Debug, Clone)]
pub struct Pod {
    /// Pods are numbered in order of creation; the number also indexes the draw of the start time.
    pub ordinal: u64,
    pub phase: Phase,
    pub created: Nanos,
    /// When it became ready, once it has.
    pub ready_since: Option<Nanos>,
    /// Occupied slots; a batch occupies one.
    pub occupied: u32,
    /// Requests in service.
    pub in_flight: u32,
    /// Requests served.
    pub served: u64,
    /// Slot-nanoseconds of work until `accrued_at`.
    work: u128,
    accrued_at: Nanos,
    /// Work at the end of the last resource window, and when that was.
    reported: (Nanos, u128),
    pub usage: Option<Usage>,
}

impl Pod {
    pub(super) fn new(ordinal: u64, now: Nanos) -> Self {
        Self {
            ordinal,
            phase: Phase::Pending,
            created: now,
            ready_since: None,
            occupied: 0,
            in_flight: 0,
            served: 0,
            work: 0,
            accrued_at: now,
            reported: (now, 0),
            usage: None,
        }
    }

    /// Brings the work up to `now`; due before every change of `occupied`.
    #[inline]
    pub(super) fn accrue(&mut self, now: Nanos) {
        self.work += u128::from(now - self.accrued_at) * u128::from(self.occupied);
        self.accrued_at = now;
    }

    /// Busy slot-seconds until `now`: what a CPU counter would show.
    pub fn work_seconds(&self, now: Nanos) -> f64 {
        (self.work + u128::from(now - self.accrued_at) * u128::from(self.occupied)) as f64 / 1e9
    }

    /// Closes a window of the resource metrics.
    pub(super) fn report(&mut self, now: Nanos, slots: u32) {
        self.accrue(now);
        let (since, before) = self.reported;
        if now > since {
            let window = now - since;
            self.usage = Some(Usage {
                at: now,
                window,
                share: (self.work - before) as f64 / (window as f64 * f64::from(slots)),
            });
        }
        self.reported = (now, self.work);
    }

    /// Counts towards the Deployment's replicas: not one that was told to end.
    pub fn is_active(&self) -> bool {
        self.phase != Phase::Draining
    }
}
