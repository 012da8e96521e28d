//! One connection at a time and what happens on it, told apart as exactly as the wire allows.
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout_at};

use super::{LoadOptions, Outcome, Request};

/// Longest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Before a connection is tried again.
const CONNECT_PAUSE: Duration = Duration::from_millis(20);

/// What a worker needs to know to send.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    authority: String,
    timeout: Duration,
    connect_timeout: Duration,
    connect_retries: u32,
    requests_max: u64,
    age_max: Duration,
}

/// A connection and its history.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    opened: Instant,
    /// Requests that were answered on it.
    answered: u64,
}

/// One request, ended.
#[derive(Debug)]
pub struct Exchange {
    pub outcome: Outcome,
    pub ended: Instant,
    pub connections_opened: u64,
    pub retries: u64,
    pub connect_retries: u32,
}

/// Why a request has no answer.
enum Lost {
    /// The connection had closed before a byte of the request was written.
    Unsent,
    /// It was written, at least in part: whether the server saw it cannot be known.
    Sent(String),
}

impl Client {
    pub fn new(options: &LoadOptions) -> Self {
        Self {
            address: options.address,
            authority: options.address.to_string(),
            timeout: options.timeout,
            connect_timeout: options.connect_timeout,
            connect_retries: options.connect_retries,
            requests_max: options.connection_requests_max.max(1),
            age_max: options.connection_age_max,
        }
    }

    /// Sends a request that was due at `due`, on the connection if it is still good, and reads the answer.
    pub async fn exchange(&self, slot: &mut Option<Connection>, request: &Request, due: Instant) -> Exchange {
        let mut exchange = Exchange {
            outcome: Outcome::Timeout,
            ended: due,
            connections_opened: 0,
            retries: 0,
            connect_retries: 0,
        };
        let attempt = self.attempt(slot, request, &mut exchange);
        if let Ok(outcome) = timeout_at(due + self.timeout, attempt).await {
            exchange.outcome = outcome;
        } else {
            // An answer may still be on its way: the connection was out of the slot, and is gone with it.
            exchange.ended = Instant::now();
        }
        exchange
    }

    async fn attempt(&self, slot: &mut Option<Connection>, request: &Request, exchange: &mut Exchange) -> Outcome {
        loop {
            // Out of the slot while in use: whatever goes wrong, a half-used connection is never found there.
            let mut connection = match self.usable(slot.take()).await {
                Some(connection) => connection,
                None => match self.connect().await {
                    Ok(connection) => {
                        exchange.connections_opened += 1;
                        connection
                    }
                    // Nothing was sent: to try again cannot do anything twice.
                    Err(_) if exchange.connect_retries < self.connect_retries => {
                        exchange.connect_retries += 1;
                        sleep(CONNECT_PAUSE).await;
                        continue;
                    }
                    Err(message) => {
                        exchange.ended = Instant::now();
                        return Outcome::ConnectFailed(message);
                    }
                },
            };
            match self.send(&mut connection, request).await {
                Ok((status, body)) => {
                    exchange.ended = Instant::now();
                    connection.answered += 1;
                    *slot = Some(connection);
                    return judge(status, &body, request);
                }
                // Of a connection that was never good for anything this would have no end.
                Err(Lost::Unsent) if connection.answered > 0 => exchange.retries += 1,
                Err(Lost::Unsent) => {
                    exchange.ended = Instant::now();
                    return Outcome::Reset("closed before the request was written".to_owned());
                }
                Err(Lost::Sent(message)) => {
                    exchange.ended = Instant::now();
                    return Outcome::Reset(message);
                }
            }
        }
    }

    /// The connection if it may carry one more request.
    async fn usable(&self, connection: Option<Connection>) -> Option<Connection> {
        let mut connection = connection?;
        let worn = connection.answered >= self.requests_max || connection.opened.elapsed() >= self.age_max;
        if worn || connection.sender.ready().await.is_err() {
            return None;
        }
        Some(connection)
    }

    async fn connect(&self) -> Result<Connection, String> {
        let opened = Instant::now();
        let stream = match timeout_at(opened + self.connect_timeout, TcpStream::connect(self.address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err(format!("no connection within {:?}", self.connect_timeout)),
        };
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let (mut sender, driver) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        // Errors reach us through the request they concern.
        tokio::spawn(async move { drop(driver.await) });
        sender.ready().await.map_err(|error| error.to_string())?;
        Ok(Connection {
            sender,
            opened,
            answered: 0,
        })
    }

    async fn send(&self, connection: &mut Connection, request: &Request) -> Result<(StatusCode, Bytes), Lost> {
        let mut message = http::Request::builder()
            .method(request.method.clone())
            .uri(&request.path)
            .header(http::header::HOST, &self.authority);
        if !request.body.is_empty() && request.headers.is_empty() {
            message = message.header(http::header::CONTENT_TYPE, "application/json");
        }
        for (name, value) in &request.headers {
            message = message.header(name, value);
        }
        let message = message
            .body(Full::new(request.body.clone()))
            .map_err(|error| Lost::Sent(format!("bad request: {error}")))?;
        let response = connection.sender.try_send_request(message).await.map_err(|mut error| {
            if error.take_message().is_some() {
                Lost::Unsent
            } else {
                Lost::Sent(describe(error.error()))
            }
        })?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| Lost::Sent(format!("in the middle of an answer: {error}")))?;
        Ok((status, body.to_bytes()))
    }
}

fn judge(status: StatusCode, body: &[u8], request: &Request) -> Outcome {
    if status != StatusCode::OK {
        let text: String = String::from_utf8_lossy(body.get(..200).unwrap_or(body)).into_owned();
        return Outcome::Status(status.as_u16(), text);
    }
    match (request.check)(body) {
        Ok(()) => Outcome::Ok,
        Err(reason) => Outcome::Wrong(reason),
    }
}

fn describe(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
