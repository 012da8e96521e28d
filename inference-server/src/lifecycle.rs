//! The states of the server and who may wait for them. Ready is true in one state only.

use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

/// In the order in which they follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Reading the config, opening the ports.
    Starting,
    /// Reading models, making sessions.
    Loading,
    /// Running the shapes to be served.
    Warming,
    /// Serving.
    Ready,
    /// Serving what still comes, telling everyone to go elsewhere.
    Draining,
    /// Nothing is accepted any more.
    Stopped,
}

/// All states.
pub const STATES: [State; 6] = [
    State::Starting,
    State::Loading,
    State::Warming,
    State::Ready,
    State::Draining,
    State::Stopped,
];

impl State {
    /// The word in answers, logs and labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Loading => "loading",
            Self::Warming => "warming",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
        }
    }

    /// Whether inference requests are accepted.
    pub const fn serves(self) -> bool {
        matches!(self, Self::Ready | Self::Draining)
    }
}

/// The current state, and what is waited for in it.
#[derive(Debug)]
pub struct Lifecycle {
    state: watch::Sender<State>,
    waiting_for: Mutex<Vec<String>>,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self {
            state: watch::Sender::new(State::Starting),
            waiting_for: Mutex::new(vec!["configuration".to_owned()]),
        }
    }
}

impl Lifecycle {
    /// The current state.
    pub fn state(&self) -> State {
        *self.state.borrow()
    }

    /// Goes forward to a state; going back is refused, so that a late "ready" cannot undo a drain.
    pub fn advance(&self, to: State) -> bool {
        let moved = self.state.send_if_modified(|state| {
            let forward = *state < to;
            if forward {
                *state = to;
            }
            forward
        });
        if moved {
            tracing::info!(state = to.as_str(), "state");
        }
        moved
    }

    /// Says what the server waits for, one entry per thing.
    pub fn wait_for(&self, things: Vec<String>) {
        *self.waiting_for.lock().unwrap_or_else(PoisonError::into_inner) = things;
    }

    /// One thing less to wait for.
    pub fn done(&self, thing: &str) {
        self.waiting_for
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|other| other != thing);
    }

    /// What the server waits for.
    pub fn waiting_for(&self) -> Vec<String> {
        self.waiting_for.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The states from now on.
    pub fn subscribe(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_forward_and_ready_in_one_state_only() {
        let lifecycle = Lifecycle::default();
        assert!(lifecycle.advance(State::Draining));
        assert!(!lifecycle.advance(State::Ready));
        assert_eq!(lifecycle.state(), State::Draining);
        assert_eq!(STATES.map(State::as_str), tidewright_contract::metrics::state::ALL);
        assert_eq!(STATES.into_iter().filter(|state| *state == State::Ready).count(), 1);
    }
}
