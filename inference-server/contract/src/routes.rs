//! Paths and ports the server answers on. Paths with a `{model}` part are templates in the router's own notation.

/// Port of the inference API (Open Inference Protocol, `/api/v1`, KServe v1).
pub const HTTP_PORT: u16 = 8080;
/// Port of the same over gRPC.
pub const GRPC_PORT: u16 = 9000;
/// Port of metrics and probes; never exposed to clients of the model.
pub const ADMIN_PORT: u16 = 8081;

/// Prometheus text, on the admin port.
pub const METRICS: &str = "/metrics";
/// Liveness, on the admin port: 200 while the process can make progress.
pub const LIVE: &str = "/live";
/// What changes with each request, as a small [`crate::signals::Signals`], on the admin port: for whoever decides each second.
pub const SIGNALS: &str = "/signals";
/// Readiness, on the admin port: 200 in the state Ready and in no other; the body says what it waits for.
pub const READY: &str = "/ready";
/// CPU profile in the format of pprof, on the admin port and only where it is enabled: `?seconds=N&frequency=HZ`.
pub const PROFILE: &str = "/debug/pprof/profile";

/// 200 only while ready, on both ports (for balancers that probe the serving port).
pub const HEALTH: &str = "/health";
/// One prediction: `{"features":[…]}`.
pub const PREDICT: &str = "/api/v1/predict";
/// Many predictions, answered in order: `{"instances":[[…],[…]]}`.
pub const PREDICT_BATCH: &str = "/api/v1/predict/batch";

/// Open Inference Protocol: server metadata.
pub const V2: &str = "/v2";
/// Open Inference Protocol: server liveness.
pub const V2_LIVE: &str = "/v2/health/live";
/// Open Inference Protocol: server readiness.
pub const V2_READY: &str = "/v2/health/ready";
/// Open Inference Protocol: model metadata.
pub const V2_MODEL: &str = "/v2/models/{model}";
/// Open Inference Protocol: model readiness.
pub const V2_MODEL_READY: &str = "/v2/models/{model}/ready";
/// Open Inference Protocol: inference.
pub const V2_MODEL_INFER: &str = "/v2/models/{model}/infer";
/// Open Inference Protocol: metadata of one version.
pub const V2_VERSION: &str = "/v2/models/{model}/versions/{version}";
/// Open Inference Protocol: readiness of one version.
pub const V2_VERSION_READY: &str = "/v2/models/{model}/versions/{version}/ready";
/// Open Inference Protocol: inference on one version.
pub const V2_VERSION_INFER: &str = "/v2/models/{model}/versions/{version}/infer";

/// KServe v1: list of models.
pub const V1_MODELS: &str = "/v1/models";
/// KServe v1: state of a model (GET `/v1/models/m`) and prediction (POST `/v1/models/m:predict`): the verb is part of the last path segment.
pub const V1_MODEL: &str = "/v1/models/{model}";

/// Statistics extension: the same of all models that are loaded.
pub const V2_STATISTICS: &str = "/v2/models/stats";
/// Statistics extension: counts and times of a model.
pub const V2_MODEL_STATISTICS: &str = "/v2/models/{model}/stats";
/// Statistics extension: counts and times of one version.
pub const V2_VERSION_STATISTICS: &str = "/v2/models/{model}/versions/{version}/stats";

/// The serving port's description in the OpenAPI format.
pub const OPENAPI: &str = "/openapi.json";

/// Model repository extension, on the admin port: which models there are.
pub const REPOSITORY_INDEX: &str = "/v2/repository/index";
/// Model repository extension, on the admin port: the start of the paths `…/{model}/load` and `…/{model}/unload`, and of the same with `/versions/{version}` before the verb.
pub const REPOSITORY_MODELS: &str = "/v2/repository/models/";

/// gRPC: server liveness.
pub const GRPC_SERVER_LIVE: &str = "/inference.GRPCInferenceService/ServerLive";
/// gRPC: server readiness.
pub const GRPC_SERVER_READY: &str = "/inference.GRPCInferenceService/ServerReady";
/// gRPC: model readiness.
pub const GRPC_MODEL_READY: &str = "/inference.GRPCInferenceService/ModelReady";
/// gRPC: server metadata.
pub const GRPC_SERVER_METADATA: &str = "/inference.GRPCInferenceService/ServerMetadata";
/// gRPC: model metadata.
pub const GRPC_MODEL_METADATA: &str = "/inference.GRPCInferenceService/ModelMetadata";
/// gRPC: inference.
pub const GRPC_MODEL_INFER: &str = "/inference.GRPCInferenceService/ModelInfer";
/// gRPC: inferences on one stream; each message counts as a request.
pub const GRPC_STREAM_INFER: &str = "/inference.GRPCInferenceService/ModelStreamInfer";
/// gRPC: statistics.
pub const GRPC_MODEL_STATISTICS: &str = "/inference.GRPCInferenceService/ModelStatistics";
/// Which models there are; this and the next two on the admin port.
pub const GRPC_REPOSITORY_INDEX: &str = "/inference.GRPCInferenceService/RepositoryIndex";
/// Loads a model.
pub const GRPC_REPOSITORY_LOAD: &str = "/inference.GRPCInferenceService/RepositoryModelLoad";
/// Unloads a model.
pub const GRPC_REPOSITORY_UNLOAD: &str = "/inference.GRPCInferenceService/RepositoryModelUnload";

/// Every route template of the serving ports: the closed set of values of the label `route`, besides [`UNMATCHED`].
pub const ALL: [&str; 26] = [
    HEALTH,
    PREDICT,
    PREDICT_BATCH,
    V2,
    V2_LIVE,
    V2_READY,
    V2_MODEL,
    V2_MODEL_READY,
    V2_MODEL_INFER,
    V2_STATISTICS,
    V2_MODEL_STATISTICS,
    V2_VERSION,
    V2_VERSION_READY,
    V2_VERSION_INFER,
    V2_VERSION_STATISTICS,
    V1_MODELS,
    V1_MODEL,
    OPENAPI,
    GRPC_SERVER_LIVE,
    GRPC_SERVER_READY,
    GRPC_MODEL_READY,
    GRPC_SERVER_METADATA,
    GRPC_MODEL_METADATA,
    GRPC_MODEL_INFER,
    GRPC_STREAM_INFER,
    GRPC_MODEL_STATISTICS,
];

/// Value of the label `route` for a path that matches no template.
pub const UNMATCHED: &str = "unmatched";

/// The templates that cost a run of the model: arrivals on them are the load of the service, probes and metadata are not. The KServe v1 model
/// path is one of them because its prediction verb is no route of its own.
pub const INFERENCE: [&str; 7] = [
    PREDICT,
    PREDICT_BATCH,
    V2_MODEL_INFER,
    V2_VERSION_INFER,
    V1_MODEL,
    GRPC_MODEL_INFER,
    GRPC_STREAM_INFER,
];
