//! A Prometheus that says what it is told to: plain sockets, so that it can also break HTTP.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code)]

pub mod lies;
pub mod truth;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidewright_operator::clock::{Clock, SharedClock, SystemClock};
use tidewright_operator::domain::published::{Published, Reading, ServiceKey, Signal};
use tidewright_operator::domain::subscriptions::{ExternalQuery, PoolExpectation, Subscription, Subscriptions};
use tidewright_operator::sources::{self, Counters, Settings};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

pub use truth::{Question, line, of_pool, question_of, truth, unix_now, vector};

/// What to do with a question instead of answering honestly.
#[derive(Debug, Clone)]
pub enum Lie {
    /// Status line, extra headers, body.
    Answer(&'static str, &'static str, String),
    /// 200 with this JSON.
    Json(String),
    /// These bytes, then the connection ends.
    Raw(Vec<u8>),
    /// A body that never ends, as fast as it goes.
    Flood,
    /// A chunked body that never ends.
    FloodChunked,
    /// A correct answer of this many series.
    Series(usize),
    /// A correct answer, one byte at a time.
    Drip,
    /// A connection that is accepted and never answered.
    Silence,
    /// The connection is reset in the middle of the body.
    Reset,
}

/// Which questions are lied to; `None` is all of them.
pub type Script = Arc<Mutex<Option<(Option<Question>, Lie)>>>;

/// The server, its script, and every request head it has seen.
#[derive(Debug)]
pub struct FakePrometheus {
    pub address: String,
    pub script: Script,
    pub heads: Arc<Mutex<Vec<String>>>,
}

impl FakePrometheus {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let script = Script::default();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (told, seen) = (Arc::clone(&script), Arc::clone(&heads));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&told), Arc::clone(&seen)));
            }
        });
        Self { address, script, heads }
    }

    pub fn lie(&self, question: Option<Question>, lie: Lie) {
        *self.script.lock().unwrap() = Some((question, lie));
    }

    pub fn be_honest(&self) {
        *self.script.lock().unwrap() = None;
    }
}

async fn serve(mut stream: TcpStream, script: Script, heads: Arc<Mutex<Vec<String>>>) {
    let mut buffer = Vec::new();
    loop {
        let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") else {
            if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                return;
            }
            if buffer[0] == 0x16 {
                // A TLS hello: this is no TLS server.
                return;
            }
            continue;
        };
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        let length: usize = head
            .lines()
            .find_map(|l| {
                l.to_ascii_lowercase()
                    .strip_prefix("content-length: ")
                    .map(ToOwned::to_owned)
            })
            .map_or(0, |n| n.trim().parse().unwrap());
        while buffer.len() < end + 4 + length {
            if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let body = decode_form(&buffer[end + 4..end + 4 + length]);
        buffer.drain(..end + 4 + length);
        heads.lock().unwrap().push(head);
        let question = question_of(&body);
        let lie = script
            .lock()
            .unwrap()
            .clone()
            .filter(|(about, _)| about.is_none_or(|about| about == question))
            .map(|(_, lie)| lie);
        if !answer(&mut stream, question, lie).await {
            return;
        }
    }
}

async fn send(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]) -> bool {
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{headers}\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.is_ok() && stream.write_all(body).await.is_ok()
}

/// Whether the connection goes on.
async fn answer(stream: &mut TcpStream, question: Question, lie: Option<Lie>) -> bool {
    const OK: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    let chunk = vec![b' '; 65536];
    match lie {
        None => send(stream, "200 OK", "", truth(question).as_bytes()).await,
        Some(Lie::Json(body)) => send(stream, "200 OK", "", body.as_bytes()).await,
        Some(Lie::Answer(status, headers, body)) => send(stream, status, headers, body.as_bytes()).await,
        Some(Lie::Raw(bytes)) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
            false
        }
        Some(Lie::Flood) => {
            let head = format!("{OK}content-length: 1073741824\r\n\r\n");
            let _ = stream.write_all(head.as_bytes()).await;
            while stream.write_all(&chunk).await.is_ok() {}
            false
        }
        Some(Lie::FloodChunked) => {
            let _ = stream
                .write_all(format!("{OK}transfer-encoding: chunked\r\n\r\n").as_bytes())
                .await;
            let mut piece = b"10000\r\n".to_vec();
            piece.extend_from_slice(&chunk);
            piece.extend_from_slice(b"\r\n");
            while stream.write_all(&piece).await.is_ok() {}
            false
        }
        Some(Lie::Series(count)) => {
            let head = format!("{OK}connection: close\r\n\r\n{}", &vector(&[])[..60]);
            let _ = stream.write_all(head.as_bytes()).await;
            for number in 0..count {
                let number = number.to_string();
                let labels = [
                    ("namespace", "a"),
                    ("inferenceservice", "digits"),
                    ("pool", number.as_str()),
                ];
                let comma = if number == "0" { "" } else { "," };
                let series = format!("{comma}{}", line(&labels, unix_now(), "\"1\""));
                if stream.write_all(series.as_bytes()).await.is_err() {
                    return false;
                }
            }
            let _ = stream.write_all(b"]}}").await;
            let _ = stream.shutdown().await;
            false
        }
        Some(Lie::Drip) => {
            let body = truth(question);
            let _ = stream
                .write_all(format!("{OK}content-length: {}\r\n\r\n", body.len()).as_bytes())
                .await;
            for byte in body.bytes() {
                if stream.write_all(&[byte]).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            false
        }
        Some(Lie::Silence) => {
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
            false
        }
        Some(Lie::Reset) => {
            let body = truth(question);
            let _ = stream
                .write_all(format!("{OK}content-length: {}\r\n\r\n{}", body.len(), &body[..20]).as_bytes())
                .await;
            let _ = stream.set_zero_linger();
            false
        }
    }
}

fn decode_form(body: &[u8]) -> String {
    let mut out = Vec::new();
    let mut bytes = body.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let hex = [*bytes.next().unwrap(), *bytes.next().unwrap()];
                out.push(u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap());
            }
            b'+' => out.push(b' '),
            other => out.push(*other),
        }
    }
    let text = String::from_utf8(out).unwrap();
    text.strip_prefix("query=")
        .unwrap()
        .split("&timeout=")
        .next()
        .unwrap()
        .to_owned()
}

/// A running metrics source with one subscribed service, `a/digits`, pool `cpu`.
#[derive(Debug)]
pub struct Source {
    pub published: Arc<Published>,
    pub subscriptions: Arc<Subscriptions>,
    pub counters: Arc<Counters>,
    stop: CancellationToken,
}

impl Drop for Source {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub fn service() -> ServiceKey {
    ServiceKey::new("a", "digits")
}

/// Settings with which a lie is found out quickly.
pub fn quick(url: &str) -> Settings {
    let mut settings = Settings::new(Some(url.to_owned()));
    settings.tick = Duration::from_millis(40);
    settings.timeout = Duration::from_millis(800);
    // The one pod counts at once.
    settings.pod_grace = Duration::ZERO;
    settings
}

impl Source {
    pub fn start(settings: Settings) -> Self {
        Self::start_with(settings, Arc::new(SystemClock))
    }

    pub fn start_with(settings: Settings, clock: SharedClock) -> Self {
        let subscriptions = Arc::new(Subscriptions::default());
        let published = Arc::new(Published::default());
        let counters = Arc::new(Counters::default());
        let stop = CancellationToken::new();
        subscriptions.set(
            service(),
            Subscription {
                pools: BTreeMap::from([("cpu".to_owned(), PoolExpectation { ready_pods: Some(1) })]),
                external: vec![ExternalQuery {
                    name: "lag".to_owned(),
                    query: "sum(external_metric)".to_owned(),
                    server_address: None,
                }],
            },
        );
        tokio::spawn(sources::run(
            settings,
            Arc::clone(&subscriptions),
            Arc::clone(&published),
            Arc::clone(&counters),
            clock,
            stop.clone(),
        ));
        Self {
            published,
            subscriptions,
            counters,
            stop,
        }
    }

    /// What the pods have loaded, as far as it is believed.
    pub fn digests(&self) -> Vec<String> {
        let readings = self.published.service(&service(), SystemClock.now());
        readings
            .map(|readings| readings.digests.iter().cloned().collect())
            .unwrap_or_default()
    }

    pub fn read(&self, signal: &Signal) -> Reading {
        self.published
            .reading(&service(), Some(&["cpu".to_owned()]), signal, SystemClock.now())
    }

    /// Waits until two more ticks have been published: the second began after this call.
    pub async fn two_ticks(&self) {
        for _ in 0..2 {
            let before = self.published.snapshot().taken_at;
            tokio::time::timeout(Duration::from_secs(20), async {
                while self.published.snapshot().taken_at == before {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await
            .expect("the source stopped publishing");
        }
    }
}
