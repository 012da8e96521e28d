//! The part of the config file that says what can be seen of the server: its admin port, and traces.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::problems::Problems;

/// The port of metrics and probes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AdminConfig {
    /// IP address and port; port 0 takes a free one (the ready line says which).
    pub address: SocketAddr,
    /// Whether CPU profiles can be taken there: they name functions and cost a signal per sample, so that not everyone who scrapes should have them.
    #[serde(default, skip_serializing_if = "is_false")]
    pub profiling: bool,
}

/// Traces of requests, for an OpenTelemetry collector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TracingConfig {
    /// Where spans are sent: OTLP over gRPC, in the clear, `http://HOST:PORT`.
    pub endpoint: String,
    /// Of the requests whose caller has not decided, one in so many is traced, by chance. 1: each, 0: none. A caller's decision is always kept.
    #[serde(default = "default_one_in")]
    pub one_in: u32,
}

impl TracingConfig {
    /// Every request, to this collector.
    pub fn to(endpoint: impl Into<String>) -> Self {
        Self {
            endpoint: endpoint.into(),
            one_in: default_one_in(),
        }
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        let authority = self
            .endpoint
            .strip_prefix("http://")
            .map(|rest| rest.trim_end_matches('/'));
        // What else is wrong with it shows when it is used; this is what people get wrong.
        if !authority.is_some_and(|authority| !authority.is_empty() && !authority.contains('/')) {
            problems.add(
                "tracing.endpoint",
                "must be http://HOST:PORT of an OTLP receiver for gRPC (port 4317, not 4318)",
            );
        }
    }
}

fn default_one_in() -> u32 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde asks for
fn is_false(value: &bool) -> bool {
    !*value
}
