//! One way to call the API server: with a limit of time, and with a name for the error.

use std::future::Future;
use std::time::Duration;

use kube::client::ClientBuilder;
use kube::{Client, Config};
use tower::timeout::{Timeout, TimeoutLayer};

use crate::error::{Error, Result};

/// Longest time of one call. The client itself would wait for ever.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest wait for the head of an answer, also that of a watch: the API server sends it before the first event.
pub const HEADERS_TIMEOUT: Duration = Duration::from_secs(25);

/// The client that everything but the election uses.
///
/// # Errors
/// The configuration names certificates or credentials that cannot be read.
pub fn cluster_client(config: Config) -> Result<Client, kube::Error> {
    Ok(limit_headers(ClientBuilder::try_from(config)?, HEADERS_TIMEOUT).build())
}

/// Gives up what is accepted and never answered. Of a watch only this tells: once it has begun, silence is what it is like where nothing changes.
pub fn limit_headers<S>(client: ClientBuilder<S>, limit: Duration) -> ClientBuilder<Timeout<S>> {
    client.with_layer(&TimeoutLayer::new(limit))
}

/// Awaits one call; `name` is what the user reads when it fails, e.g. `apply Deployment demo/digits-cpu`.
pub async fn call<T>(name: impl FnOnce() -> String, future: impl Future<Output = Result<T, kube::Error>>) -> Result<T> {
    match tokio::time::timeout(CALL_TIMEOUT, future).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Error::api(name())(error)),
        Err(_) => Err(Error::Timeout {
            what: name(),
            limit: CALL_TIMEOUT,
        }),
    }
}
