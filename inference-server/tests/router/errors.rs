//! Errors say what was wrong and where, and nothing of the machine: over every protocol from the same table.

use std::time::Duration;

use tidewright_server::error::Error;
use tidewright_server::protocols::document::Format;
use tidewright_server::protocols::errors;
use tonic::Code;
use tonic_types::StatusExt;

use crate::support::{config, server};

#[test]
fn one_table_for_http_and_grpc() {
    let text = || "why".to_owned();
    let retry_after = Duration::from_secs(7);
    for (error, status, code, retry) in [
        (Error::Invalid(text()), 400, Code::InvalidArgument, None),
        (Error::NotFound(text()), 404, Code::NotFound, None),
        (
            Error::MethodNotAllowed { allow: "POST" },
            405,
            Code::Unimplemented,
            None,
        ),
        (Error::BodyTimeout, 408, Code::DeadlineExceeded, None),
        (Error::TooLarge { limit_bytes: 5 }, 413, Code::OutOfRange, None),
        (Error::UnsupportedMedia(text()), 415, Code::InvalidArgument, None),
        (Error::UnsupportedCoding(text()), 415, Code::InvalidArgument, None),
        (
            Error::Overloaded {
                message: text(),
                retry_after,
            },
            429,
            Code::ResourceExhausted,
            Some(7),
        ),
        (Error::ModelFailed(text()), 500, Code::Internal, None),
        (Error::Internal(text()), 500, Code::Internal, None),
        (Error::NotReady(text()), 503, Code::Unavailable, Some(1)),
        (Error::Deadline, 504, Code::DeadlineExceeded, None),
    ] {
        assert_eq!(errors::status(&error), status, "{error:?}");
        let grpc = errors::grpc_status(&error);
        assert_eq!((grpc.code(), grpc.message()), (code, error.to_string().as_str()));
        let told = grpc.get_details_retry_info().and_then(|info| info.retry_delay);
        assert_eq!(told, retry.map(Duration::from_secs), "{error:?}");
        assert_eq!(errors::retry_after(&error), retry.map(Duration::from_secs));
        let body: serde_json::Value = serde_json::from_slice(&errors::body(&error, Format::Json)).unwrap();
        assert_eq!(body, serde_json::json!({ "error": error.to_string() }));
    }
}

/// What must never be told: folders of the machine, its address, where in the source it went wrong.
fn is_of_the_machine(text: &str) -> bool {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let folder = env!("CARGO_MANIFEST_DIR");
    [
        host.trim(),
        folder,
        ".rs:",
        ".cc:",
        "onnxruntime_src",
        "/home",
        "/tmp",
        "/usr",
        "panicked",
        "stack backtrace",
        "0x",
    ]
    .iter()
    .any(|secret| text.contains(secret))
}

#[tokio::test]
async fn no_answer_tells_of_the_machine() {
    let server = server(&config(&["affine", "tokens", "picky"]));
    let tokens = |ids: &str, mask: &str| {
        format!(
            r#"{{"inputs":[{{"name":"ids","shape":{ids},"datatype":"INT64","data":[1,2]}},{{"name":"mask","shape":{mask},"datatype":"INT64","data":[1,1]}}]}}"#
        )
    };
    let mut answers = 0;
    for (path, body) in [
        ("/api/v1/predict", "nonsense".to_owned()),
        ("/api/v1/predict", r#"{"features":[1,2,3]}"#.to_owned()),
        ("/v2/models/affine/infer", r#"{"inputs":[]}"#.to_owned()),
        ("/v2/models/nope/infer", "{}".to_owned()),
        ("/v2/models/../infer", "{}".to_owned()),
        ("/no/such/route", "{}".to_owned()),
        ("/v2/models/tokens/infer", tokens("[1,2]", "[2,1]")),
        // The model itself fails: the text of the runtime is cleaned.
        ("/v1/models/picky:predict", r#"{"instances":[[77]]}"#.to_owned()),
        ("/v1/models/picky:predict", r#"{"instances":[[-77],[1]]}"#.to_owned()),
    ] {
        let answer = server.post(path, body).await;
        assert!((400..=500).contains(&answer.status), "{path}: {}", answer.status);
        assert!(!is_of_the_machine(&answer.error()), "{path}: {}", answer.text);
        answers += 1;
    }
    assert_eq!(answers, 9);
    assert!(is_of_the_machine("at src/a.rs:7"), "the check can fail");
}
