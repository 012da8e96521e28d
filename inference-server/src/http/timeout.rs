//! The time that a proxy in front of the server gives a request: Envoy tells it to whom it calls.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

/// Milliseconds, as Envoy's router sets them from its route's timeout.
const EXPECTED: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
/// As many digits as are believed: eleven days.
const DIGITS_MAX: usize = 9;

/// The caller's time; `None` when it gives none, or what it says cannot be read.
pub fn of(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(EXPECTED)?.to_str().ok()?;
    if text.len() > DIGITS_MAX || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let millis: u64 = text.parse().ok()?;
    // Envoy's word for "without end" is no header; others may say 0.
    (millis > 0).then(|| Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_and_nonsense() {
        for (text, expected) in [
            ("1", Some(1)),
            ("15000", Some(15_000)),
            ("999999999", Some(999_999_999)),
            ("0", None),
            ("1000000000", None),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("1e3", None),
            ("1s", None),
            ("é", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(EXPECTED, http::HeaderValue::from_bytes(text.as_bytes()).unwrap());
            assert_eq!(of(&headers), expected.map(Duration::from_millis), "{text}");
        }
        assert_eq!(of(&HeaderMap::new()), None);
    }
}
