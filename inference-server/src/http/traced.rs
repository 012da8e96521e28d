//! The edge of a trace: a request that infers becomes a span, whichever port it came to. Probes and metadata would drown them.

use http::{Request, Response};
use tidewright_contract::routes;

use super::route::route;
use crate::trace::{Protocol, Tracing};

/// Answers a request of HTTP.
pub fn http<B, R, F>(
    tracing: &Tracing,
    request: Request<B>,
    answer: impl FnOnce(Request<B>) -> F,
) -> impl Future<Output = Response<R>>
where
    F: Future<Output = Response<R>>,
{
    let template = |path: &str| {
        let route = route(path);
        route.infers().then(|| route.template())
    };
    traced(tracing, Protocol::Http, template, request, answer)
}

/// Answers a call of gRPC.
pub fn grpc<B, R, F>(
    tracing: &Tracing,
    request: Request<B>,
    answer: impl FnOnce(Request<B>) -> F,
) -> impl Future<Output = Response<R>>
where
    F: Future<Output = Response<R>>,
{
    let infers = [routes::GRPC_MODEL_INFER, routes::GRPC_STREAM_INFER];
    let template = move |path: &str| infers.into_iter().find(|infers| *infers == path);
    traced(tracing, Protocol::Grpc, template, request, answer)
}

/// Answers it; `template` says which route a path takes, if that is one that is traced.
fn traced<B, R, F>(
    tracing: &Tracing,
    protocol: Protocol,
    template: impl FnOnce(&str) -> Option<&'static str>,
    request: Request<B>,
    answer: impl FnOnce(Request<B>) -> F,
) -> impl Future<Output = Response<R>>
where
    F: Future<Output = Response<R>>,
{
    let call = tracing.begin(protocol, || template(request.uri().path()), request.headers());
    call.run(answer(request))
}
