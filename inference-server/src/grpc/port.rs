//! The gRPC port: a request's path names the service that answers it.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use tidewright_contract::routes;
use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::codegen::Service;
use tonic::server::NamedService;
use tonic_health::pb::health_server::HealthServer;
use tonic_reflection::server::{v1, v1alpha};

use super::health::HealthService;
use super::inflow::{Calls, Inflow};
use super::service::InferenceService;
use crate::admission::Bodies;
use crate::http::app::App;
use crate::protocols::pb;
use crate::protocols::pb::grpc_inference_service_server::GrpcInferenceServiceServer;

/// Name of the inference service.
pub const INFERENCE: &str = <GrpcInferenceServiceServer<InferenceService> as NamedService>::NAME;

/// Bytes of a question about health, for a description, or of the model repository: names.
const QUESTION_BYTES_MAX: usize = 64 * 1024;

/// When calls that have no end of their own end: streams, and watches of the health.
#[derive(Debug, Clone)]
pub struct Ends(watch::Receiver<bool>);

impl Ends {
    /// Ends when the flag is true, or its sender is gone.
    pub fn new(flag: watch::Receiver<bool>) -> Self {
        Self(flag)
    }

    /// Waits for it.
    pub async fn reached(mut self) {
        let _ = self.0.wait_for(|ends| *ends).await;
    }
}

/// The services of the port; reflection in both of its versions, because many clients speak the older one alone.
pub struct Services<R: v1::ServerReflection, A: v1alpha::ServerReflection> {
    inference: GrpcInferenceServiceServer<InferenceService>,
    health: HealthServer<HealthService>,
    reflection: v1::ServerReflectionServer<R>,
    reflection_v1alpha: v1alpha::ServerReflectionServer<A>,
    bodies: Bodies,
    /// For a message to come whole.
    message_timeout: Duration,
    /// Whether this is the admin port, where nobody infers.
    administers: bool,
}

/// Calls of the model repository extension.
const REPOSITORY: [&str; 3] = [
    routes::GRPC_REPOSITORY_INDEX,
    routes::GRPC_REPOSITORY_LOAD,
    routes::GRPC_REPOSITORY_UNLOAD,
];
/// What the admin port answers of the inference service besides.
const PROBES: [&str; 2] = [routes::GRPC_SERVER_LIVE, routes::GRPC_SERVER_READY];

/// All services, of the port for inference or of the one that `administers`; an error when the descriptions that reflection gives do not fit together.
pub fn services(
    app: &Arc<App>,
    ends: &Ends,
    administers: bool,
) -> Result<Services<impl v1::ServerReflection + use<>, impl v1alpha::ServerReflection + use<>>, String> {
    let limit = if administers {
        QUESTION_BYTES_MAX
    } else {
        usize::try_from(app.limits.body_bytes_max).unwrap_or(usize::MAX)
    };
    let inference = InferenceService {
        app: Arc::clone(app),
        ends: ends.clone(),
    };
    let health = HealthService {
        app: Arc::clone(app),
        ends: ends.clone(),
    };
    let described = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(pb::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let reflection = described().build_v1().map_err(|error| error.to_string())?;
    let reflection_v1alpha = described().build_v1alpha().map_err(|error| error.to_string())?;
    Ok(Services {
        inference: GrpcInferenceServiceServer::new(inference)
            // The limit holds for what a compressed message becomes. Answers go as they are: nobody who is near asks for more work.
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Deflate)
            .accept_compressed(CompressionEncoding::Zstd)
            .max_decoding_message_size(limit)
            .max_encoding_message_size(usize::MAX),
        health: HealthServer::new(health).max_decoding_message_size(QUESTION_BYTES_MAX),
        reflection: reflection.max_decoding_message_size(QUESTION_BYTES_MAX),
        reflection_v1alpha: reflection_v1alpha.max_decoding_message_size(QUESTION_BYTES_MAX),
        bodies: app.bodies.clone(),
        message_timeout: Duration::from_secs(u64::from(app.limits.timeout_seconds)),
        administers,
    })
}

impl<R: v1::ServerReflection, A: v1alpha::ServerReflection> fmt::Debug for Services<R, A> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Services").finish_non_exhaustive()
    }
}

impl<R: v1::ServerReflection, A: v1alpha::ServerReflection> Services<R, A> {
    /// Answers one call.
    pub async fn handle(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path();
        let service = path.strip_prefix('/').and_then(|path| path.split_once('/'));
        // Of the others some are streams, and none is large.
        let calls = match path {
            routes::GRPC_MODEL_INFER => Calls::Unary,
            _ => Calls::Stream,
        };
        // Before anything is decoded: what it would become is counted by nobody.
        if !self.administers && REPOSITORY.contains(&path) {
            return Status::unimplemented("the model repository is on the admin port").into_http();
        }
        match service.map(|(service, _)| service) {
            Some(INFERENCE) if self.administers && !REPOSITORY.contains(&path) && !PROBES.contains(&path) => {
                Status::unimplemented("not on the admin port").into_http()
            }
            Some(INFERENCE) => call(self.inference.clone(), self.counted(request, calls)).await,
            Some(<HealthServer<HealthService> as NamedService>::NAME) => {
                call(self.health.clone(), self.counted(request, calls)).await
            }
            Some(<v1::ServerReflectionServer<()> as NamedService>::NAME) => {
                call(self.reflection.clone(), self.counted(request, calls)).await
            }
            Some(<v1alpha::ServerReflectionServer<()> as NamedService>::NAME) => {
                call(self.reflection_v1alpha.clone(), self.counted(request, calls)).await
            }
            _ => Status::unimplemented("no such service").into_http(),
        }
    }

    fn counted(&self, request: Request<Incoming>, calls: Calls) -> Request<Inflow> {
        request.map(|body| Inflow::new(body, calls, self.bodies.room(), self.message_timeout))
    }
}

async fn call<S>(mut service: S, request: Request<Inflow>) -> Response<Body>
where
    S: Service<Request<Inflow>, Response = Response<Body>, Error = Infallible>,
{
    // Generated services are always ready.
    let Ok(response) = service.call(request).await;
    response
}
