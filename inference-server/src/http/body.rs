//! Request bodies: what may be sent, and how much of it.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body_util::BodyExt;
use hyper::body::Body;

use super::coding::{self, Coding};
use super::format;
use crate::admission::Room;
use crate::clock;
use crate::error::Error;
use crate::protocols::document::Format;
use crate::protocols::v2_rest;

/// Bytes that are reserved at once for a body whose length is announced but not yet seen.
const RESERVE_MAX: u64 = 1024 * 1024;

/// What the head says of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Of the document.
    pub format: Format,
    /// How the body is encoded; `None`: it is not.
    pub coding: Option<Coding>,
    /// Where the document ends and the tensors' bytes begin; `None`: all of it is the document.
    pub document_length: Option<usize>,
}

/// Reads the head, and refuses what can be refused before any of the body is read. Only where `binary` holds may tensors' bytes follow the document.
pub fn check_head(headers: &HeaderMap, binary: bool, limit_bytes: u64) -> Result<Head, Error> {
    let format = format::of_request(headers, binary)?;
    let coding = coding::of_request(headers)?;
    let document_length = document_length(headers)?;
    if document_length.is_some() && !binary {
        return Err(Error::UnsupportedMedia(
            "binary tensors are sent to /v2/models/{model}/infer; here the body is one document".to_owned(),
        ));
    }
    match content_length(headers) {
        Some(length) if length > limit_bytes => Err(Error::TooLarge { limit_bytes }),
        _ => Ok(Head {
            format,
            coding,
            document_length,
        }),
    }
}

fn document_length(headers: &HeaderMap) -> Result<Option<usize>, Error> {
    let Some(value) = headers.get(v2_rest::HEADER_LENGTH) else {
        return Ok(None);
    };
    let digits = value.to_str().unwrap_or_default();
    if let Ok(length) = digits.parse() {
        return Ok(Some(length));
    }
    let shown: String = digits.chars().take(32).collect();
    Err(Error::invalid(format!(
        "the header {}: {shown:?} is no number of bytes",
        v2_rest::HEADER_LENGTH
    )))
}

impl Head {
    /// The document, and the bytes behind it where the head announces such.
    pub fn split(self, body: &[u8]) -> Result<(&[u8], Option<&[u8]>), Error> {
        let Some(length) = self.document_length else {
            return Ok((body, None));
        };
        match body.split_at_checked(length) {
            Some((document, tail)) => Ok((document, Some(tail))),
            None => Err(Error::invalid(format!(
                "the header {} announces {length} bytes, the body has {}",
                v2_rest::HEADER_LENGTH,
                body.len()
            ))),
        }
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The whole body, decoded, or an error as soon as it is known to be too long or late. The limit is on the decoded bytes; what is longer encoded is too
/// long in any case.
pub async fn read<B>(
    headers: &HeaderMap,
    head: Head,
    body: B,
    limit_bytes: u64,
    room: &mut Room,
    deadline: Instant,
) -> Result<Bytes, Error>
where
    B: Body<Data = Bytes> + Unpin,
{
    let within = deadline.saturating_duration_since(clock::now());
    let reading = async {
        let bytes = collect(headers, body, limit_bytes, room).await?;
        match head.coding {
            None => Ok(bytes),
            // What it swells to is held for as long, and counted as it swells.
            Some(coding) => {
                // Boxed: seldom needed, and large; what is not boxed is moved with every request.
                Box::pin(coding::decode(coding, &bytes, limit_bytes, |length| {
                    room.grow(length as u64)
                }))
                .await
            }
        }
    };
    tokio::time::timeout(within.max(Duration::from_millis(1)), reading)
        .await
        .unwrap_or(Err(Error::BodyTimeout))
}

async fn collect<B>(headers: &HeaderMap, mut body: B, limit_bytes: u64, room: &mut Room) -> Result<Bytes, Error>
where
    B: Body<Data = Bytes> + Unpin,
{
    // Small bodies come in one piece, which is taken as it is.
    let mut first: Option<Bytes> = None;
    let mut whole = BytesMut::new();
    let mut length = 0u64;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return Err(Error::invalid("the body ended before its announced length"));
        };
        let Ok(data) = frame.into_data() else { continue };
        length += data.len() as u64;
        if length > limit_bytes {
            return Err(Error::TooLarge { limit_bytes });
        }
        room.grow(length)?;
        if whole.is_empty() {
            match first.take() {
                None => {
                    first = Some(data);
                    continue;
                }
                Some(head) => {
                    let announced = content_length(headers).unwrap_or(0).min(RESERVE_MAX);
                    whole.reserve(usize::try_from(announced).unwrap_or(0).max(head.len() + data.len()));
                    whole.extend_from_slice(&head);
                }
            }
        }
        whole.extend_from_slice(&data);
    }
    Ok(first.unwrap_or_else(|| whole.freeze()))
}
