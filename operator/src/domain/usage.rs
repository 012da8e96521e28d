//! What the servers use of processor and memory, as metrics.k8s.io has it.

use std::collections::BTreeMap;

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};

/// What the server's container of one pod used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// The end of the time that it is of.
    pub at: Timestamp,
    /// The time that the processor's part is the mean of.
    pub window: SignedDuration,
    /// Thousandths of a core.
    pub cpu_millis: u64,
    /// Thousandths of a byte, as Kubernetes computes with them.
    pub memory_millis: u64,
}

/// By namespace and name of the pod.
pub type Usages = BTreeMap<(String, String), Usage>;

/// What came of the last look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Answer {
    /// There was none.
    #[default]
    NotAsked,
    /// No answer, and why.
    Failed(String),
    /// What the pods used that it knows of.
    Used(Usages),
}

/// The last answer. Readers never wait.
pub type Used = ArcSwap<Answer>;
