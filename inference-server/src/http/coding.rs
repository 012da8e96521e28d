//! Content codings of bodies: gzip, deflate, zstd, br. What counts against the limit are the decoded bytes.

use async_compression::Level;
use async_compression::tokio::bufread::{
    BrotliDecoder, BrotliEncoder, GzipDecoder, GzipEncoder, ZlibDecoder, ZlibEncoder, ZstdDecoder, ZstdEncoder,
};
use async_compression::zstd::DParameter;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::error::Error;

/// The codings that are spoken, the preferred one first: the fastest for what it saves.
const CODINGS: [Coding; 4] = [Coding::Zstd, Coding::Brotli, Coding::Gzip, Coding::Deflate];
/// For `Accept-Encoding` of an answer that refuses another coding.
pub const ACCEPTED: &str = "zstd, br, gzip, deflate";
/// Answers below it go as they are: one network packet holds them either way.
pub const ENCODE_BYTES_MIN: usize = 1024;
/// 8 MiB, the largest window that a sender may ask for over HTTP (RFC 9659): the library's own limit would be 128 MiB of memory.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// Bytes of the first piece of a body that is being decoded, and of those that follow.
const FIRST_PIECE_BYTES: usize = 8 * 1024;
const PIECE_BYTES: usize = 256 * 1024;
/// Bytes between two looks at whether others want the thread.
const TURN_BYTES: usize = 256 * 1024;

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    Zstd,
    Brotli,
    Gzip,
    /// The zlib format, as the standard says and most clients do.
    Deflate,
}

impl Coding {
    /// The name in headers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        // `x-gzip` is the same by the standard.
        let name = name.strip_prefix("x-").filter(|name| *name == "gzip").unwrap_or(name);
        CODINGS
            .into_iter()
            .find(|coding| name.eq_ignore_ascii_case(coding.name()))
    }
}

/// The coding of a request's body; `None` when it is not encoded.
pub fn of_request(headers: &HeaderMap) -> Result<Option<Coding>, Error> {
    let mut values = headers.get_all(CONTENT_ENCODING).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(unknown("several codings"));
    }
    let name = value.to_str().unwrap_or("?").trim();
    if name.is_empty() || name.eq_ignore_ascii_case("identity") {
        return Ok(None);
    }
    // Codings on top of codings are refused too: nobody sends them but to find out what happens.
    Coding::parse(name).map(Some).ok_or_else(|| unknown(name))
}

fn unknown(name: &str) -> Error {
    let shown: String = name.chars().take(64).collect();
    Error::UnsupportedCoding(format!(
        "content encoding {shown:?} is not supported, send one of {ACCEPTED}, or none"
    ))
}

/// The best coding that the client takes; `None` when the answer goes as it is.
pub fn of_answer(headers: &HeaderMap) -> Option<Coding> {
    // Weight of each coding in thousandths, as the client says it; `*` stands for those that it does not name.
    let mut named: [Option<u16>; CODINGS.len()] = [None; CODINGS.len()];
    let mut others = 0;
    for value in headers.get_all(ACCEPT_ENCODING) {
        for item in value.to_str().unwrap_or_default().split(',') {
            let (name, weight) = weighted(item);
            if name == "*" {
                others = weight;
            } else if let Some(coding) = Coding::parse(name) {
                for (place, known) in named.iter_mut().zip(CODINGS) {
                    if known == coding {
                        *place = Some(weight);
                    }
                }
            }
        }
    }
    let mut best = None;
    for (coding, weight) in CODINGS.into_iter().zip(named) {
        let weight = weight.unwrap_or(others);
        if weight > 0 && best.is_none_or(|(_, highest)| weight > highest) {
            best = Some((coding, weight));
        }
    }
    best.map(|(coding, _)| coding)
}

/// `name;q=0.5`: the name, and the weight in thousandths; a weight that cannot be read is 0, so that nothing unwanted is sent.
pub fn weighted(item: &str) -> (&str, u16) {
    let mut parts = item.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let weight = parts
        .find_map(|parameter| parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q=")))
        .map_or(1.0, |weight| weight.parse::<f32>().unwrap_or(0.0));
    // From 0 to 1 by the standard; a NaN becomes 0.
    (name, (weight.clamp(0.0, 1.0) * 1000.0) as u16)
}

/// The decoded body; an error as soon as it is longer than the limit, so that a small body that swells takes no more memory than a large one.
/// `grow` is told how long it has become, and may refuse.
pub async fn decode(
    coding: Coding,
    body: &[u8],
    limit_bytes: u64,
    mut grow: impl FnMut(usize) -> Result<(), Error>,
) -> Result<Bytes, Error> {
    match coding {
        Coding::Zstd => {
            let decoder = ZstdDecoder::with_params(body, &[DParameter::window_log_max(ZSTD_WINDOW_LOG_MAX)]);
            read(multiple(decoder, ZstdDecoder::multiple_members), limit_bytes, &mut grow).await
        }
        Coding::Brotli => read(BrotliDecoder::new(body), limit_bytes, &mut grow).await,
        Coding::Gzip => {
            read(
                multiple(GzipDecoder::new(body), GzipDecoder::multiple_members),
                limit_bytes,
                &mut grow,
            )
            .await
        }
        Coding::Deflate => read(ZlibDecoder::new(body), limit_bytes, &mut grow).await,
    }
    .map_err(|failure| match failure {
        Failure::TooLong => Error::TooLarge { limit_bytes },
        Failure::Refused(error) => error,
        Failure::Malformed => Error::invalid(format!("the body is no whole {} stream", coding.name())),
    })
}

/// Frames behind each other are one body, as the standards of both formats say.
fn multiple<D>(mut decoder: D, set: impl Fn(&mut D, bool)) -> D {
    set(&mut decoder, true);
    decoder
}

enum Failure {
    TooLong,
    Malformed,
    Refused(Error),
}

async fn read(
    mut decoder: impl AsyncRead + Unpin,
    limit_bytes: u64,
    grow: &mut impl FnMut(usize) -> Result<(), Error>,
) -> Result<Bytes, Failure> {
    let limit = usize::try_from(limit_bytes).unwrap_or(usize::MAX);
    // Joined at the end: a buffer that doubles as it grows leaves as much behind as it holds.
    let mut pieces: Vec<BytesMut> = Vec::new();
    let mut piece = BytesMut::with_capacity(FIRST_PIECE_BYTES);
    let (mut length, mut turn) = (0, 0);
    loop {
        if piece.len() == piece.capacity() {
            pieces.push(std::mem::replace(&mut piece, BytesMut::with_capacity(PIECE_BYTES)));
        }
        let count = decoder.read_buf(&mut piece).await.map_err(|_| Failure::Malformed)?;
        if count == 0 {
            if pieces.is_empty() {
                return Ok(piece.freeze());
            }
            pieces.push(piece);
            return Ok(pieces.concat().into());
        }
        length += count;
        if length > limit {
            return Err(Failure::TooLong);
        }
        grow(length).map_err(Failure::Refused)?;
        turn += count;
        if turn > TURN_BYTES {
            turn = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// The encoded body; `None` when it cannot be made, which memory does not do.
pub async fn encode(coding: Coding, body: &[u8]) -> Option<Bytes> {
    // The fastest level of each: the caller waits for it, and the next step costs more time than it saves bytes.
    let level = Level::Fastest;
    let encoded = match coding {
        Coding::Zstd => read(ZstdEncoder::with_quality(body, level), u64::MAX, &mut |_| Ok(())).await,
        Coding::Brotli => read(BrotliEncoder::with_quality(body, level), u64::MAX, &mut |_| Ok(())).await,
        Coding::Gzip => read(GzipEncoder::with_quality(body, level), u64::MAX, &mut |_| Ok(())).await,
        Coding::Deflate => read(ZlibEncoder::with_quality(body, level), u64::MAX, &mut |_| Ok(())).await,
    };
    encoded.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(value: &str) -> Option<Coding> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, value.parse().unwrap());
        of_answer(&headers)
    }

    #[test]
    fn the_client_s_weights_decide_and_then_our_order() {
        for (value, coding) in [
            ("", None),
            ("identity", None),
            ("gzip", Some(Coding::Gzip)),
            ("x-gzip", Some(Coding::Gzip)),
            ("GZIP;q=0.5", Some(Coding::Gzip)),
            ("gzip, deflate, br, zstd", Some(Coding::Zstd)),
            ("gzip, deflate, br", Some(Coding::Brotli)),
            ("gzip;q=1, zstd;q=0.9", Some(Coding::Gzip)),
            ("zstd;q=0, *", Some(Coding::Brotli)),
            ("*;q=0", None),
            ("gzip;q=0", None),
            ("gzip;q=x", None),
            ("gzip;q=nan", None),
            ("compress, snappy", None),
        ] {
            assert_eq!(accepted(value), coding, "{value:?}");
        }
        assert_eq!(of_answer(&HeaderMap::new()), None);
        assert_eq!(CODINGS.map(Coding::name).join(", "), ACCEPTED);
    }

    #[tokio::test]
    async fn each_coding_round_trips_and_ends_at_the_limit() {
        let body = b"0123456789".repeat(1000);
        for coding in CODINGS {
            let encoded = encode(coding, &body).await.unwrap();
            assert!(encoded.len() < body.len() / 2, "{coding:?}: {}", encoded.len());
            assert_eq!(
                decode(coding, &encoded, 10_000, |_| Ok(())).await.unwrap(),
                body,
                "{coding:?}"
            );
            assert_eq!(
                decode(coding, &encoded, 9_999, |_| Ok(())).await,
                Err(Error::TooLarge { limit_bytes: 9_999 })
            );
            let cut = decode(coding, &encoded[..encoded.len() - 1], 10_000, |_| Ok(())).await;
            assert_eq!(
                cut,
                Err(Error::Invalid(format!("the body is no whole {} stream", coding.name())))
            );
            assert!(
                decode(coding, b"no such stream", 10_000, |_| Ok(())).await.is_err(),
                "{coding:?}"
            );
        }
        let twice = [
            encode(Coding::Gzip, b"a").await.unwrap(),
            encode(Coding::Gzip, b"b").await.unwrap(),
        ]
        .concat();
        assert_eq!(decode(Coding::Gzip, &twice, 10, |_| Ok(())).await.unwrap(), "ab");
    }
}
