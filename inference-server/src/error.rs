//! What can go wrong with one inference request, by category. Protocols turn it into a status code in one table.

use std::fmt;
use std::time::Duration;

/// Why a request was not answered with a prediction. The text is for the client: it names inputs, shapes and datatypes, never a path or host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The request does not fit the protocol or the model.
    Invalid(String),
    /// No such model, version or path.
    NotFound(String),
    /// The path exists, the method does not.
    MethodNotAllowed { allow: &'static str },
    /// The body is longer than the limit.
    TooLarge { limit_bytes: u64 },
    /// The body is of a kind that is not read.
    UnsupportedMedia(String),
    /// The body is encoded in a way that is not decoded.
    UnsupportedCoding(String),
    /// The client was too slow in sending the body.
    BodyTimeout,
    /// The queue is full or too many requests are under way.
    Overloaded { message: String, retry_after: Duration },
    /// The server or the model is not ready.
    NotReady(String),
    /// Not done before the deadline.
    Deadline,
    /// The model ran and failed on this input.
    ModelFailed(String),
    /// A defect of the server, or a worker that died.
    Internal(String),
}

/// Coarse category, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category {
    /// The client must change the request.
    Client,
    /// The client may try again later.
    Rejected,
    /// Too late.
    Timeout,
    /// Our fault.
    Server,
}

impl Error {
    /// The category.
    pub fn category(&self) -> Category {
        match self {
            Self::Invalid(_)
            | Self::NotFound(_)
            | Self::MethodNotAllowed { .. }
            | Self::TooLarge { .. }
            | Self::UnsupportedMedia(_)
            | Self::UnsupportedCoding(_)
            | Self::BodyTimeout => Category::Client,
            Self::Overloaded { .. } | Self::NotReady(_) => Category::Rejected,
            Self::Deadline => Category::Timeout,
            Self::ModelFailed(_) | Self::Internal(_) => Category::Server,
        }
    }

    /// Shorthand for a request that does not fit.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(message)
            | Self::NotFound(message)
            | Self::UnsupportedMedia(message)
            | Self::UnsupportedCoding(message)
            | Self::NotReady(message)
            | Self::ModelFailed(message)
            | Self::Internal(message)
            | Self::Overloaded { message, .. } => formatter.write_str(message),
            Self::MethodNotAllowed { allow } => write!(formatter, "method not allowed, use {allow}"),
            Self::TooLarge { limit_bytes } => {
                write!(formatter, "the body is longer than the limit of {limit_bytes} bytes")
            }
            Self::BodyTimeout => formatter.write_str("the body did not arrive in time"),
            Self::Deadline => formatter.write_str("the deadline of the request passed before it was answered"),
        }
    }
}

impl std::error::Error for Error {}

/// A client's text, short enough to be given back.
pub fn clip(text: &str) -> String {
    text.chars().take(128).collect()
}
