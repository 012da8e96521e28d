//! A bare HTTP/1.1 echo: the floor that any server on this HTTP library stands on.
use std::convert::Infallible;
use std::net::SocketAddr;

use anyhow::Result;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// Serves until it is killed.
pub(super) fn serve(address: SocketAddr) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(async move {
        let listener = TcpListener::bind(address).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(async move {
                let echo = service_fn(|request: Request<Incoming>| async {
                    Ok::<_, Infallible>(Response::new(request.into_body()))
                });
                // A client that leaves ends the connection with an error: nothing to tell.
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), echo)
                    .await;
            });
        }
    })
}
