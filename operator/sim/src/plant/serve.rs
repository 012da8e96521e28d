//! The life of a request in the plant: arrive, wait, be served by the least busy pod, complete. The hot path of a run.

use std::cmp::Reverse;

use super::{Loss, Outcomes, Phase, Plant, Request, Service, Totals};
use crate::time::{NEVER, Nanos};

/// The end of a service, or of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Completion {
    pub(super) at: Nanos,
    pub(super) place: u32,
    /// Of a batch: of its first request.
    pub(super) request: Reverse<(Nanos, Nanos)>,
}

/// What became of an arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrived {
    InService,
    Waits,
    Refused,
}

impl Plant {
    /// A request arrives at the gateway.
    #[inline]
    pub fn arrive(&mut self, now: Nanos, request: Request, outcomes: &mut impl Outcomes) -> Arrived {
        self.totals.arrived += 1;
        self.accrue(now);
        if let Some(arrived) = self.arrive_at_pod(now, request) {
            return arrived;
        }
        // Whoever waits takes a slot when it becomes free: one that is free now is nobody's.
        if let Some(place) = self.balance.least() {
            self.start(place, request, now);
            return Arrived::InService;
        }
        if self.queue.len() >= self.settings.queue_capacity {
            self.totals.lost += 1;
            outcomes.lost(request.arrived, now, Loss::Refused);
            return Arrived::Refused;
        }
        self.queue.push_back(request);
        Arrived::Waits
    }

    /// When the next service ends, or [`NEVER`].
    #[inline]
    pub fn next_completion(&self) -> Nanos {
        self.completions.peek().map_or(NEVER, |Reverse(first)| first.at)
    }

    /// Ends the service that [`Self::next_completion`] announced, and begins the next one.
    #[inline]
    pub fn complete(&mut self, now: Nanos, outcomes: &mut impl Outcomes) {
        let Some(Reverse(done)) = self.completions.pop() else {
            return;
        };
        self.accrue(now);
        let place = done.place;
        let Some(pod) = self.pods[place as usize].as_mut() else {
            return;
        };
        pod.accrue(now);
        if let Service::Batch { .. } = self.settings.service {
            let batch = std::mem::take(&mut self.batches[place as usize]);
            pod.in_flight = 0;
            pod.served += batch.len() as u64;
            let takes = now - done.request.0.1;
            for request in &batch {
                self.totals.count(takes);
                outcomes.served(request.arrived, now);
            }
            self.in_service -= batch.len() as u64;
            // The allocation is kept.
            self.batches[place as usize] = batch;
            self.batches[place as usize].clear();
        } else {
            let Reverse((arrived, service)) = done.request;
            pod.in_flight -= 1;
            pod.served += 1;
            self.in_service -= 1;
            self.totals.count(service);
            outcomes.served(arrived, now);
        }
        let (occupied, phase) = (pod.occupied, pod.phase);
        pod.occupied -= 1;
        if self.serve_own(place, now) {
            return;
        }
        if phase == Phase::Draining {
            if occupied == 1 {
                self.remove(place, now, outcomes);
            }
            return;
        }
        self.balance.remove(place, occupied);
        self.balance.insert(place, occupied - 1);
        if !self.queue.is_empty() {
            self.serve_waiting(now);
        }
    }

    /// When the request that has waited longest at the gateway is given up, or [`NEVER`].
    #[inline]
    pub fn next_expiry(&self) -> Nanos {
        self.queue
            .front()
            .map_or(NEVER, |head| head.arrived.saturating_add(self.settings.hold))
    }

    /// Gives up the request that [`Self::next_expiry`] announced.
    pub fn expire(&mut self, now: Nanos, outcomes: &mut impl Outcomes) {
        self.accrue(now);
        if let Some(head) = self.queue.pop_front() {
            self.totals.lost += 1;
            outcomes.lost(head.arrived, now, Loss::Expired);
        }
    }

    /// Requests that wait are served as far as slots are free.
    pub(super) fn serve_waiting(&mut self, now: Nanos) {
        while !self.queue.is_empty()
            && let Some(place) = self.balance.least()
            && let Some(request) = self.queue.pop_front()
        {
            self.start(place, request, now);
        }
    }

    /// A service begins on a pod with a free slot; a batch takes along who waits.
    fn start(&mut self, place: u32, request: Request, now: Nanos) {
        let Some(pod) = self.pods[place as usize].as_mut() else {
            return;
        };
        pod.accrue(now);
        let occupied = pod.occupied;
        pod.occupied += 1;
        let completion = match self.settings.service {
            Service::Slots(_) => {
                pod.in_flight += 1;
                self.in_service += 1;
                Completion {
                    at: now.saturating_add(request.service),
                    place,
                    request: Reverse((request.arrived, request.service)),
                }
            }
            Service::Batch { alpha, beta, max } => {
                let batch = &mut self.batches[place as usize];
                batch.push(request);
                let more = self.queue.len().min(max as usize - 1);
                batch.extend(self.queue.drain(..more));
                pod.in_flight = batch.len() as u32;
                self.in_service += batch.len() as u64;
                // A request's own service time is drawn round that of a batch of one.
                let alone = (alpha + beta) as f64;
                let whole = alpha as f64 + beta as f64 * batch.len() as f64;
                let takes = request.service as f64 * whole / alone;
                Completion {
                    at: now.saturating_add(takes as Nanos),
                    place,
                    request: Reverse((request.arrived, now)),
                }
            }
        };
        self.balance.remove(place, occupied);
        self.balance.insert(place, occupied + 1);
        self.completions.push(Reverse(completion));
    }

    /// A pod died: its services end without an answer.
    pub(super) fn lose_in_service(&mut self, place: u32, now: Nanos, outcomes: &mut impl Outcomes) {
        self.accrue(now);
        let mut lost = Vec::new();
        self.completions.retain(|Reverse(completion)| {
            let dies = completion.place == place;
            if dies {
                lost.push(completion.request.0.0);
            }
            !dies
        });
        if let Service::Batch { .. } = self.settings.service {
            lost = self.batches[place as usize]
                .drain(..)
                .map(|request| request.arrived)
                .collect();
        }
        lost.sort_unstable();
        for arrived in lost {
            self.totals.lost += 1;
            self.in_service -= 1;
            outcomes.lost(arrived, now, Loss::Killed);
        }
        self.lose_at_pod(place, now, outcomes);
    }

    /// Brings the integral of the requests in the system up to `now`; due before their number changes.
    #[inline]
    pub(super) fn accrue(&mut self, now: Nanos) {
        let inside = self.in_service + self.queued();
        self.concurrency += u128::from(now - self.accrued_at) * u128::from(inside);
        self.accrued_at = now;
    }

    /// Integral over time of the requests in the system, in request-nanoseconds, until `now`.
    pub fn concurrency_integral(&self, now: Nanos) -> u128 {
        let inside = self.in_service + self.queued();
        self.concurrency + u128::from(now - self.accrued_at) * u128::from(inside)
    }

    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Requests that wait.
    pub fn queued(&self) -> u64 {
        self.queue.len() as u64 + self.at_pods_all
    }

    /// Requests in service.
    pub fn in_service(&self) -> u64 {
        self.in_service
    }

    /// When each request in the system arrived.
    pub fn unfinished(&self) -> impl Iterator<Item = Nanos> {
        let batched = self.batches.iter().flatten().map(|request| request.arrived);
        let in_slots = self
            .completions
            .iter()
            .filter(|_| matches!(self.settings.service, Service::Slots(_)))
            .map(|Reverse(completion)| completion.request.0.0);
        self.queue
            .iter()
            .chain(self.at_pods.iter().flatten())
            .map(|request| request.arrived)
            .chain(batched)
            .chain(in_slots)
    }
}

impl Totals {
    #[inline]
    fn count(&mut self, service: Nanos) {
        let seconds = service as f64 / 1e9;
        self.served += 1;
        self.service_seconds += seconds;
        self.service_seconds_squared += seconds * seconds;
    }
}
