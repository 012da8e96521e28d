//! Values of labels that tell how something of the server's own ended, and why it was done.

/// Values of the label `outcome` of [`crate::metrics::TLS_RELOADS`].
pub mod reload {
    /// The new certificate is served.
    pub const SUCCESS: &str = "success";
    /// It cannot be used; the one before is still served.
    pub const ERROR: &str = "error";
}

/// Values of the label `cause`.
pub mod cause {
    /// The server started.
    pub const START: &str = "start";
    /// Somebody asked for it through the repository.
    pub const REQUEST: &str = "request";
    /// A request for inference needed the model.
    pub const DEMAND: &str = "demand";
    /// Another model needed the memory.
    pub const MEMORY: &str = "memory";
}

/// Values of the label `outcome` of [`crate::metrics::ML_MODEL_LOADS`].
pub mod load {
    /// It serves.
    pub const SUCCESS: &str = "success";
    /// It does not; what served before still does.
    pub const ERROR: &str = "error";
}

/// Values of the label `outcome` of [`crate::metrics::TRACE_SPANS`].
pub mod span {
    /// Made. What is neither sent nor failed waits, or found the queue full.
    pub const RECORDED: &str = "recorded";
    /// Taken by the collector.
    pub const SENT: &str = "sent";
    /// The collector could not be reached, or refused.
    pub const FAILED: &str = "failed";
}
