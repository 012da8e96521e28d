//! The operator's one error type. Each error has a category, a fixed word for logs, events and metrics.

use std::time::Duration;

use thiserror::Error;

/// What went wrong while talking to the outside world or while deciding.
#[derive(Debug, Error)]
pub enum Error {
    /// The API server answered a call with an error, or could not be reached.
    #[error("{call}: {source}")]
    Api {
        /// The call, e.g. `apply Deployment demo/digits-cpu`.
        call: String,
        /// What the client library reported.
        #[source]
        source: Box<kube::Error>,
    },
    /// A call, or a whole reconcile, took longer than it may.
    #[error("{what} took longer than {}s and was given up", limit.as_secs())]
    Timeout {
        /// The call or the step.
        what: String,
        /// How long it was allowed to take.
        limit: Duration,
    },
    /// A child of this name exists and belongs to somebody else: it is neither adopted nor overwritten.
    #[error(
        "{kind} {name} exists and is not controlled by this InferenceService: rename the service or delete that object"
    )]
    NotOurs {
        /// Kind of the child.
        kind: &'static str,
        /// Name of the child.
        name: String,
    },
    /// Reconciling this object panicked. The message is the panic's own.
    #[error("the reconcile panicked: {0}")]
    Panic(String),
    /// Another process leads now: what was begun is left to it.
    #[error("another replica of the operator leads now")]
    NotLeader,
    /// The object as stored cannot be decoded.
    #[error("the stored object cannot be decoded: {0}")]
    Undecodable(String),
    /// Certificates, keys or TLS.
    #[error("TLS: {0}")]
    Tls(String),
    /// A socket or a file.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, with the address or the path.
        what: String,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// A fixed word per kind of error: bounded, hence usable as a metric label and as an event reason.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Api { source, .. } => match &**source {
                kube::Error::Api(status) => match status.code {
                    403 | 401 => "Forbidden",
                    404 => "NotFound",
                    409 => "Conflict",
                    422 | 400 => "Invalid",
                    429 => "TooManyRequests",
                    500.. => "ApiServerError",
                    _ => "ApiError",
                },
                _ => "ApiUnreachable",
            },
            Self::Timeout { .. } => "Timeout",
            Self::NotOurs { .. } => "NotOurs",
            Self::Panic(_) => "Panic",
            Self::NotLeader => "NotLeader",
            Self::Undecodable(_) => "Undecodable",
            Self::Tls(_) => "Tls",
            Self::Io { .. } => "Io",
        }
    }

    /// Whether trying again, without any change of the object, can help. What is not ours has no label of ours, so that no watch tells when it goes.
    pub fn is_transient(&self) -> bool {
        // A refusal of rights passes while roles are being written, or when somebody grants them: no watch of ours tells.
        !matches!(self.category(), "Invalid" | "Undecodable")
    }

    /// Whether the API server refused because the namespace is being deleted.
    pub fn is_namespace_ending(&self) -> bool {
        let Self::Api { source, .. } = self else { return false };
        let kube::Error::Api(status) = &**source else {
            return false;
        };
        status
            .details
            .iter()
            .flat_map(|d| &d.causes)
            .any(|cause| cause.reason == "NamespaceTerminating")
    }

    /// Names the call that failed.
    pub fn api(call: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let call = call.into();
        move |source| Self::Api {
            call,
            source: Box::new(source),
        }
    }
}

/// Shorthand for the operator's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;
