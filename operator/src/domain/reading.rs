//! One measured number, or why there is none.

use std::fmt;

use jiff::Timestamp;

/// A number that passed every check: finite, not negative, fresh, and measured on enough pods.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Requests per second, waiting requests, or whatever an external query answers.
    pub value: f64,
    /// When the newest scrape behind it was made, on the operator's clock.
    pub at: Timestamp,
}

/// Why there is no number. Closed, so that it can be a condition's reason and a metric's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The service is known, and its signals have not been read yet.
    NotYetRead,
    /// The metrics source itself has stopped: the last reading is too old to be used.
    SourceStalled,
    /// The operator was started without a Prometheus address.
    NotConfigured,
    /// No connection: refused, reset, unknown host, TLS failure.
    PrometheusUnreachable,
    /// No complete answer in time.
    PrometheusTimeout,
    /// 401 or 403.
    PrometheusForbidden,
    /// 429.
    PrometheusThrottled,
    /// A redirect; never followed, since it could carry credentials elsewhere.
    PrometheusRedirected,
    /// Another HTTP error, or `status: error`.
    PrometheusError,
    /// More bytes or more series than a sane answer has.
    AnswerTooLarge,
    /// Not the JSON of a query answer: HTML, cut off, other types.
    AnswerMalformed,
    /// Prometheus answered with warnings: part of the data is missing.
    AnswerPartial,
    /// The answer was computed at another time than now.
    ClockSkew,
    /// No pod of the pool is ready.
    NoReadyPods,
    /// Pods have been ready for so short a time that Prometheus cannot have scraped them twice.
    WarmingUp,
    /// Prometheus has not scraped the pods for the whole window of a rate: it was away, or scrapes less often than it should.
    WindowNotFilled,
    /// Prometheus does not scrape the pool.
    NoTargets,
    /// Scraped, but the metric is not there.
    NoSamples,
    /// The newest sample is too old.
    StaleSamples,
    /// Too few of the ready pods are scraped.
    PartialTargets,
    /// Pods are scraped more than once: sums would count them twice.
    DuplicateTargets,
    /// More than one number where one was asked for.
    Ambiguous,
    /// NaN or infinite.
    NotFinite,
    /// Below zero.
    Negative,
    /// Larger than any load can be.
    Implausible,
    /// The external query cannot be run as it stands.
    QueryRefused,
    /// The service has no such pool or no such external query.
    Unknown,
}

impl Reason {
    /// CamelCase, as in a condition.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotYetRead => "NotYetRead",
            Self::SourceStalled => "SourceStalled",
            Self::NotConfigured => "NotConfigured",
            Self::PrometheusUnreachable => "PrometheusUnreachable",
            Self::PrometheusTimeout => "PrometheusTimeout",
            Self::PrometheusForbidden => "PrometheusForbidden",
            Self::PrometheusThrottled => "PrometheusThrottled",
            Self::PrometheusRedirected => "PrometheusRedirected",
            Self::PrometheusError => "PrometheusError",
            Self::AnswerTooLarge => "AnswerTooLarge",
            Self::AnswerMalformed => "AnswerMalformed",
            Self::AnswerPartial => "AnswerPartial",
            Self::ClockSkew => "ClockSkew",
            Self::NoReadyPods => "NoReadyPods",
            Self::WarmingUp => "WarmingUp",
            Self::WindowNotFilled => "WindowNotFilled",
            Self::NoTargets => "NoTargets",
            Self::NoSamples => "NoSamples",
            Self::StaleSamples => "StaleSamples",
            Self::PartialTargets => "PartialTargets",
            Self::DuplicateTargets => "DuplicateTargets",
            Self::Ambiguous => "Ambiguous",
            Self::NotFinite => "NotFinite",
            Self::Negative => "Negative",
            Self::Implausible => "Implausible",
            Self::QueryRefused => "QueryRefused",
            Self::Unknown => "Unknown",
        }
    }

    /// Whether this passes by itself while a service starts, and is no fault of anything.
    pub fn is_starting(self) -> bool {
        matches!(self, Self::NotYetRead | Self::NoReadyPods | Self::WarmingUp)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// No number, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailable {
    /// The kind of trouble.
    pub reason: Reason,
    /// One sentence for a person; it ends in `kubectl describe hpa`.
    pub message: String,
}

impl Unavailable {
    /// A reason and its sentence.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.message)
    }
}

/// A checked number, or why there is none. There is no third case: absence is never zero.
pub type Reading = Result<Sample, Unavailable>;
