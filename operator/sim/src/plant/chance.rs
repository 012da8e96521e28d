//! Requests that go to a ready pod by chance and wait there, until it serves them or dies.

use std::cmp::Reverse;

use super::serve::{Arrived, Completion};
use super::{Balancing, Loss, Outcomes, Phase, Plant, Request};
use crate::random::{Purpose, Stream};
use crate::time::Nanos;

impl Plant {
    /// Gives an arrival to a pod, where chance does that and some pod is ready; otherwise it is the gateway's.
    pub(super) fn arrive_at_pod(&mut self, now: Nanos, request: Request) -> Option<Arrived> {
        if self.settings.balancing == Balancing::Central || self.count.ready == 0 {
            return None;
        }
        // The number of the request decides, so that policies with as many pods meet equal luck.
        let chance = Stream::new(self.settings.seed, Purpose::Balance).uniform(self.totals.arrived);
        let index = (chance * f64::from(self.count.ready)) as usize;
        let (place, occupied) = self.nth_ready(index)?;
        if occupied < self.settings.service.lanes() {
            self.begin(place, request, now);
            self.balance.remove(place, occupied);
            self.balance.insert(place, occupied + 1);
            return Some(Arrived::InService);
        }
        self.at_pods[place as usize].push_back(request);
        self.at_pods_all += 1;
        Some(Arrived::Waits)
    }

    fn nth_ready(&self, index: usize) -> Option<(u32, u32)> {
        let mut ready = self.pods().filter(|(_, pod)| pod.phase == Phase::Ready);
        ready.nth(index).map(|(place, pod)| (place, pod.occupied))
    }

    /// The slot that has become free at a place is taken by who waits there, if somebody does.
    pub(super) fn serve_own(&mut self, place: u32, now: Nanos) -> bool {
        let Some(request) = self.at_pods[place as usize].pop_front() else {
            return false;
        };
        self.at_pods_all -= 1;
        self.begin(place, request, now);
        true
    }

    fn begin(&mut self, place: u32, request: Request, now: Nanos) {
        let Some(pod) = self.pods[place as usize].as_mut() else {
            return;
        };
        pod.accrue(now);
        pod.occupied += 1;
        pod.in_flight += 1;
        self.in_service += 1;
        self.completions.push(Reverse(Completion {
            at: now.saturating_add(request.service),
            place,
            request: Reverse((request.arrived, request.service)),
        }));
    }

    /// A pod died: who waited there has no answer.
    pub(super) fn lose_at_pod(&mut self, place: u32, now: Nanos, outcomes: &mut impl Outcomes) {
        for request in self.at_pods[place as usize].drain(..) {
            self.at_pods_all -= 1;
            self.totals.lost += 1;
            outcomes.lost(request.arrived, now, Loss::Killed);
        }
    }
}
