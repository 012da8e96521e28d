//! Flags of `serve` about what can be seen of the server.

use tidewright_contract::config::{ServeConfig, TracingConfig};

/// Profiles and traces.
#[derive(Debug, Default, clap::Args)]
pub struct TelemetryArgs {
    /// Give CPU profiles on the admin port, at /debug/pprof/profile [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", env = "TIDEWRIGHT_ADMIN_PROFILING")]
    pub admin_profiling: Option<bool>,
    /// Collector of traces that speaks OTLP over gRPC, http://HOST:PORT; without it nothing is traced
    #[arg(long, value_name = "URL", env = "TIDEWRIGHT_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<String>,
    /// Of the requests whose caller has not decided, trace one in so many; 0 is none [default: 1]
    #[arg(long, value_name = "COUNT", env = "TIDEWRIGHT_TRACE_ONE_IN")]
    pub trace_one_in: Option<u32>,
}

impl TelemetryArgs {
    pub(super) fn lay_over(&self, config: &mut ServeConfig) {
        if let Some(profiling) = self.admin_profiling {
            config.admin.profiling = profiling;
        }
        if let Some(endpoint) = &self.otlp_endpoint {
            match &mut config.tracing {
                Some(tracing) => tracing.endpoint.clone_from(endpoint),
                None => config.tracing = Some(TracingConfig::to(endpoint)),
            }
        }
        // Alone it traces nothing: a fleet may share the share, and name a collector where there is one.
        if let (Some(count), Some(tracing)) = (self.trace_one_in, &mut config.tracing) {
            tracing.one_in = count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_without_a_collector_traces_nothing() {
        let mut config = ServeConfig::new(Vec::new());
        let share = TelemetryArgs {
            trace_one_in: Some(9),
            ..TelemetryArgs::default()
        };
        share.lay_over(&mut config);
        assert_eq!(config.tracing, None);
        let both = TelemetryArgs {
            otlp_endpoint: Some("http://a:4317".to_owned()),
            ..share
        };
        both.lay_over(&mut config);
        let expected = TracingConfig {
            endpoint: "http://a:4317".to_owned(),
            one_in: 9,
        };
        assert_eq!(config.tracing, Some(expected));
    }
}
