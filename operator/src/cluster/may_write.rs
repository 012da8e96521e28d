//! Whether we may write at this very moment.
//!
//! The election says who leads, but only as often as it looks. A process that hung, or was frozen, wakes up with the last word it
//! heard, long after another has taken over: hence the word has a time until which it is good, and that is looked at before each write.

use tokio::sync::watch;
use tokio::time::Instant;

/// For how long a word of the election is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Term {
    /// There is no election: we lead.
    Unlimited,
    /// Until this instant of the monotonic clock, which goes on while a process is frozen (not while the machine itself is suspended).
    Until(Instant),
    /// We do not lead.
    Over,
}

/// Whether we may write at this very moment. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MayWrite(watch::Receiver<Term>);

impl MayWrite {
    /// Follows the election.
    pub fn new(term: watch::Receiver<Term>) -> Self {
        Self(term)
    }

    /// The answer.
    pub fn now(&self) -> bool {
        match *self.0.borrow() {
            Term::Unlimited => true,
            Term::Until(end) => monotonic() < end,
            Term::Over => false,
        }
    }
}

fn monotonic() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{MayWrite, Term, monotonic};
    use tokio::sync::watch;

    #[test]
    fn a_word_is_good_until_its_time() {
        let (sender, term) = watch::channel(Term::Over);
        let may_write = MayWrite::new(term);
        assert!(!may_write.now());
        sender.send_replace(Term::Until(monotonic() + Duration::from_secs(3600)));
        assert!(may_write.now());
        // Nobody has said anything since: the election itself hangs.
        sender.send_replace(Term::Until(monotonic()));
        assert!(!may_write.now());
        sender.send_replace(Term::Unlimited);
        assert!(may_write.now());
    }
}
