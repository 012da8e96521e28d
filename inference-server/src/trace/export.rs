//! Where spans go: which requests are traced, a bounded queue, and a thread that sends them to the collector over gRPC.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::HeaderMap;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{Link, SpanKind, TraceId, TracerProvider};
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use opentelemetry_otlp::{SpanExporter as OtlpExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SamplingDecision, SamplingResult, SdkTracer, SdkTracerProvider,
    ShouldSample, Span, SpanData, SpanExporter, SpanProcessor,
};
use tidewright_contract::config::TracingConfig;

use super::Protocol;
use super::call::Call;
use crate::metrics::SpanMetrics;

/// Name of the service in traces, unless `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES` says another.
const SERVICE_NAME: &str = "inference-server";
/// Spans that wait to be sent; beyond it they are lost, and counted. About a kilobyte each.
const QUEUE_SPANS_MAX: usize = 4096;
/// Spans that are sent at once.
const SEND_SPANS_MAX: usize = 512;
/// How long spans wait for company.
const SEND_EVERY: Duration = Duration::from_secs(1);
/// Time for the collector to take them.
const SEND_TIMEOUT: Duration = Duration::from_secs(3);
/// Time for what is left when the server ends.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether and where calls are traced.
#[derive(Debug, Clone, Default)]
pub struct Tracing(Option<On>);

#[derive(Debug, Clone)]
struct On {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Tracing {
    /// On when there is a config. Must be called inside the runtime, which carries the connection.
    ///
    /// # Errors
    /// A sentence when the collector's address cannot be used.
    pub fn start(config: Option<&TracingConfig>, metrics: SpanMetrics) -> Result<Self, String> {
        let Some(config) = config else {
            return Ok(Self(None));
        };
        let exporter = OtlpExporter::builder()
            .with_tonic()
            .with_endpoint(&config.endpoint)
            .with_timeout(SEND_TIMEOUT)
            .build()
            .map_err(|error| format!("tracing.endpoint: {error}"))?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE_SPANS_MAX)
            .with_max_export_batch_size(SEND_SPANS_MAX)
            .with_scheduled_delay(SEND_EVERY)
            .build();
        let exporter = Counted {
            inner: exporter,
            metrics: metrics.clone(),
            is_failing: AtomicBool::new(false),
        };
        let processor = Recorded {
            inner: BatchSpanProcessor::builder(exporter).with_batch_config(batches).build(),
            metrics,
        };
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampling::one_in(config.one_in))
            .with_resource(resource())
            .with_span_processor(processor)
            .build();
        let scope = InstrumentationScope::builder(env!("CARGO_PKG_NAME"))
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        let tracer = provider.tracer_with_scope(scope);
        tracing::info!(
            endpoint = config.endpoint,
            one_in = config.one_in,
            "requests are traced"
        );
        Ok(Self(Some(On { provider, tracer })))
    }

    /// A call that begins now; `template` says which route it takes, if that is one that is traced.
    pub fn begin(
        &self,
        protocol: Protocol,
        template: impl FnOnce() -> Option<&'static str>,
        headers: &HeaderMap,
    ) -> Call {
        let Some(on) = &self.0 else {
            return Call::none();
        };
        let Some(template) = template() else {
            return Call::none();
        };
        let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers));
        Call::begin(&on.tracer, &parent, protocol, template)
    }

    /// Sends what is left, for a moment.
    pub async fn end(self) {
        let Some(on) = self.0 else { return };
        // Waits for the thread that sends, which needs this one to carry the connection.
        let ended = tokio::task::spawn_blocking(move || on.provider.shutdown_with_timeout(END_TIMEOUT)).await;
        if !matches!(ended, Ok(Ok(()))) {
            tracing::warn!("the last spans could not be sent");
        }
    }
}

fn resource() -> Resource {
    let named_elsewhere = Resource::builder().build();
    let name = named_elsewhere
        .get(&"service.name".into())
        .filter(|name| !name.as_str().starts_with("unknown_service"));
    let mut own = vec![KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))];
    if name.is_none() {
        own.push(KeyValue::new("service.name", SERVICE_NAME));
    }
    Resource::builder().with_attributes(own).build()
}

struct Headers<'h>(&'h HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

/// Who is traced: whoever's caller is; of those without a traced or untraced caller a share; a run with a traced request in it.
#[derive(Debug, Clone)]
struct Sampling(Sampler);

impl Sampling {
    fn one_in(count: u32) -> Self {
        let root = match count {
            0 => Sampler::AlwaysOff,
            1 => Sampler::AlwaysOn,
            count => Sampler::TraceIdRatioBased(1.0 / f64::from(count)),
        };
        Self(Sampler::ParentBased(Box::new(root)))
    }
}

impl ShouldSample for Sampling {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        if links.iter().any(|link| link.span_context.is_sampled()) {
            return SamplingResult {
                decision: SamplingDecision::RecordAndSample,
                attributes: Vec::new(),
                trace_state: opentelemetry::trace::TraceState::default(),
            };
        }
        self.0.should_sample(parent, trace_id, name, kind, attributes, links)
    }
}

/// Counts spans before they wait, so that those that find the queue full are seen as missing.
#[derive(Debug)]
struct Recorded {
    inner: BatchSpanProcessor,
    metrics: SpanMetrics,
}

impl SpanProcessor for Recorded {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        self.metrics.recorded.inc();
        self.inner.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// Counts what was sent and what was not, and says so in the log when it changes.
#[derive(Debug)]
struct Counted {
    inner: OtlpExporter,
    metrics: SpanMetrics,
    is_failing: AtomicBool,
}

impl SpanExporter for Counted {
    async fn export(&self, spans: Vec<SpanData>) -> OTelSdkResult {
        let count = spans.len() as u64;
        let result = self.inner.export(spans).await;
        let was_failing = self.is_failing.swap(result.is_err(), Ordering::Relaxed);
        match &result {
            Ok(()) => {
                self.metrics.sent.inc_by(count);
                if was_failing {
                    tracing::info!("the collector takes spans again");
                }
            }
            Err(error) => {
                self.metrics.failed.inc_by(count);
                if !was_failing {
                    tracing::warn!(%error, "spans cannot be sent to the collector; requests are served all the same");
                }
            }
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceState};

    use super::*;

    fn decision(sampling: &Sampling, trace: u128, parent: Option<TraceFlags>, links: &[Link]) -> bool {
        let context = |flags| {
            let context = SpanContext::new(TraceId::from(trace), SpanId::from(1), flags, true, TraceState::NONE);
            Context::new().with_remote_span_context(context)
        };
        let parent = parent.map_or_else(Context::new, context);
        let kind = SpanKind::Server;
        let result = sampling.should_sample(Some(&parent), TraceId::from(trace), "", &kind, &[], links);
        result.decision == SamplingDecision::RecordAndSample
    }

    #[test]
    fn a_caller_s_decision_is_kept_and_of_the_others_a_share_is_traced() {
        // The ratio goes by the low half of the id.
        let ids = (0..1000u128).map(|number| number << 54);
        let share = |count: u32, parent: Option<TraceFlags>| {
            let sampling = Sampling::one_in(count);
            ids.clone()
                .filter(|id| decision(&sampling, *id + 1, parent, &[]))
                .count()
        };
        assert_eq!((share(0, None), share(1, None)), (0, 1000));
        assert!((90..=110).contains(&share(10, None)), "{}", share(10, None));
        for count in [0, 1, 10] {
            assert_eq!(share(count, Some(TraceFlags::SAMPLED)), 1000);
            assert_eq!(share(count, Some(TraceFlags::NOT_SAMPLED)), 0);
        }
    }

    #[test]
    fn a_run_is_traced_when_one_of_its_requests_is() {
        let sampling = Sampling::one_in(0);
        let link = |flags| {
            let context = SpanContext::new(TraceId::from(7), SpanId::from(1), flags, false, TraceState::NONE);
            Link::with_context(context)
        };
        assert!(decision(&sampling, 1, None, &[link(TraceFlags::SAMPLED)]));
        assert!(!decision(&sampling, 1, None, &[link(TraceFlags::NOT_SAMPLED)]));
    }
}
