//! One instant query over HTTP, bounded in time and in bytes.
//!
//! The answer's data is decoded by the types of `prometheus-http-query`; the request is our own, because that crate's client reads bodies of any
//! length and drops the `warnings` by which Prometheus says that part of the data is missing.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use reqwest::{Certificate, StatusCode, Url, redirect};
use tokio::sync::{Mutex, MutexGuard};

use crate::clock::SharedClock;
use crate::domain::published::{Reason, Unavailable};
use crate::error::{Error, Result};
use crate::sources::decode::{Line, decode, error_text, quote};

/// Largest file with a bearer token.
const TOKEN_BYTES_MAX: u64 = 64 * 1024;

/// Bytes of an answer that is one number.
const ONE_NUMBER_BYTES_MAX: usize = 64 * 1024;
/// Answers beyond this are large.
const LARGE_BYTES: usize = 256 * 1024;

/// The one buffer for large answers: read and decoded one after the other, several endless ones cost no more memory than one.
pub type SharedBuffer = Arc<Mutex<Vec<u8>>>;

/// The bytes of an answer.
enum Body<'a> {
    Small(Vec<u8>),
    Large(MutexGuard<'a, Vec<u8>>),
}

impl Body<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Small(bytes) => bytes,
            Self::Large(bytes) => bytes,
        }
    }
}

/// How far an answer may go.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// From the first byte sent to the last one read.
    pub timeout: Duration,
    /// Bytes of the answer.
    pub bytes: usize,
    /// Series in the answer.
    pub series: usize,
    /// Difference between the answer's time and ours.
    pub clock_skew: Duration,
}

/// A Prometheus server.
#[derive(Debug, Clone)]
pub struct Prometheus {
    client: reqwest::Client,
    query_url: Url,
    token_file: Option<PathBuf>,
    bounds: Bounds,
    large: SharedBuffer,
    clock: SharedClock,
}

/// By which CAs a server is known.
#[derive(Debug, Clone, Copy)]
pub enum Trust<'a> {
    /// By these alone, PEM.
    Only(&'a [u8]),
    /// By those of the public, and by these.
    Public {
        /// PEM.
        and: Option<&'a [u8]>,
    },
}

/// The CAs that Mozilla trusts, as they were when this was built.
fn public_roots() -> Result<Vec<Certificate>> {
    let all = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter();
    let read = all.map(|root| Certificate::from_der(root).map_err(|e| Error::Tls(format!("a public CA: {e}"))));
    read.collect()
}

/// A client that follows no redirect and uses no proxy: credentials and queries go to the one address that was configured.
///
/// # Errors
/// An unreadable or unusable CA file.
pub fn http_client(trust: &Trust<'_>, timeout: Duration) -> Result<reqwest::Client> {
    // The first one wins, whoever installs it; all of ours are ring.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let bounded = || {
        reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .connect_timeout(timeout / 2)
            .timeout(timeout)
            .pool_max_idle_per_host(4)
            .pool_idle_timeout(Duration::from_secs(60))
            .user_agent(concat!("tidewright-operator/", env!("CARGO_PKG_VERSION")))
    };
    let own = |pem| Certificate::from_pem_bundle(pem).map_err(|e| Error::Tls(format!("CA of Prometheus: {e}")));
    let built = match trust {
        Trust::Only(pem) => bounded().tls_certs_only(own(pem)?).build(),
        Trust::Public { and: Some(pem) } => {
            let roots = own(pem)?.into_iter().chain(public_roots()?);
            bounded().tls_certs_only(roots).build()
        }
        // The system's, where it has any: an image of ours has none.
        Trust::Public { and: None } => match bounded().build() {
            Ok(client) => Ok(client),
            Err(_) => bounded().tls_certs_only(public_roots()?).build(),
        },
    };
    built.map_err(|e| Error::Tls(format!("HTTP client of Prometheus: {}", chain(&e))))
}

impl Prometheus {
    /// A server at `base` (with a path if it is served under one).
    pub fn new(
        client: reqwest::Client,
        base: &Url,
        token_file: Option<PathBuf>,
        bounds: Bounds,
        large: SharedBuffer,
        clock: SharedClock,
    ) -> Self {
        let mut query_url = base.clone();
        query_url.set_query(None);
        query_url.set_fragment(None);
        query_url.set_path(&format!("{}/api/v1/query", base.path().trim_end_matches('/')));
        Self {
            client,
            query_url,
            token_file,
            bounds,
            large,
            clock,
        }
    }

    /// Runs an instant query at the server's present, and checks that it is ours too.
    pub async fn query(&self, promql: &str) -> Result<Vec<Line>, Unavailable> {
        self.query_up_to(promql, self.bounds.bytes).await
    }

    /// The same for a query that answers one number or a few: a longer answer is refused.
    pub async fn query_one(&self, promql: &str) -> Result<Vec<Line>, Unavailable> {
        self.query_up_to(promql, self.bounds.bytes.min(ONE_NUMBER_BYTES_MAX))
            .await
    }

    async fn query_up_to(&self, promql: &str, bytes_max: usize) -> Result<Vec<Line>, Unavailable> {
        let sent = self.clock.now();
        let work = async {
            let body = self.fetch(promql, bytes_max).await?;
            decode(body.bytes(), sent, self.clock.now(), &self.bounds)
        };
        tokio::time::timeout(self.bounds.timeout, work)
            .await
            .map_err(|_| timed_out(self.bounds.timeout))?
    }

    async fn fetch(&self, promql: &str, bytes_max: usize) -> Result<Body<'_>, Unavailable> {
        let form = form(promql, self.bounds.timeout);
        let mut request = self
            .client
            .post(self.query_url.clone())
            .header(ACCEPT, "application/json")
            // No compression, hence no bomb.
            .header(ACCEPT_ENCODING, "identity")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form);
        if let Some(token) = self.token().await? {
            request = request.header(AUTHORIZATION, token);
        }
        let response = request.send().await.map_err(|e| unreachable(&e))?;
        let status = response.status();
        if let Some(encoding) = response.headers().get(CONTENT_ENCODING)
            && encoding.as_bytes() != b"identity"
        {
            let message = "Prometheus answers compressed although it was told not to";
            return Err(Unavailable::new(Reason::AnswerMalformed, message));
        }
        if response
            .content_length()
            .is_some_and(|length| length > bytes_max as u64)
        {
            return Err(too_large(bytes_max));
        }
        let mut body = Body::Small(Vec::new());
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|e| unreachable(&e))?;
            let length = body.bytes().len() + chunk.len();
            if length > bytes_max {
                return Err(too_large(bytes_max));
            }
            match &mut body {
                Body::Large(buffer) => buffer.extend_from_slice(&chunk),
                Body::Small(buffer) if length <= LARGE_BYTES => buffer.extend_from_slice(&chunk),
                Body::Small(so_far) => {
                    let mut buffer = self.large.lock().await;
                    buffer.clear();
                    // All it may ever need, at once and for good. Untouched pages cost nothing.
                    buffer.reserve_exact(self.bounds.bytes);
                    buffer.extend_from_slice(so_far);
                    buffer.extend_from_slice(&chunk);
                    body = Body::Large(buffer);
                }
            }
        }
        if status != StatusCode::OK {
            return Err(refused(status, body.bytes()));
        }
        Ok(body)
    }

    /// Read anew for each query: mounted tokens are rotated.
    async fn token(&self) -> Result<Option<HeaderValue>, Unavailable> {
        let Some(path) = &self.token_file else {
            return Ok(None);
        };
        let unusable = |problem: String| {
            let message = format!("the bearer token for Prometheus cannot be used: {problem}");
            Unavailable::new(Reason::PrometheusForbidden, message)
        };
        let size = tokio::fs::metadata(path)
            .await
            .map_err(|e| unusable(e.to_string()))?
            .len();
        if size > TOKEN_BYTES_MAX {
            return Err(unusable(format!("the file has {size} bytes")));
        }
        let text = tokio::fs::read_to_string(path)
            .await
            .map_err(|e| unusable(e.to_string()))?;
        let mut value = HeaderValue::try_from(format!("Bearer {}", text.trim()))
            .map_err(|_| unusable("it is no header value".to_owned()))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

fn too_large(bytes_max: usize) -> Unavailable {
    let message = format!("the answer of Prometheus has more than {bytes_max} bytes");
    Unavailable::new(Reason::AnswerTooLarge, message)
}

/// `query=…&timeout=…`, percent-encoded. The server gives up when we do.
fn form(promql: &str, timeout: Duration) -> String {
    use std::fmt::Write as _;
    let mut form = String::with_capacity(promql.len() * 2);
    form.push_str("query=");
    for byte in promql.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            form.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(form, "%{byte:02X}");
        }
    }
    let _ = write!(form, "&timeout={}ms", timeout.as_millis());
    form
}

fn refused(status: StatusCode, body: &[u8]) -> Unavailable {
    let reason = match status.as_u16() {
        300..=399 => Reason::PrometheusRedirected,
        401 | 403 => Reason::PrometheusForbidden,
        429 => Reason::PrometheusThrottled,
        _ => Reason::PrometheusError,
    };
    let detail = error_text(body).map(|text| format!(": {text}")).unwrap_or_default();
    Unavailable::new(reason, format!("Prometheus answers HTTP {}{detail}", status.as_u16()))
}

fn timed_out(limit: Duration) -> Unavailable {
    let message = format!(
        "Prometheus did not answer completely within {:.1}s",
        limit.as_secs_f64()
    );
    Unavailable::new(Reason::PrometheusTimeout, message)
}

fn unreachable(error: &reqwest::Error) -> Unavailable {
    if error.is_timeout() {
        return Unavailable::new(Reason::PrometheusTimeout, "Prometheus did not answer in time");
    }
    let message = format!("Prometheus cannot be reached: {}", quote(&chain(error)));
    Unavailable::new(Reason::PrometheusUnreachable, message)
}

/// An error with its causes. The URL is left out: it may be long, and the operator's log names it.
fn chain(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&error.to_string());
        cause = error.source();
    }
    if text.is_empty() { error.to_string() } else { text }
}
