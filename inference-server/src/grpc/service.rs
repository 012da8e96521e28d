//! `inference.GRPCInferenceService`: the Open Inference Protocol v2 with streams and statistics.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use http::StatusCode;
use tidewright_contract::routes;
use tonic::{Request, Response, Status, Streaming};

use super::port::Ends;
use super::timeout;
use crate::clock;
use crate::error::Error;
use crate::http::app::App;
use crate::http::call;
use crate::http::metadata::{self, EXTENSIONS, PLATFORM, SERVER_NAME, SERVER_VERSION};
use crate::http::route::ModelRef;
use crate::model::signature::Slot;
use crate::pipeline::Ending;
use crate::protocols::pb::grpc_inference_service_server::GrpcInferenceService;
use crate::protocols::pb::model_metadata_response::TensorMetadata;
use crate::protocols::{errors, pb, v2_grpc};

/// Requests of one stream that may be under way: enough for full batches, and a bound on what one caller holds.
const STREAM_REQUESTS_MAX: usize = 64;
/// gRPC knows one method of HTTP.
const METHOD: &str = "POST";

/// Answers calls.
#[derive(Debug, Clone)]
pub struct InferenceService {
    pub app: Arc<App>,
    pub ends: Ends,
}

/// A model, and a version unless it is left empty.
fn model_ref<'a>(name: &'a str, version: &'a str) -> ModelRef<'a> {
    ModelRef {
        name,
        version: (!version.is_empty()).then_some(version),
    }
}

impl InferenceService {
    /// Counts a call that does not infer, and answers it.
    fn answer<T>(&self, route: &str, answer: impl FnOnce() -> Result<T, Error>) -> Result<Response<T>, Status> {
        let mut account = self.app.account(route, METHOD, clock::now());
        let result = answer();
        if let Some(account) = &mut account {
            account.set(result.as_ref().map_or_else(errors::status, |_| StatusCode::OK));
        }
        result.map(Response::new).map_err(|error| errors::grpc_status(&error))
    }
}

/// One inference, counted under the route.
async fn infer(
    app: &App,
    route: &str,
    request: pb::ModelInferRequest,
    started: Instant,
    deadline: Instant,
) -> Result<pb::ModelInferResponse, Error> {
    let mut account = app.account(route, METHOD, started);
    let result = run(app, request, deadline).await;
    if let Some(account) = &mut account {
        account.set(result.as_ref().map_or_else(errors::status, |_| StatusCode::OK));
    }
    if let Err(Error::Internal(message)) = &result {
        tracing::error!(route, message, "internal error");
    }
    result
}

async fn run(app: &App, request: pb::ModelInferRequest, deadline: Instant) -> Result<pb::ModelInferResponse, Error> {
    let serving = app.find(Some(model_ref(&request.model_name, &request.model_version)))?;
    let facts = &serving.facts;
    let mut ending = Ending::new(&serving.metrics, 1);
    let result = async {
        let _permit = call::admit(app, serving)?;
        let parse = || {
            let infer = v2_grpc::parse(request, &facts.signature)?;
            Ok((infer.request, (infer.id, infer.outputs)))
        };
        call::run(app, serving, &mut ending, deadline, parse, |(id, wanted), outputs| {
            v2_grpc::answer(&facts.name, &facts.version, id, &wanted, &facts.signature, outputs)
        })
        .await
    }
    .await;
    ending.set(result.as_ref().err());
    result
}

/// What a stream answers to one message. A failure is told with the request's id, so that who sends many knows which it was.
async fn infer_in_stream(
    app: &App,
    request: pb::ModelInferRequest,
    end: Option<Instant>,
) -> pb::ModelStreamInferResponse {
    let started = clock::now();
    let deadline = app.deadline(started);
    let deadline = end.map_or(deadline, |end| end.min(deadline));
    let (name, id) = (request.model_name.clone(), request.id.clone());
    match infer(app, routes::GRPC_STREAM_INFER, request, started, deadline).await {
        Ok(response) => pb::ModelStreamInferResponse {
            error_message: String::new(),
            infer_response: Some(response),
        },
        Err(error) => pb::ModelStreamInferResponse {
            error_message: error.to_string(),
            infer_response: Some(pb::ModelInferResponse {
                model_name: name,
                id,
                ..pb::ModelInferResponse::default()
            }),
        },
    }
}

fn tensor_metadata(slot: &Slot) -> TensorMetadata {
    TensorMetadata {
        name: slot.name.to_string(),
        datatype: slot.datatype.name().to_owned(),
        shape: slot.wire_shape(),
    }
}

#[tonic::async_trait]
impl GrpcInferenceService for InferenceService {
    async fn server_live(&self, _: Request<pb::ServerLiveRequest>) -> Result<Response<pb::ServerLiveResponse>, Status> {
        self.answer(routes::GRPC_SERVER_LIVE, || Ok(pb::ServerLiveResponse { live: true }))
    }

    async fn server_ready(
        &self,
        _: Request<pb::ServerReadyRequest>,
    ) -> Result<Response<pb::ServerReadyResponse>, Status> {
        self.answer(routes::GRPC_SERVER_READY, || {
            Ok(pb::ServerReadyResponse {
                ready: self.app.is_ready(),
            })
        })
    }

    async fn model_ready(
        &self,
        request: Request<pb::ModelReadyRequest>,
    ) -> Result<Response<pb::ModelReadyResponse>, Status> {
        let request = request.get_ref();
        self.answer(routes::GRPC_MODEL_READY, || {
            let ready = metadata::is_model_ready(&self.app, model_ref(&request.name, &request.version))?;
            Ok(pb::ModelReadyResponse { ready })
        })
    }

    async fn server_metadata(
        &self,
        _: Request<pb::ServerMetadataRequest>,
    ) -> Result<Response<pb::ServerMetadataResponse>, Status> {
        self.answer(routes::GRPC_SERVER_METADATA, || {
            Ok(pb::ServerMetadataResponse {
                name: SERVER_NAME.to_owned(),
                version: SERVER_VERSION.to_owned(),
                extensions: EXTENSIONS.map(str::to_owned).into(),
            })
        })
    }

    async fn model_metadata(
        &self,
        request: Request<pb::ModelMetadataRequest>,
    ) -> Result<Response<pb::ModelMetadataResponse>, Status> {
        let request = request.get_ref();
        self.answer(routes::GRPC_MODEL_METADATA, || {
            let facts = &self.app.find(Some(model_ref(&request.name, &request.version)))?.facts;
            Ok(pb::ModelMetadataResponse {
                name: facts.name.to_string(),
                versions: vec![facts.version.to_string()],
                platform: PLATFORM.to_owned(),
                inputs: facts.signature.inputs.iter().map(tensor_metadata).collect(),
                outputs: facts.signature.outputs.iter().map(tensor_metadata).collect(),
            })
        })
    }

    async fn model_infer(
        &self,
        request: Request<pb::ModelInferRequest>,
    ) -> Result<Response<pb::ModelInferResponse>, Status> {
        let started = clock::now();
        let given = timeout::of(request.metadata().as_ref());
        let deadline = self.app.deadline(started);
        let deadline = given.map_or(deadline, |given| deadline.min(started + given));
        infer(
            &self.app,
            routes::GRPC_MODEL_INFER,
            request.into_inner(),
            started,
            deadline,
        )
        .await
        .map(Response::new)
        .map_err(|error| errors::grpc_status(&error))
    }

    type ModelStreamInferStream = BoxStream<'static, Result<pb::ModelStreamInferResponse, Status>>;

    async fn model_stream_infer(
        &self,
        request: Request<Streaming<pb::ModelInferRequest>>,
    ) -> Result<Response<Self::ModelStreamInferStream>, Status> {
        // The caller's time is that of the whole stream; ours is that of each request.
        let end = timeout::of(request.metadata().as_ref()).map(|given| clock::now() + given);
        let (app, ends) = (Arc::clone(&self.app), self.ends.clone());
        let is_cut = Arc::new(AtomicBool::new(false));
        let cut = Arc::clone(&is_cut);
        let answers = request
            .into_inner()
            // In the drain nothing more is read; what was read is answered.
            .take_until(async move {
                ends.reached().await;
                cut.store(true, Ordering::Relaxed);
            })
            .map(move |message| {
                let app = Arc::clone(&app);
                async move { Ok::<_, Status>(infer_in_stream(&app, message?, end).await) }
            })
            .buffered(STREAM_REQUESTS_MAX);
        // Whoever was still sending must know that the rest was not run.
        let end = stream::once(async move {
            let message = "the server is stopping; requests without an answer were not run";
            is_cut
                .load(Ordering::Relaxed)
                .then(|| Err(Status::unavailable(message)))
        });
        Ok(Response::new(answers.chain(end.filter_map(std::future::ready)).boxed()))
    }

    async fn model_statistics(
        &self,
        request: Request<pb::ModelStatisticsRequest>,
    ) -> Result<Response<pb::ModelStatisticsResponse>, Status> {
        let request = request.get_ref();
        self.answer(routes::GRPC_MODEL_STATISTICS, || {
            let wanted = (!request.name.is_empty()).then(|| model_ref(&request.name, &request.version));
            let model_stats = metadata::statistics(&self.app, wanted)?.model_stats;
            Ok(pb::ModelStatisticsResponse {
                model_stats: model_stats.into_iter().map(Into::into).collect(),
            })
        })
    }
}
