//! `inference.GRPCInferenceService`: the Open Inference Protocol v2 with streams and statistics.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use http::{HeaderMap, StatusCode};
use prost::Message;
use tidewright_contract::routes;
use tonic::{Request, Response, Status, Streaming};

use super::port::Ends;
use super::timeout;
use crate::clock;
use crate::error::{Error, clip};
use crate::http::access::Details;
use crate::http::app::{Account, App};
use crate::http::call::{self, Times};
use crate::http::metadata::{self, PLATFORM, SERVER_NAME, SERVER_VERSION};
use crate::http::repository::{self, IndexLine, Kind};
use crate::http::route::ModelRef;
use crate::model::signature::Slot;
use crate::pipeline::Ending;
use crate::protocols::pb::grpc_inference_service_server::GrpcInferenceService;
use crate::protocols::pb::model_metadata_response::TensorMetadata;
use crate::protocols::{errors, pb, v2_grpc};
use crate::trace::{self, Phase};

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
    /// Refuses what is asked of another repository than the one. The port has seen to it that it is asked where it may be.
    fn check_repository(repository: &str) -> Result<(), Status> {
        if repository.is_empty() {
            return Ok(());
        }
        let message = format!("no repository {:?}: there is one, without a name", clip(repository));
        Err(Status::not_found(message))
    }

    /// Loads or unloads a model.
    async fn change(
        &self,
        kind: Kind,
        repository: &str,
        model: &str,
        parameters: impl Iterator<Item = &String> + Send,
    ) -> Result<(), Status> {
        Self::check_repository(repository)?;
        let changed = repository::change(&self.app, model_ref(model, ""), kind, parameters).await;
        changed.map_err(|error| errors::grpc_status(&error))
    }

    /// Counts a call that does not infer, and answers it.
    fn answer<T>(&self, route: &str, answer: impl FnOnce() -> Result<T, Error>) -> Result<Response<T>, Status> {
        let account = self.app.account(route, METHOD, clock::now());
        told(account, answer())
    }
}

/// The answer to a call that is accounted for.
fn told<T>(mut account: Option<Account<'_>>, result: Result<T, Error>) -> Result<Response<T>, Status> {
    if let Some(account) = &mut account {
        account.set(result.as_ref().map_or_else(errors::status, |_| StatusCode::OK));
    }
    result.map(Response::new).map_err(|error| errors::grpc_status(&error))
}

/// One inference, counted under the route; `headers` are those of its call.
async fn infer(
    app: &App,
    route: &str,
    headers: &HeaderMap,
    request: pb::ModelInferRequest,
    times: Times,
) -> Result<pb::ModelInferResponse, Error> {
    let mut account = app.account(route, METHOD, times.arrived);
    let mut nobody = Details::default();
    let details = account.as_mut().map_or(&mut nobody, |account| &mut account.details);
    details.head(headers);
    details.id(&request.id);
    let result = run(app, request, times, details).await;
    match &result {
        Ok(answer) => details.sent(|| answer.encoded_len() as u64),
        Err(error) => details.error(error),
    }
    if let Some(account) = &mut account {
        account.set(result.as_ref().map_or_else(errors::status, |_| StatusCode::OK));
    }
    if let Err(Error::Internal(message)) = &result {
        tracing::error!(route, message, "internal error");
    }
    result
}

async fn run(
    app: &App,
    request: pb::ModelInferRequest,
    times: Times,
    details: &mut Details,
) -> Result<pb::ModelInferResponse, Error> {
    // Until the answer is written, as over HTTP; what a message was compressed to does not count.
    let mut room = app.bodies.room();
    let message_bytes = request.encoded_len() as u64;
    details.received(message_bytes);
    details.model(&request.model_name, &request.model_version);
    room.grow(message_bytes)?;
    let wanted = model_ref(&request.model_name, &request.model_version);
    let lease = app.lease(Some(wanted), times.deadline).await?;
    let serving = &*lease;
    let facts = &serving.facts;
    details.model(&facts.name, &facts.version);
    let mut ending = Ending::new(&serving.metrics, 1);
    let result = async {
        let _permit = call::admit(app, serving, times.deadline)?;
        let parse = || {
            let infer = v2_grpc::parse(request, &facts.signature)?;
            room.grow(message_bytes + infer.request.heap_bytes())?;
            Ok((infer.request, (infer.id, infer.outputs)))
        };
        call::run(app, serving, &mut ending, times, parse, |(id, wanted), outputs| {
            v2_grpc::answer(&facts.name, &facts.version, id, &wanted, &facts.signature, outputs)
        })
        .await
    }
    .await;
    ending.set(result.as_ref().err());
    result
}

/// Until the server's own deadline, or the end that the caller set with the call.
fn times(app: &App, arrived: Instant, end: Option<Instant>) -> Times {
    let times = Times {
        arrived,
        deadline: app.deadline(arrived),
        is_callers: false,
    };
    times.until(end)
}

/// What a stream answers to one message. A failure is told with the request's id, so that who sends many knows which it was.
async fn infer_in_stream(
    app: &App,
    headers: &HeaderMap,
    request: pb::ModelInferRequest,
    end: Option<Instant>,
) -> pb::ModelStreamInferResponse {
    let times = times(app, clock::now(), end);
    let (name, id) = (request.model_name.clone(), request.id.clone());
    match infer(app, routes::GRPC_STREAM_INFER, headers, request, times).await {
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

impl From<IndexLine> for pb::repository_index_response::ModelIndex {
    fn from(line: IndexLine) -> Self {
        Self {
            name: line.name,
            version: line.version,
            state: line.state.to_owned(),
            reason: line.reason,
        }
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
                extensions: metadata::extensions(&self.app).map(str::to_owned).collect(),
            })
        })
    }

    async fn model_metadata(
        &self,
        request: Request<pb::ModelMetadataRequest>,
    ) -> Result<Response<pb::ModelMetadataResponse>, Status> {
        let started = clock::now();
        let account = self.app.account(routes::GRPC_MODEL_METADATA, METHOD, started);
        let request = request.get_ref();
        let wanted = model_ref(&request.name, &request.version);
        // It may have to be loaded.
        let lease = self.app.lease(Some(wanted), self.app.deadline(started)).await;
        let metadata = lease.map(|lease| {
            let facts = &lease.facts;
            pb::ModelMetadataResponse {
                name: facts.name.to_string(),
                versions: self.app.catalog.available(&facts.name),
                platform: PLATFORM.to_owned(),
                inputs: facts.signature.inputs.iter().map(tensor_metadata).collect(),
                outputs: facts.signature.outputs.iter().map(tensor_metadata).collect(),
            }
        });
        told(account, metadata)
    }

    async fn model_infer(
        &self,
        request: Request<pb::ModelInferRequest>,
    ) -> Result<Response<pb::ModelInferResponse>, Status> {
        trace::lap(Phase::Receive);
        let arrived = clock::now();
        let (metadata, _, message) = request.into_parts();
        let headers = metadata.as_ref();
        let end = timeout::of(headers).map(|given| arrived + given);
        let times = times(&self.app, arrived, end);
        infer(&self.app, routes::GRPC_MODEL_INFER, headers, message, times)
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
        let headers = Arc::new(request.metadata().as_ref().clone());
        let (app, ends) = (Arc::clone(&self.app), self.ends.clone());
        let is_cut = Arc::new(AtomicBool::new(false));
        let cut = Arc::clone(&is_cut);
        // Messages are answered after this call has returned.
        let call = trace::link();
        let answers = request
            .into_inner()
            // In the drain nothing more is read; what was read is answered.
            .take_until(async move {
                ends.reached().await;
                cut.store(true, Ordering::Relaxed);
            })
            .map(move |message| {
                let (app, call, headers) = (Arc::clone(&app), call.clone(), Arc::clone(&headers));
                async move {
                    let answer = infer_in_stream(&app, &headers, message?, end);
                    Ok::<_, Status>(call.message(answer, |answer| !answer.error_message.is_empty()).await)
                }
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
            let models = metadata::statistics(&self.app, wanted)?;
            let model_stats = metadata::statistics_of(&models).model_stats;
            Ok(pb::ModelStatisticsResponse {
                model_stats: model_stats.into_iter().map(Into::into).collect(),
            })
        })
    }

    async fn repository_index(
        &self,
        request: Request<pb::RepositoryIndexRequest>,
    ) -> Result<Response<pb::RepositoryIndexResponse>, Status> {
        let request = request.get_ref();
        Self::check_repository(&request.repository_name)?;
        let lines = repository::index(&self.app, request.ready).await;
        let lines = lines.map_err(|error| errors::grpc_status(&error))?;
        Ok(Response::new(pb::RepositoryIndexResponse {
            models: lines.into_iter().map(Into::into).collect(),
        }))
    }

    async fn repository_model_load(
        &self,
        request: Request<pb::RepositoryModelLoadRequest>,
    ) -> Result<Response<pb::RepositoryModelLoadResponse>, Status> {
        let pb::RepositoryModelLoadRequest {
            repository_name,
            model_name,
            parameters,
        } = request.get_ref();
        self.change(Kind::Load, repository_name, model_name, parameters.keys())
            .await?;
        Ok(Response::new(pb::RepositoryModelLoadResponse {}))
    }

    async fn repository_model_unload(
        &self,
        request: Request<pb::RepositoryModelUnloadRequest>,
    ) -> Result<Response<pb::RepositoryModelUnloadResponse>, Status> {
        let pb::RepositoryModelUnloadRequest {
            repository_name,
            model_name,
            parameters,
        } = request.get_ref();
        self.change(Kind::Unload, repository_name, model_name, parameters.keys())
            .await?;
        Ok(Response::new(pb::RepositoryModelUnloadResponse {}))
    }
}
