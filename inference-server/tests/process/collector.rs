//! A collector of traces: OTLP over gRPC, as an OpenTelemetry Collector takes it, and what it was sent.

use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use tonic::{Request, Response, Status};

use crate::grpc::runtime;

/// A collector; it ends with its test.
pub struct Collector {
    pub address: SocketAddr,
    received: Received,
    _runtime: tokio::runtime::Runtime,
}

type Received = Arc<(Mutex<Vec<ExportTraceServiceRequest>>, Condvar)>;

struct Service(Received);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.0.lock().unwrap().push(request.into_inner());
        self.0.1.notify_all();
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    pub fn start() -> Self {
        let runtime = runtime();
        let received = Received::default();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let service = TowerToHyperService::new(TraceServiceServer::new(Service(Arc::clone(&received))));
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service.clone()));
            }
        });
        Self {
            address,
            received,
            _runtime: runtime,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What was sent until now, with the attributes of its resource.
    pub fn requests(&self) -> Vec<ExportTraceServiceRequest> {
        self.received.0.lock().unwrap().clone()
    }

    /// All spans, as soon as they are enough; fails after twenty seconds.
    pub fn spans(&self, is_enough: impl Fn(&[Span]) -> bool) -> Vec<Span> {
        let (lock, arrived) = &*self.received;
        let mut requests = lock.lock().unwrap();
        let end = std::time::Duration::from_secs(20);
        let mut waited = Duration::ZERO;
        loop {
            let spans: Vec<Span> = requests.iter().flat_map(spans_of).collect();
            if is_enough(&spans) {
                return spans;
            }
            assert!(waited < end, "not the spans that were expected: {spans:#?}");
            let step = Duration::from_millis(200);
            let (guard, result) = arrived.wait_timeout(requests, step).unwrap();
            requests = guard;
            waited += if result.timed_out() { step } else { Duration::ZERO };
        }
    }
}

fn spans_of(request: &ExportTraceServiceRequest) -> Vec<Span> {
    let scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
    scopes.flat_map(|scope| scope.spans.clone()).collect()
}

/// The text of an attribute; numbers as they are written.
pub fn attribute(attributes: &[KeyValue], name: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == name)?;
    Some(match &found.value {
        Some(AnyValue {
            value: Some(Value::StringValue(text)),
        }) => text.clone(),
        Some(AnyValue {
            value: Some(Value::IntValue(number)),
        }) => number.to_string(),
        Some(AnyValue {
            value: Some(Value::BoolValue(flag)),
        }) => flag.to_string(),
        other => panic!("unexpected {other:?}"),
    })
}
