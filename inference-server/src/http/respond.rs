//! Answers: documents with their headers, errors by the one table.

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, ALLOW, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, RETRY_AFTER, VARY,
};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Body as _;

use super::coding::{self, Coding};
use super::format::media_type;
use crate::error::Error;
use crate::protocols::document::Format;
use crate::protocols::v2_answer::Body;
use crate::protocols::{errors, v2_rest, write};

/// What the serving port answers with.
pub type Answer = Response<Full<Bytes>>;

/// A document.
pub fn document(format: Format, status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, media_type(format, false));
    response
}

/// An answer to an infer request.
pub fn written(format: Format, body: Body) -> Answer {
    let Body { bytes, document_length } = body;
    let mut response = document(format, StatusCode::OK, bytes);
    if let Some(length) = document_length {
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, media_type(format, true));
        headers.insert(v2_rest::HEADER_LENGTH, HeaderValue::from(length));
    }
    response
}

/// A value that can be serialised.
pub fn value(format: Format, status: StatusCode, value: &impl serde::Serialize) -> Answer {
    match write::serialise(format, value) {
        Some(body) => document(format, status, body),
        None => error(format, &Error::Internal("the answer cannot be written".to_owned())),
    }
}

/// An error with its status, body and headers.
pub fn error(format: Format, error: &Error) -> Answer {
    let mut response = document(format, errors::status(error), errors::body(error, format));
    let headers = response.headers_mut();
    match error {
        Error::MethodNotAllowed { allow } => {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        Error::UnsupportedCoding(_) => {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(coding::ACCEPTED));
        }
        // The rest of the body would be read as the next request.
        Error::TooLarge { .. } | Error::BodyTimeout => {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        _ => {}
    }
    if let Some(delay) = errors::retry_after(error) {
        headers.insert(RETRY_AFTER, HeaderValue::from(delay.as_secs()));
    }
    response
}

/// The answer in the coding that the client takes, where that is worth it.
pub async fn encoded(answer: Answer, coding: Option<Coding>) -> Answer {
    let length = answer.body().size_hint().exact().unwrap_or(0);
    let (Some(coding), true) = (coding, length >= coding::ENCODE_BYTES_MIN as u64) else {
        return answer;
    };
    let (mut head, body) = answer.into_parts();
    let Ok(whole) = body.collect().await;
    let whole = whole.to_bytes();
    let body = match Box::pin(coding::encode(coding, &whole)).await {
        // What does not shrink stays as it is.
        Some(encoded) if encoded.len() < whole.len() => {
            head.headers
                .insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
            head.headers.insert(VARY, HeaderValue::from_name(ACCEPT_ENCODING));
            encoded
        }
        _ => whole,
    };
    Response::from_parts(head, Full::new(body))
}
