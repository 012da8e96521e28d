//! What the controller remembers of one HPA: recommendations and scale events (in its memory), and the status (in the API).
//!
//! A controller that restarts starts with [`State::after_restart`]: without recommendations, its first sync may scale down at once.

/// In and out of every sync.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// Before stabilisation; slots are reused, so they are in no order.
    pub recommendations: Vec<Recommendation>,
    pub scale_up_events: Vec<ScaleEvent>,
    pub scale_down_events: Vec<ScaleEvent>,
    pub status: Status,
}

impl State {
    /// What is left after the controller has lost its memory: the status.
    #[must_use]
    pub fn after_restart(self) -> Self {
        Self {
            status: self.status,
            ..Self::default()
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recommendation {
    pub replicas: i32,
    pub at_ns: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScaleEvent {
    /// Not negative.
    pub change: i32,
    pub at_ns: i64,
    /// Its slot may be reused.
    pub is_outdated: bool,
}

/// `status`, without what a sync does not read or decide.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    pub current_replicas: i32,
    pub desired_replicas: i32,
    pub last_scale_ns: Option<i64>,
    pub conditions: Conditions,
}

/// `status.conditions` by type; `None` where the controller has not set one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conditions {
    pub able_to_scale: Option<Condition>,
    pub scaling_active: Option<Condition>,
    pub scaling_limited: Option<Condition>,
    /// Whether zero replicas are the controller's own doing; it does not wake up what somebody else has put to zero.
    pub scaled_to_zero: Option<Condition>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    pub is_true: bool,
    pub reason: &'static str,
    pub message: String,
    /// When `is_true` was last another.
    pub last_transition_ns: i64,
}

/// `setCondition`: keeps the time of the last transition while the truth stays the same.
pub fn set(slot: &mut Option<Condition>, is_true: bool, reason: &'static str, message: String, now_ns: i64) {
    let last_transition_ns = match slot {
        Some(condition) if condition.is_true == is_true => condition.last_transition_ns,
        _ => now_ns,
    };
    *slot = Some(Condition {
        is_true,
        reason,
        message,
        last_transition_ns,
    });
}
