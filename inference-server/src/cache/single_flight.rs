//! Identical misses at the same time run once: the first leads, the others wait for its result. A leader that leaves hands the lead to another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::key::Key;
use crate::error::Error;
use crate::request::Outputs;

/// A result that followers may share. Refusals and timeouts concern the leader alone.
type Shared = Option<Result<Outputs, Error>>;

/// Flights under way by key.
#[derive(Debug, Default)]
pub struct SingleFlight {
    flights: Mutex<HashMap<Key, watch::Receiver<Shared>>>,
}

/// What a caller is told to do.
#[derive(Debug)]
pub enum Role {
    /// Compute, then call [`Lead::land`].
    Lead(Lead),
    /// Wait for [`Follow::result`].
    Follow(Follow),
}

/// The right and duty to compute. Dropping it without landing lets another lead.
#[derive(Debug)]
pub struct Lead {
    owner: Arc<SingleFlight>,
    key: Key,
    sender: watch::Sender<Shared>,
}

/// A share in another's flight.
#[derive(Debug)]
pub struct Follow(watch::Receiver<Shared>);

impl SingleFlight {
    /// Joins the flight of this key, or starts it.
    pub fn join(self: &Arc<Self>, key: Key) -> Role {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(receiver) = flights.get(&key) {
            return Role::Follow(Follow(receiver.clone()));
        }
        let (sender, receiver) = watch::channel(None);
        flights.insert(key, receiver);
        Role::Lead(Lead {
            owner: Arc::clone(self),
            key,
            sender,
        })
    }
}

impl Lead {
    /// Publishes the result; followers of a result that is the leader's own affair try again themselves.
    pub fn land(self, result: &Result<Outputs, Error>) {
        if matches!(result, Ok(_) | Err(Error::Invalid(_) | Error::ModelFailed(_))) {
            self.sender.send_replace(Some(result.clone()));
        }
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.owner
            .flights
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.key);
    }
}

impl Follow {
    /// The leader's result; `None` when it left without one.
    pub async fn result(mut self) -> Option<Result<Outputs, Error>> {
        let shared = self.0.wait_for(Option::is_some).await.ok()?;
        shared.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    async fn fly(flights: &Arc<SingleFlight>, runs: &AtomicUsize, fail_first: bool) -> Result<Outputs, Error> {
        loop {
            match flights.join([0; 32]) {
                Role::Follow(follow) => {
                    if let Some(result) = follow.result().await {
                        return result;
                    }
                }
                Role::Lead(lead) => {
                    let run = runs.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                    let result = if fail_first && run == 0 {
                        Err(Error::Deadline)
                    } else {
                        Ok(Outputs::default())
                    };
                    lead.land(&result);
                    return result;
                }
            }
        }
    }

    #[tokio::test]
    async fn many_identical_requests_run_once() {
        let flights = Arc::new(SingleFlight::default());
        let runs = Arc::new(AtomicUsize::new(0));
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..1000 {
            let (flights, runs) = (Arc::clone(&flights), Arc::clone(&runs));
            all.spawn(async move { fly(&flights, &runs, false).await });
        }
        assert!(all.join_all().await.iter().all(Result::is_ok));
        assert_eq!(runs.load(Ordering::Relaxed), 1);
        assert!(flights.flights.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_leader_that_fails_for_itself_or_leaves_hands_over() {
        let flights = Arc::new(SingleFlight::default());
        let Role::Lead(gone) = flights.join([0; 32]) else {
            panic!("first leads")
        };
        let Role::Follow(follow) = flights.join([0; 32]) else {
            panic!("second follows")
        };
        drop(gone);
        assert!(follow.result().await.is_none());
        let runs = Arc::new(AtomicUsize::new(0));
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..10 {
            let (flights, runs) = (Arc::clone(&flights), Arc::clone(&runs));
            all.spawn(async move { fly(&flights, &runs, true).await });
        }
        let results = all.join_all().await;
        assert_eq!(results.iter().filter(|result| result.is_err()).count(), 1);
        assert_eq!(runs.load(Ordering::Relaxed), 2);
    }
}
