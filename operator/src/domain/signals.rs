//! Whether autoscalers can read the operator's own signals: request rate, queue depth, External queries.

/// Who serves them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Signals {
    /// Not known yet.
    #[default]
    Pending,
    /// Not known, and it could not be found out: what went wrong.
    Failing(String),
    /// We do.
    Served,
    /// Another program has the metrics API: who.
    Taken(String),
    /// Nobody, because of how the operator was started: why.
    Off(String),
}

impl Signals {
    /// Whether autoscalers can read them, as far as that is known.
    pub fn are_served(&self) -> Option<bool> {
        match self {
            Self::Pending | Self::Failing(_) => None,
            Self::Served => Some(true),
            Self::Taken(_) | Self::Off(_) => Some(false),
        }
    }
}
