//! Bodies: how large one may be, what all of them may hold, and when they must have come.

use std::convert::Infallible;

use bytes::Bytes;
use http::Request;
use http_body_util::{Full, StreamBody};
use hyper::body::Frame;
use serde_json::json;

use crate::limits::infer;
use crate::support::{config, server};

#[tokio::test]
async fn bodies_beyond_the_limit_are_refused_before_and_while_they_are_read() {
    let mut config = config(&["affine"]);
    config.limits.body_bytes_max = 1024;
    let server = server(&config);
    let announced = Request::post("/api/v1/predict")
        .header("content-length", "1025")
        .body(Full::from("{}"))
        .unwrap();
    let answer = server.call(announced).await;
    assert_eq!(
        (answer.status, answer.error().as_str()),
        (413, "the body is longer than the limit of 1024 bytes")
    );
    assert_eq!(answer.headers["connection"], "close");
    let unannounced = server.post("/api/v1/predict", vec![b' '; 1025]).await;
    assert_eq!(unannounced.status, 413);
    let fits = format!("{{\"features\":[1,2,3,4]}}{}", " ".repeat(1024 - 22));
    assert_eq!(server.post("/api/v1/predict", fits).await.status, 200);
}

#[tokio::test]
async fn bodies_beyond_what_there_is_for_all_are_refused_and_the_bytes_come_back() {
    let mut config = config(&["affine"]);
    config.limits.body_bytes_max = 8 * 1024;
    config.limits.bodies_bytes_max = 8 * 1024;
    let server = server(&config);
    let fits = || format!("{{\"features\":[1,2,3,4]}}{}", " ".repeat(4 * 1024));
    let mut others = server.app.bodies.room();
    others.grow(6 * 1024).unwrap();
    let refused = server.post("/api/v1/predict", fits()).await;
    assert_eq!(refused.status, 429);
    assert!(
        refused.error().contains("bodies of other requests"),
        "{}",
        refused.error()
    );
    assert!(refused.headers.contains_key("retry-after"));
    drop(others);
    for _ in 0..10 {
        assert_eq!(server.post("/api/v1/predict", fits()).await.status, 200);
    }
}

#[tokio::test]
async fn what_a_body_becomes_counts_besides_its_bytes() {
    let mut config = config(&["affine"]);
    config.limits.bodies_bytes_max = 10 * 1024;
    config.limits.body_bytes_max = 10 * 1024;
    let server = server(&config);
    let mut others = server.app.bodies.room();
    others.grow(4 * 1024).unwrap();
    // 1,400 numbers of two bytes each, and of four each as a tensor; and a body as long of four.
    let numbers = infer([350, 4], &json!({}));
    let few = infer([1, 4], &json!({}));
    let few = format!("{few}{}", " ".repeat(numbers.len() - few.len()));
    assert_eq!(server.post("/v2/models/affine/infer", few).await.status, 200);
    let refused = server.post("/v2/models/affine/infer", numbers.clone()).await;
    assert_eq!(refused.status, 429, "{}", refused.text);
    assert!(refused.error().contains("bodies of other requests"), "{}", refused.text);
    drop(others);
    assert_eq!(server.post("/v2/models/affine/infer", numbers).await.status, 200);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_408_and_504_where_the_caller_gives_it_no_time() {
    let mut config = config(&["affine"]);
    config.limits.timeout_seconds = 1;
    let server = server(&config);
    for (told, expected) in [(Some("100"), 504), (None, 408), (Some("60000"), 408)] {
        let request = Request::post("/v2/models/affine/infer");
        let request = match told {
            Some(millis) => request.header("x-envoy-expected-rq-timeout-ms", millis),
            None => request,
        };
        let never = StreamBody::new(futures::stream::pending::<Result<Frame<Bytes>, Infallible>>());
        let answer = server.app.handle(request.body(never).unwrap()).await;
        assert_eq!(answer.status(), expected, "{told:?}");
    }
}
