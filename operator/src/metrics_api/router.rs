//! One request -> one answer: method, who, what, may they, the number. In this order, and every refusal is a `Status`.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body_util::Full;
use rustls_pki_types::CertificateDer;
use serde_json::Value;

use crate::clock::SharedClock;
use crate::cluster::review::{Access, Reviewer, User};
use crate::domain::published::Published;
use crate::domain::subscriptions::Subscriptions;
use crate::metrics_api::auth::FrontProxy;
use crate::metrics_api::counters::Counters;
use crate::metrics_api::discovery::{self, Document, GROUP, RESOURCE};
use crate::metrics_api::refusal::Refusal;
use crate::metrics_api::route::{self, Question, Route};
use crate::metrics_api::values::metric_value_list;

/// What answering takes.
#[derive(Debug)]
pub struct Router {
    /// Recognises the front proxy; nobody is let in while there is none.
    pub front_proxy: Arc<ArcSwapOption<FrontProxy>>,
    /// Asks whether a user may.
    pub reviewer: Reviewer,
    /// Which services exist.
    pub subscriptions: Arc<Subscriptions>,
    /// Their numbers.
    pub published: Arc<Published>,
    /// How requests went.
    pub counters: Arc<Counters>,
    /// Time.
    pub clock: SharedClock,
}

impl Router {
    /// Answers one request. Its body is never read.
    pub async fn answer<B>(
        &self,
        request: Request<B>,
        certificates: &[CertificateDer<'static>],
    ) -> Response<Full<Bytes>> {
        let (head, _) = request.into_parts();
        let query = head.uri.query().unwrap_or_default();
        let outcome = self
            .decide(&head.method, head.uri.path(), query, &head.headers, certificates)
            .await;
        let code = outcome.as_ref().map_or_else(|refusal| refusal.code, |_| 200);
        self.counters.note(code);
        let mut response = match outcome {
            Ok((media, document)) => respond(200, media, &document),
            Err(refusal) => {
                tracing::debug!(path = head.uri.path(), code, message = refusal.message, "refused");
                respond(refusal.code, "application/json", &refusal.to_json())
            }
        };
        // Whoever may not ask shall not keep a connection either.
        if code == 401 && head.version < Version::HTTP_2 {
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn decide(
        &self,
        method: &Method,
        path: &str,
        query: &str,
        headers: &HeaderMap,
        certificates: &[CertificateDer<'static>],
    ) -> Result<Document, Refusal> {
        let user = self.identify(headers, certificates)?;
        if *method != Method::GET {
            return Err(Refusal::method_not_allowed(format!(
                "metrics can be read (GET), not {method}"
            )));
        }
        match route::parse(path, query)? {
            Route::Groups => {
                let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
                Ok(discovery::groups(accept.unwrap_or_default()))
            }
            Route::Group => Ok(discovery::group()),
            Route::Resources(version) => Ok(discovery::resources(version)),
            Route::OpenApiV2 => Ok(discovery::openapi_v2()),
            Route::OpenApiV3 => Ok(discovery::openapi_v3()),
            Route::Metric(question) => {
                self.authorise(&user, &question).await?;
                self.read(&question).map(|list| ("application/json", list))
            }
        }
    }

    /// Whether a connection with these client certificates may be of use to anybody.
    pub fn is_front_proxy(&self, certificates: &[CertificateDer<'static>]) -> bool {
        let front_proxy = self.front_proxy.load();
        front_proxy
            .as_ref()
            .is_some_and(|proxy| proxy.recognise(certificates, self.clock.now()).is_ok())
    }

    fn identify(&self, headers: &HeaderMap, certificates: &[CertificateDer<'static>]) -> Result<User, Refusal> {
        match &*self.front_proxy.load() {
            Some(front_proxy) => front_proxy.identify(certificates, headers, self.clock.now()),
            None => Err(Refusal::unauthorized("the operator does not know the front proxy's CA")),
        }
    }

    async fn authorise(&self, user: &User, question: &Question) -> Result<(), Refusal> {
        let metric = question.signal.metric_name();
        let access = Access {
            namespace: question.service.namespace.clone(),
            group: GROUP,
            version: question.version,
            resource: RESOURCE,
            name: question.service.name.clone(),
            subresource: metric.clone(),
        };
        match self.reviewer.allows(user, &access).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Refusal::forbidden(format!(
                "{:?} may not get {RESOURCE}/{metric} of {GROUP} in namespace {:?}",
                user.name, question.service.namespace
            ))),
            Err(error) => {
                tracing::warn!(%error, "the right to read a metric could not be checked");
                Err(Refusal::unavailable(
                    "the right to read this metric could not be checked",
                ))
            }
        }
    }

    fn read(&self, question: &Question) -> Result<Value, Refusal> {
        let Question {
            version,
            service,
            pools,
            signal,
        } = question;
        if self.subscriptions.get(service).is_none() {
            return Err(Refusal::not_found(format!(
                "InferenceService {service} is not there, not valid, or not looked at yet"
            )));
        }
        let reading = self
            .published
            .reading(service, pools.as_deref(), signal, self.clock.now());
        metric_value_list(version, service, pools.as_deref(), signal, reading)
    }
}

fn respond(code: u16, media: &'static str, document: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(document.to_string())));
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(media));
    response
}
