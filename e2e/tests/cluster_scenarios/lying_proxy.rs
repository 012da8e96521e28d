//! A server in front of the real Prometheus that changes its answers: what is changed, and how, is told while it runs.
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures::StreamExt as _;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What is answered instead of the truth.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    Honest,
    /// The honest answer, changed.
    Changed(fn(&mut Value)),
    /// The honest answer, changed, with another status and a header.
    Dressed(u16, Option<(&'static str, &'static str)>, fn(&mut Value)),
    /// Something else entirely.
    Text(&'static str),
    /// Half of the honest answer, as if it were whole.
    Half,
    /// Half of the honest answer, and then the connection is lost.
    Torn,
    /// Bytes that never end.
    Endless,
    /// Nothing, ever.
    Silence,
}

/// Which of the operator's queries are answered so.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Subject {
    Every,
    Rate,
    Targets,
    Samples,
}

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

struct State {
    upstream: SocketAddr,
    lie: RwLock<(Subject, Answer)>,
    told: AtomicU64,
    client: reqwest::Client,
}

/// Runs until it is dropped.
pub struct LyingProxy {
    pub port: u16,
    state: Arc<State>,
    task: JoinHandle<()>,
}

impl Drop for LyingProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl LyingProxy {
    /// Honest at first.
    pub async fn start(upstream: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("0.0.0.0:0").await?;
        let state = Arc::new(State {
            upstream,
            lie: RwLock::new((Subject::Every, Answer::Honest)),
            told: AtomicU64::new(0),
            client: reqwest::Client::builder().no_proxy().build()?,
        });
        let port = listener.local_addr()?.port();
        let task = tokio::spawn(accept(listener, state.clone()));
        Ok(Self { port, state, task })
    }

    /// Answers so from now on.
    pub fn tell(&self, subject: Subject, answer: Answer) {
        *self.state.lie.write().unwrap() = (subject, answer);
        self.state.told.store(0, Ordering::SeqCst);
    }

    /// How often that answer was given, or begun.
    pub fn told(&self) -> u64 {
        self.state.told.load(Ordering::SeqCst)
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    // Connections end with the value that owns this task.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let state = state.clone();
        connections.spawn(async move {
            let answer = service_fn(move |request| answer(request, state.clone()));
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), answer)
                .await;
        });
    }
}

fn subject(form: &[u8]) -> Option<Subject> {
    let url = reqwest::Url::parse(&format!("http://x/?{}", String::from_utf8_lossy(form))).ok()?;
    let (_, query) = url.query_pairs().find(|(key, _)| key == "query")?;
    Some(if query.contains("part\", \"age\"") {
        Subject::Samples
    } else if query.contains("(up{") {
        Subject::Targets
    } else if query.contains("rate(http_requests") {
        Subject::Rate
    } else {
        Subject::Every
    })
}

async fn answer(request: Request<Incoming>, state: Arc<State>) -> Result<Response<Body>> {
    let path = request.uri().path().to_owned();
    let form = request.into_body().collect().await?.to_bytes();
    let asked = subject(&form).context("no query")?;
    let honest = state
        .client
        .post(format!("http://{}/api/v1/query", state.upstream))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form)
        .send()
        .await?
        .bytes()
        .await?;
    let (about, lie) = *state.lie.read().unwrap();
    let lie = match lie {
        // Where the redirect leads: whoever follows it reads a perfect 0.
        _ if path != "/api/v1/query" => Answer::Changed(zero),
        lie if about == Subject::Every || about == asked => lie,
        _ => Answer::Honest,
    };
    if about == Subject::Every || about == asked {
        state.told.fetch_add(1, Ordering::SeqCst);
    }
    let change = |change: fn(&mut Value)| -> Result<Bytes> {
        let mut value = serde_json::from_slice(&honest)?;
        change(&mut value);
        Ok(Bytes::from(value.to_string()))
    };
    let response = Response::builder().header("content-type", "application/json");
    Ok(match lie {
        Answer::Honest => response.body(whole(honest))?,
        Answer::Changed(by) => response.body(whole(change(by)?))?,
        Answer::Dressed(status, header, by) => {
            let response = response.status(StatusCode::from_u16(status)?);
            let response = match header {
                Some((name, value)) => response.header(name, value),
                None => response,
            };
            response.body(whole(change(by)?))?
        }
        Answer::Text(text) => response.body(whole(Bytes::from_static(text.as_bytes())))?,
        Answer::Half => response.body(whole(honest.slice(..honest.len() / 2)))?,
        Answer::Torn => {
            let frames = [
                Ok(Frame::data(honest.slice(..honest.len() / 2))),
                Err(std::io::Error::other("torn")),
            ];
            let body = StreamBody::new(futures::stream::iter(frames));
            response
                .header("content-length", honest.len())
                .body(UnsyncBoxBody::new(body))?
        }
        Answer::Endless => {
            let chunk = Bytes::from(vec![b' '; 64 << 10]);
            let frames = futures::stream::repeat(chunk).map(|chunk| Ok(Frame::data(chunk)));
            response.body(UnsyncBoxBody::new(StreamBody::new(frames)))?
        }
        Answer::Silence => std::future::pending().await,
    })
}

fn whole(body: Bytes) -> Body {
    UnsyncBoxBody::new(Full::new(body).map_err(|never| match never {}))
}

/// Sets every value of the answer.
pub fn set(answer: &mut Value, value: &str) {
    for series in answer["data"]["result"].as_array_mut().into_iter().flatten() {
        series["value"][1] = value.into();
    }
}

/// A perfect 0: the number that would scale down.
pub fn zero(answer: &mut Value) {
    set(answer, "0");
}
