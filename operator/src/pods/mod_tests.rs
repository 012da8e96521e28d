//! Pods that are asked over HTTP, round after round, while they come and go.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::clock::Clock;

const WINDOW: Duration = Duration::from_secs(2);

/// Stands still until it is set.
#[derive(Debug)]
struct Hands(Mutex<Timestamp>);

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

/// A server whose answer can be changed: its status line, and what it says.
async fn server(answer: Arc<Mutex<(&'static str, String)>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let (status, body) = answer.lock().unwrap().clone();
            let length = body.len();
            let text = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
            drop(stream.write_all(text.as_bytes()).await);
        }
    });
    address
}

/// One pod of one service, and whoever asks it.
struct Asked {
    pods: Pods,
    hands: Arc<Hands>,
    answer: Arc<Mutex<(&'static str, String)>>,
    address: SocketAddr,
}

impl Asked {
    async fn new() -> Self {
        let hands = Arc::new(Hands(Mutex::new(at(0))));
        let answer = Arc::new(Mutex::new(("200 OK", String::new())));
        Self {
            pods: Pods::new(hands.clone()),
            hands,
            address: server(Arc::clone(&answer)).await,
            answer,
        }
    }

    /// What the server says from now on, whose process began at this second.
    fn says(&self, started: i64, arrivals: u64) {
        let process = at(started).as_millisecond();
        let body = format!(
            r#"{{"version":1,"process":{process},"arrivals":{arrivals},"completions":{arrivals},"serviceSeconds":1,"queued":0,"inFlight":0}}"#
        );
        *self.answer.lock().unwrap() = ("200 OK", body);
    }

    /// A round at this second; the pod has been ready since `ready_at`, or is not.
    async fn look(&mut self, second: i64, ready_at: Option<i64>) -> Figures {
        *self.hands.0.lock().unwrap() = at(second);
        let target = Target {
            uid: "a".to_owned(),
            address: Some(self.address),
            is_ready: ready_at.is_some(),
            ready_at: ready_at.map(at),
        };
        let pools = BTreeMap::from([("cpu".to_owned(), vec![target.clone()])]);
        let targets = Targets::from([(ServiceKey::new("demo", "digits"), pools)]);
        self.pods.listen(&targets).await;
        self.pods.figures(&[target], WINDOW)
    }
}

#[tokio::test]
async fn a_pod_that_turns_ready_again_has_not_done_all_its_work_in_the_last_second() {
    let mut asked = Asked::new().await;
    asked.says(-36_000, 360_000);
    assert_eq!(asked.look(1, Some(-36_000)).await.up, 1);
    assert_eq!(
        asked.look(2, None).await,
        Figures::default(),
        "not ready: neither asked nor counted"
    );
    asked.says(-36_000, 360_020);
    let again = asked.look(3, Some(2)).await;
    assert_eq!((again.rate, again.covered, again.completions), (10.0, 1, 20));
}

#[tokio::test]
async fn whose_counters_are_old_when_it_is_first_asked_is_not_new() {
    // Never heard while it was ready for the first time.
    let mut silent = Asked::new().await;
    silent.look(1, Some(0)).await;
    silent.look(30, None).await;
    silent.says(-5, 3000);
    let first = silent.look(33, Some(31)).await;
    assert_eq!((first.up, first.rate, first.covered), (1, 0.0, 0));
    // Never seen ready, by an operator that has just started, and in a process of yesterday.
    let mut old = Asked::new().await;
    old.says(-86_400, 360_000);
    let first = old.look(3, Some(1)).await;
    assert_eq!((first.up, first.rate, first.covered), (1, 0.0, 0));
    // Of a new one all is known.
    let mut new = Asked::new().await;
    new.look(1, None).await;
    new.says(-5, 8);
    let first = new.look(4, Some(2)).await;
    assert_eq!((first.up, first.rate, first.covered), (1, 4.0, 1));
}

#[tokio::test]
async fn a_server_of_an_earlier_version_is_known_as_one_until_it_says_otherwise() {
    let mut asked = Asked::new().await;
    *asked.answer.lock().unwrap() = ("503 Service Unavailable", String::new());
    let refused = asked.look(1, Some(0)).await;
    assert_eq!((refused.up, refused.all, refused.older), (0, 1, 0));
    *asked.answer.lock().unwrap() = ("404 Not Found", String::new());
    assert_eq!(asked.look(2, Some(0)).await.older, 1);
    *asked.answer.lock().unwrap() = ("503 Service Unavailable", String::new());
    assert_eq!(asked.look(3, Some(0)).await.older, 1, "it has not become a newer one");
    asked.says(3, 0);
    let figures = asked.look(4, Some(0)).await;
    assert_eq!((figures.up, figures.older), (1, 0));
}
