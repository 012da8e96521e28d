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
    /// We do, but only what another Prometheus answers: the operator was started without one of its own.
    NoPrometheus,
    /// Nobody: the operator was started without its metrics API.
    Off,
}

impl Signals {
    /// Whether autoscalers can read those that the operator measures by itself, as far as that is known.
    pub fn are_served(&self) -> Option<bool> {
        match self {
            Self::Pending | Self::Failing(_) => None,
            Self::Served => Some(true),
            Self::Taken(_) | Self::NoPrometheus | Self::Off => Some(false),
        }
    }
}
