//! From what went wrong to a status code and a body: one table for every protocol.

use std::time::Duration;

use http::StatusCode;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::document::Format;
use super::write::{self, WriteDocument, Writer};
use crate::error::Error;

/// The status of an error over HTTP, and its code over gRPC.
const fn codes(error: &Error) -> (StatusCode, Code) {
    match error {
        Error::Invalid(_) => (StatusCode::BAD_REQUEST, Code::InvalidArgument),
        Error::NotFound(_) => (StatusCode::NOT_FOUND, Code::NotFound),
        Error::MethodNotAllowed { .. } => (StatusCode::METHOD_NOT_ALLOWED, Code::Unimplemented),
        Error::BodyTimeout => (StatusCode::REQUEST_TIMEOUT, Code::DeadlineExceeded),
        Error::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, Code::OutOfRange),
        Error::UnsupportedMedia(_) | Error::UnsupportedCoding(_) => {
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument)
        }
        Error::Overloaded { .. } => (StatusCode::TOO_MANY_REQUESTS, Code::ResourceExhausted),
        Error::ModelFailed(_) | Error::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, Code::Internal),
        Error::NotReady(_) => (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable),
        Error::Deadline => (StatusCode::GATEWAY_TIMEOUT, Code::DeadlineExceeded),
    }
}

/// The status code of an error over HTTP.
pub const fn status(error: &Error) -> StatusCode {
    codes(error).0
}

/// When to try again, where trying again helps.
pub fn retry_after(error: &Error) -> Option<Duration> {
    match error {
        Error::Overloaded { retry_after, .. } => Some((*retry_after).max(RETRY_AFTER_MIN)),
        Error::NotReady(_) => Some(RETRY_AFTER_MIN),
        _ => None,
    }
}

/// The shortest time that HTTP can say.
const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);

/// An error over gRPC, with the time to wait as `google.rpc.RetryInfo`.
pub fn grpc_status(error: &Error) -> Status {
    let (_, code) = codes(error);
    match retry_after(error) {
        None => Status::new(code, error.to_string()),
        Some(delay) => {
            let details = ErrorDetails::with_retry_info(Some(delay));
            Status::with_error_details(code, error.to_string(), details)
        }
    }
}

/// `{"error":"…"}`, the form of the Open Inference Protocol.
struct ErrorBody(String);

impl WriteDocument for ErrorBody {
    fn size_hint(&self) -> usize {
        32 + self.0.len()
    }

    fn write(self, out: &mut impl Writer) {
        out.object(1);
        out.key("error");
        out.string(&self.0);
        out.end_object();
    }
}

/// The body of an error.
pub fn body(error: &Error, format: Format) -> Vec<u8> {
    write::document(format, ErrorBody(error.to_string()))
}
