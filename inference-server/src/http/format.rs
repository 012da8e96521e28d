//! Document formats by their media types: of a request by `Content-Type`, of an answer by `Accept`.

use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};

use super::coding::weighted;
use crate::error::Error;
use crate::protocols::document::Format;

const JSON: &str = "application/json";
/// The registered name first; the others are what libraries sent before there was one.
const MSGPACK: [&str; 3] = [
    "application/vnd.msgpack",
    "application/msgpack",
    "application/x-msgpack",
];
/// Of clients that know no better name for a document with bytes behind it, also when none follow.
const OCTETS: &str = "application/octet-stream";

fn parse(media: &str) -> Option<Format> {
    if media.eq_ignore_ascii_case(JSON) {
        Some(Format::Json)
    } else {
        let known = MSGPACK.iter().any(|name| media.eq_ignore_ascii_case(name));
        known.then_some(Format::Msgpack)
    }
}

/// The format of a request's document; JSON when nothing is said. Only where `binary` holds may it be called a mere sequence of bytes.
pub fn of_request(headers: &HeaderMap, binary: bool) -> Result<Format, Error> {
    let Some(kind) = headers.get(CONTENT_TYPE) else {
        return Ok(Format::Json);
    };
    let media = kind.to_str().unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default().trim();
    if binary && media.eq_ignore_ascii_case(OCTETS) {
        return Ok(Format::Json);
    }
    parse(media).ok_or_else(|| {
        let shown: String = media.chars().take(64).collect();
        Error::UnsupportedMedia(format!(
            "content type {shown:?} is not supported, send application/json or application/msgpack"
        ))
    })
}

/// The format of an answer: msgpack where the client names it and does not prefer JSON.
pub fn of_answer(headers: &HeaderMap) -> Format {
    let (mut json, mut msgpack) = (0, 0);
    for value in headers.get_all(ACCEPT) {
        for item in value.to_str().unwrap_or_default().split(',') {
            let (media, weight) = weighted(item);
            match parse(media) {
                Some(Format::Json) => json = weight.max(json),
                Some(Format::Msgpack) => msgpack = weight.max(msgpack),
                None => {}
            }
        }
    }
    if msgpack > json { Format::Msgpack } else { Format::Json }
}

/// The media type of an answer; `binary` when bytes follow the document.
pub const fn media_type(format: Format, binary: bool) -> HeaderValue {
    HeaderValue::from_static(match (format, binary) {
        (Format::Json, false) => JSON,
        (Format::Json, true) => OCTETS,
        (Format::Msgpack, _) => "application/msgpack",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn msgpack_is_answered_to_those_who_name_it() {
        for (accept, format) in [
            ("*/*", Format::Json),
            ("application/json", Format::Json),
            ("text/html", Format::Json),
            ("application/msgpack", Format::Msgpack),
            ("Application/X-MsgPack", Format::Msgpack),
            ("application/vnd.msgpack, */*;q=0.1", Format::Msgpack),
            ("application/msgpack;q=0.5, application/json", Format::Json),
            ("application/msgpack, application/json;q=0.5", Format::Msgpack),
            ("application/msgpack;q=0", Format::Json),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().unwrap());
            assert_eq!(of_answer(&headers), format, "{accept}");
        }
        assert_eq!(of_answer(&HeaderMap::new()), Format::Json);
    }
}
