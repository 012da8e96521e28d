//! What a watch does while the API server refuses it: it asks less and less often, whatever exactly is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::convert::Infallible;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::client::{Body, ClientBuilder};
use kube::{Api, Client};
use serde_json::{Value, json};
use tidewright_operator::cluster::call::limit_headers;
use tidewright_operator::cluster::watch::{self, Follow, key_by_label, without_managed_fields};
use tidewright_operator::cluster::watches::{WatchState, Watches};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(60);

fn refusal(code: u16) -> Response<Body> {
    // What an API server says whose etcd was restored from an older snapshot.
    let message = if code == 504 {
        "Too large resource version: 1, current: 0"
    } else {
        "refused"
    };
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code});
    reply(code, &status)
}

fn empty_list() -> Response<Body> {
    reply(
        200,
        &json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": []}),
    )
}

fn reply(code: u16, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string().into_bytes()));
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}

/// Starts to follow ConfigMaps.
fn follow(client: Client, watches: Watches, stop: CancellationToken) {
    // Nobody listens: there is nothing to hear.
    let (keys, _changed) = mpsc::channel(8);
    let follow = Follow::<ConfigMap> {
        kind: "ConfigMap",
        api: Api::all(client),
        selector: None,
        key_of: key_by_label,
        slim: without_managed_fields,
        significant: None,
    };
    drop(watch::spawn(follow, watches, keys, stop));
}

/// Follows ConfigMaps of an API server that answers lists and watches like this, until it has listed five times; the four pauses between.
async fn pauses(list_code: u16, watch_code: u16) -> Vec<Duration> {
    let (noted, mut lists) = mpsc::unbounded_channel();
    let answer = move |request: Request<Body>| {
        let is_watch = request.uri().query().unwrap_or_default().contains("watch=");
        if !is_watch {
            // Lists after the fifth are nobody's business.
            let _ = noted.send(Instant::now());
        }
        let code = if is_watch { watch_code } else { list_code };
        let response = if code == 200 { empty_list() } else { refusal(code) };
        async move { Ok::<_, Infallible>(response) }
    };
    let stop = CancellationToken::new();
    let _ending = stop.clone().drop_guard();
    follow(Client::new(tower::service_fn(answer), "demo"), Watches::default(), stop);
    let five = async {
        let mut at = Vec::new();
        while at.len() < 5 {
            at.push(lists.recv().await.unwrap());
        }
        at
    };
    let at = tokio::time::timeout(PATIENCE, five).await.expect("five lists");
    at.windows(2).map(|two| two[1].duration_since(two[0])).collect()
}

/// A wait is shortened by up to a third by chance, and never less than that.
fn assert_growing(pauses: &[Duration]) {
    for (pause, millis) in pauses.iter().zip([800, 1600, 3200, 6400]) {
        assert!(*pause >= Duration::from_millis(millis).mul_f64(0.69), "{pauses:?}");
    }
}

#[tokio::test]
async fn a_list_that_is_refused_is_asked_for_less_and_less_often() {
    assert_growing(&pauses(403, 200).await);
}

#[tokio::test]
async fn a_watch_that_can_never_start_does_not_list_again_and_again() {
    assert_growing(&pauses(200, 410).await);
}

#[tokio::test]
async fn a_version_from_the_future_is_replaced_by_a_new_list() {
    assert_growing(&pauses(200, 504).await);
}

/// Without a limit for the head of an answer its silence would pass for that of a watch that works, and be waited out.
#[tokio::test]
async fn a_watch_that_is_accepted_and_never_answered_is_not_taken_to_work() {
    let (noted, mut watched) = mpsc::unbounded_channel();
    let answer = move |request: Request<Body>| {
        let is_watch = request.uri().query().unwrap_or_default().contains("watch=");
        if is_watch {
            let _ = noted.send(());
        }
        async move {
            if is_watch {
                std::future::pending::<()>().await;
            }
            Ok::<_, Infallible>(empty_list())
        }
    };
    let silence_max = Duration::from_millis(200);
    let client = limit_headers(ClientBuilder::new(tower::service_fn(answer), "demo"), silence_max).build();
    let watches = Watches::default();
    let stop = CancellationToken::new();
    let _ending = stop.clone().drop_guard();
    follow(client, watches.clone(), stop);
    let three = async {
        for _ in 0..3 {
            watched.recv().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, three).await.expect("three attempts");
    let (_, state) = watches.all().remove(0);
    assert!(
        matches!(&state, WatchState::Failing { lasted, .. } if *lasted > 2 * silence_max),
        "{state:?}"
    );
}
