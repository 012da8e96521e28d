//! `grpc.health.v1.Health`: the readiness that the other ports tell, asked once or watched.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::port::{Ends, INFERENCE};
use crate::http::app::App;

/// Answers from the server's state.
#[derive(Debug)]
pub struct HealthService {
    pub app: Arc<App>,
    pub ends: Ends,
}

impl HealthService {
    fn status(app: &App, service: &str) -> ServingStatus {
        match service {
            // The whole server, by the protocol, and its one service.
            "" | INFERENCE if app.is_ready() => ServingStatus::Serving,
            "" | INFERENCE => ServingStatus::NotServing,
            _ => ServingStatus::ServiceUnknown,
        }
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl Health for HealthService {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        match Self::status(&self.app, &request.get_ref().service) {
            ServingStatus::ServiceUnknown => Err(Status::not_found("no such service")),
            status => Ok(Response::new(response(status))),
        }
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let service = request.into_inner().service;
        let app = Arc::clone(&self.app);
        let states = self.app.lifecycle.subscribe();
        // The first answer comes at once, each other one when it is another.
        let changes = stream::unfold((states, None), move |(mut states, last)| {
            let (app, service) = (Arc::clone(&app), service.clone());
            async move {
                loop {
                    states.mark_unchanged();
                    let status = Self::status(&app, &service);
                    if last != Some(status) {
                        return Some((Ok(response(status)), (states, Some(status))));
                    }
                    states.changed().await.ok()?;
                }
            }
        });
        let ends = self.ends.clone();
        Ok(Response::new(changes.take_until(ends.reached()).boxed()))
    }
}
